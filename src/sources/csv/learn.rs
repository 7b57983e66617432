//! The columns of CSV files, by their headers and first records.

use arrow::datatypes::{DataType, Field};
use indexmap::IndexMap;

use super::record::Record;
use super::values::{integer, is_code, is_missing, number, truth};
use crate::config::job::JsonType;
use crate::sources::json::decoder::json_type;
use crate::sources::json::learn::{Learned, Untyped};
use crate::sources::json::lines::Line;
use crate::sources::json::tokens::without_mark;

/// How often fields said what.
#[derive(Default)]
struct Seen {
    integers: usize,
    numbers: usize,
    truths: usize,
    texts: usize,
}

impl Seen {
    fn add(&mut self, text: &str) {
        let word = text.trim_matches([' ', '\t']);
        if is_missing(word) {
            return;
        }
        let is_number = !is_code(word);
        if is_number && integer(word).is_some() {
            self.integers += 1;
        } else if is_number && number(word).is_some() {
            self.numbers += 1;
        } else if truth(word).is_some() {
            self.truths += 1;
        } else {
            self.texts += 1;
        }
    }

    /// The most frequent type is the column's: what is otherwise is a bad record, not a bad column.
    fn value_type(&self) -> Option<DataType> {
        let numbers = self.integers + self.numbers;
        let most = numbers.max(self.truths).max(self.texts);
        match most {
            0 => None,
            _ if numbers == most => Some(DataType::Float64),
            _ if self.texts == most => Some(DataType::Utf8),
            _ => Some(DataType::Boolean),
        }
    }

    /// Of an id or a key: integers if all are, so that none is lost.
    fn key_type(&self) -> Option<DataType> {
        match (self.integers, self.numbers + self.truths + self.texts) {
            (0, 0) => None,
            (_, 0) => Some(DataType::Int64),
            _ => Some(DataType::Utf8),
        }
    }

    /// Of event time: integers or text, whatever most are.
    fn time_type(&self) -> Option<DataType> {
        let others = self.numbers + self.truths + self.texts;
        match (self.integers, others) {
            (0, 0) => None,
            (integers, others) if integers >= others => Some(DataType::Int64),
            _ => Some(DataType::Utf8),
        }
    }
}

/// Columns of the sampled records among those of the headers, `names`: as declared, else numbers as
/// Float64, truth values and text. Ids and keys that are integers stay integers.
pub fn infer(
    names: &[String],
    sample: &[Line],
    time: &str,
    declared: &IndexMap<String, JsonType>,
    keys: &[&str],
) -> Learned {
    let mut seen: IndexMap<&str, Seen> =
        names.iter().map(|n| (n.as_str(), Seen::default())).collect();
    for line in sample.iter().filter(|line| !line.too_long) {
        let header = &line.file.header;
        let mut record = Record::new(header.delimiter);
        if record.split(without_mark(&line.bytes)).is_err() || record.len() != header.names.len() {
            continue;
        }
        for (name, text) in header.names.iter().zip(record.iter()) {
            if let Some(seen) = seen.get_mut(name.as_str()) {
                seen.add(text);
            }
        }
    }
    let mut learned = Learned::default();
    for (name, seen) in seen.into_iter().filter(|(name, _)| !name.is_empty()) {
        let found = match declared.get(name) {
            Some(declared) => Some(json_type(*declared)),
            None if name == time => seen.time_type(),
            None if keys.contains(&name) => seen.key_type(),
            None => seen.value_type(),
        };
        match found {
            Some(found) => learned.fields.push(Field::new(name, found, true)),
            None => drop(learned.untyped.insert(name.to_owned(), Untyped::Null)),
        }
    }
    learned
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sources::csv::header::Header;
    use crate::sources::json::lines::TextFile;

    fn types(header: &str, records: &[&str], keys: &[&str]) -> Vec<(String, DataType)> {
        let header = Header::new(header.as_bytes(), b',').unwrap();
        let names = header.names.clone();
        let file = Arc::new(TextFile { name: "f".to_owned(), header });
        let line = |text: &&str| {
            let (bytes, file) = (text.as_bytes().to_vec(), file.clone());
            Line { bytes, too_long: false, position: 0, file, number: 1 }
        };
        let sample: Vec<Line> = records.iter().map(line).collect();
        let learned = infer(&names, &sample, "t", &IndexMap::new(), keys);
        let of = |field: Field| (field.name().clone(), field.data_type().clone());
        learned.fields.into_iter().map(of).collect()
    }

    #[test]
    fn types_are_told_by_what_most_fields_say_and_keys_lose_nothing() {
        let records = ["1,1001,7.5,true,a,02139,", "2,1002.0,x,False,7,10115,NaN", ",,8,,,,"];
        let found = types("t,k,x,b,s,zip,none", &records, &["k", "zip"]);
        let expected = [
            ("t", DataType::Int64),
            ("k", DataType::Int64),
            ("x", DataType::Float64),
            ("b", DataType::Boolean),
            ("s", DataType::Float64),
            ("zip", DataType::Utf8),
        ];
        assert_eq!(found, expected.map(|(name, found)| (name.to_owned(), found)));
        let found =
            types("t,k", &["2013-01-01 05:00:00,7", "2013-01-01,18446744073709551615"], &["k"]);
        assert!(found.iter().all(|(_, found)| *found == DataType::Utf8));
    }
}

//! The columns of CSV files, by their headers and first records.

use arrow::datatypes::{DataType, Field};
use indexmap::IndexMap;

use super::record::Record;
use super::values::{integer, is_code, is_missing, number, truth};
use crate::sources::columns::{ColumnUse, ColumnUses, declared_type};
use crate::sources::json::chunk::LineChunk;
use crate::sources::json::learn::{Learned, Untyped};

/// How often fields said what.
#[derive(Default)]
struct Seen {
    integers: usize,
    has_negatives: bool,
    /// Integers beyond those of Int64.
    has_large: bool,
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
        if let Some(integer) = integer(word).filter(|_| is_number) {
            self.integers += 1;
            self.has_negatives |= integer < 0;
        } else if is_number && word.parse::<u64>().is_ok() {
            self.integers += 1;
            self.has_large = true;
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

    /// Of integers alone.
    fn integer_type(&self) -> Option<DataType> {
        match (self.integers, self.numbers + self.truths + self.texts) {
            (1.., 0) if !self.has_large => Some(DataType::Int64),
            (1.., 0) if !self.has_negatives => Some(DataType::UInt64),
            _ => None,
        }
    }

    fn column_type(&self, name: &str, uses: &ColumnUses) -> Option<DataType> {
        let values = self.value_type()?;
        let others = self.truths + self.texts;
        Some(match uses.of(name) {
            ColumnUse::Declared(declared) => declared_type(declared),
            ColumnUse::Time if uses.time_unit.is_some() && self.numbers > others => {
                DataType::Float64
            }
            ColumnUse::Time if self.integers >= self.numbers + others => DataType::Int64,
            ColumnUse::Time => DataType::Utf8,
            // As text no key is lost.
            _ if uses.keys.contains(name) => self.integer_type().unwrap_or(DataType::Utf8),
            _ if uses.key_parts.contains(name) => self.integer_type().unwrap_or(values),
            _ => values,
        })
    }
}

/// Columns of the sampled records among those of the headers, `names`: as declared, else numbers as
/// Float64, truth values and text. Ids and keys that are integers stay integers.
pub fn infer(names: &[String], sample: &LineChunk, uses: &ColumnUses) -> Learned {
    let mut seen: IndexMap<&str, Seen> =
        names.iter().map(|n| (n.as_str(), Seen::default())).collect();
    for (text, file) in sample.whole_lines() {
        let header = &file.header;
        let mut record = Record::new(header.delimiter);
        if record.split(text).is_err() || record.width() != header.names.len() {
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
        let declared = uses.declared.get(name).map(|declared| declared_type(*declared));
        let found = declared.or_else(|| seen.column_type(name, uses));
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
    use crate::sources::json::chunk::TextFile;

    fn types(header: &str, records: &[&str], keys: &[&str]) -> Vec<(String, DataType)> {
        let header = Header::new(header.as_bytes(), b',').unwrap();
        let names = header.names.clone();
        let file = Arc::new(TextFile { name: "f".to_owned(), header, ..TextFile::default() });
        let sample = LineChunk::of_texts(records, &file);
        let keys = keys.iter().map(|&name| name.to_owned()).collect();
        let uses = ColumnUses { time: Some("t".to_owned()), keys, ..ColumnUses::default() };
        let learned = infer(&names, &sample, &uses);
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
        assert_eq!((&found[0].1, &found[1].1), (&DataType::Utf8, &DataType::UInt64));
        let found = types("t,k", &["7,1", "8,a"], &["k"]);
        assert_eq!((&found[0].1, &found[1].1), (&DataType::Int64, &DataType::Utf8));
    }
}

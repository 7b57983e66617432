//! Files of CSV, written by a few lines that know what they write: what was written is read, or is known
//! to be no row; damaged files do no harm.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use driftline::config::job::Format;
use driftline::sources::columns::ColumnUses;
use driftline::sources::files::InputFile;
use driftline::sources::json::chunk::LineChunk;
use driftline::sources::json::decoder::LineDecoder;
use driftline::sources::json::lines::Lines;

use crate::campaign::run;
use crate::mutate::mutate;
use crate::random::Random;

const RECORDS_MAX: usize = 30;

/// A field as it is meant.
#[derive(Clone, Debug, PartialEq)]
enum Meant {
    Nothing,
    Float(f64),
    Integer(i64),
    Text(String),
    /// It is no value of its column.
    Wrong,
}

struct Written {
    /// By record: its line, from 1, and what each column holds; `None` where it is no row.
    records: Vec<(u64, Option<Vec<Meant>>)>,
    text: Vec<u8>,
}

const COLUMNS: [(&str, DataType); 4] = [
    ("t", DataType::Int64),
    ("x", DataType::Float64),
    ("s", DataType::Utf8),
    ("n", DataType::Int64),
];

fn field(random: &mut Random, column: &DataType) -> (String, Meant) {
    if random.one_in(8) {
        return (String::new(), Meant::Nothing);
    }
    match column {
        DataType::Utf8 => {
            let text: String = (0..1 + random.below(5))
                .map(|_| {
                    random.pick(&["a", ",", "\"", "\n", "\r\n", "é", " ", "#", "NaN", "\u{feff}"])
                })
                .collect();
            (text.clone(), Meant::Text(text))
        }
        DataType::Float64 => match random.below(10) {
            0 => (random.pick(&["NaN", "nan"]).to_owned(), Meant::Nothing),
            1 => ("inf".to_owned(), Meant::Float(f64::INFINITY)),
            2 => ("-Infinity".to_owned(), Meant::Float(f64::NEG_INFINITY)),
            3 => {
                (random.pick(&["NA", "1e400", "1,5", "x", "--1", "1\n2"]).to_owned(), Meant::Wrong)
            }
            _ => {
                let number = f64::from_bits(random.next());
                let number = if number.is_finite() { number } else { 0.5 };
                (format!(" {number:?}"), Meant::Float(number))
            }
        },
        _ => match random.below(10) {
            0 => {
                (random.pick(&["1.5", "x", "9223372036854775808", "inf"]).to_owned(), Meant::Wrong)
            }
            1 => ("7.0".to_owned(), Meant::Integer(7)),
            _ => {
                let number = random.next() as i64 >> random.below(64);
                (number.to_string(), Meant::Integer(number))
            }
        },
    }
}

fn quoted(random: &mut Random, text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) || random.one_in(4) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn written(random: &mut Random) -> Written {
    let end = random.pick(&["\n", "\r\n"]);
    let mut order: Vec<usize> = (0..COLUMNS.len()).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
    let names: Vec<String> = order.iter().map(|&at| quoted(random, COLUMNS[at].0)).collect();
    let mut text = if random.one_in(3) { "\u{feff}".to_owned() } else { String::new() };
    text.push_str(&names.join(","));
    text.push_str(end);
    let mut records = Vec::new();
    for _ in 0..random.below(RECORDS_MAX) {
        if random.one_in(10) {
            text.push_str(end);
        }
        let line = 1 + text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        let mut row = vec![Meant::Nothing; COLUMNS.len()];
        let mut fields = Vec::new();
        for &at in &order {
            let (field, meant) = field(random, &COLUMNS[at].1);
            fields.push(quoted(random, &field));
            row[at] = meant;
        }
        let is_odd = random.one_in(12);
        if is_odd {
            fields.push("more".to_owned());
        }
        let is_row = !is_odd && !row.contains(&Meant::Wrong);
        text.push_str(&fields.join(","));
        text.push_str(end);
        records.push((line, is_row.then_some(row)));
    }
    if random.one_in(3) {
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    Written { records, text: text.into_bytes() }
}

fn stored(random: &mut Random, text: &[u8]) -> (&'static str, Vec<u8>) {
    match random.below(4) {
        0 => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            coder.write_all(text).unwrap();
            ("a.csv.gz", coder.finish().unwrap())
        }
        1 => ("a.csv.zst", zstd::encode_all(text, 1).unwrap()),
        _ => ("a.csv", text.to_vec()),
    }
}

fn uses() -> ColumnUses {
    ColumnUses { time: Some("t".to_owned()), ..ColumnUses::default() }
}

#[test]
fn csv_files() {
    let fields: Vec<Field> =
        COLUMNS.iter().map(|(name, to)| Field::new(*name, to.clone(), true)).collect();
    run("csv_files", 4_000, |random, given| {
        let Written { records, text } = written(random);
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (name, bytes) = stored(random, &text);
        given.0 = text;
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut lines = Lines::new(vec![InputFile { path, hive: Vec::new() }], Format::Csv);
        let mut read = LineChunk::default();
        while lines.next_into(&mut read).map_err(|error| error.to_string())? {}
        let numbers: Vec<u64> = (0..read.len()).map(|at| read.line(at).number).collect();
        let expected: Vec<u64> = records.iter().map(|(line, _)| *line).collect();
        if numbers != expected {
            return Err(format!("records in lines {numbers:?}, not {expected:?}"));
        }
        let mut decoder = LineDecoder::new(Format::Csv, &fields, uses()).unwrap();
        let decoded = decoder.decode(&read).map_err(|error| error.to_string())?;
        let mut rows = 0;
        for (at, (line, meant)) in records.iter().enumerate() {
            let is_row = decoded.rows.contains(&at);
            if is_row != meant.is_some() {
                let why = decoded.bad.iter().find(|(bad, _)| *bad == at);
                return Err(format!("line {line} is a row: {is_row} ({why:?}), {meant:?}"));
            }
            let Some(meant) = meant else { continue };
            for (column, meant) in meant.iter().enumerate().skip(1) {
                let values = decoded.events.column(column);
                let found = match values.data_type() {
                    _ if values.is_null(rows) => Meant::Nothing,
                    DataType::Float64 => {
                        Meant::Float(values.as_primitive::<Float64Type>().value(rows))
                    }
                    DataType::Utf8 => Meant::Text(values.as_string::<i32>().value(rows).to_owned()),
                    DataType::Int64 => {
                        Meant::Integer(values.as_primitive::<Int64Type>().value(rows))
                    }
                    // The normal form of integers that are no keys.
                    other => return Err(format!("a column of {other}")),
                };
                let found = match (&found, meant) {
                    (Meant::Float(found), Meant::Integer(_)) => Meant::Integer(*found as i64),
                    _ => found,
                };
                let is_large = matches!(meant, Meant::Integer(n) if n.unsigned_abs() > 1 << 53);
                if found != *meant && !is_large {
                    let name = COLUMNS[column].0;
                    return Err(format!("{name} of line {line} is {found:?}, not {meant:?}"));
                }
            }
            rows += 1;
        }
        Ok(())
    });
}

#[test]
fn damaged_csv_files() {
    run("damaged_csv_files", 800, |random, given| {
        let mut text = written(random).text;
        mutate(random, &mut text);
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (name, mut bytes) = stored(random, &text);
        if name != "a.csv" && random.one_in(2) {
            mutate(random, &mut bytes);
        }
        given.0.clone_from(&bytes);
        std::fs::write(folder.path().join(name), bytes).unwrap();
        match crate::parquet_files::read_all(folder.path(), "t", 1 + random.below(9)) {
            Err(error) if error.contains('\n') => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    });
}

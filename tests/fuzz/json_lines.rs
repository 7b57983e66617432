//! Lines to columns, against serde_json: it says which lines are objects of fitting types, and what
//! is in them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type};
use driftline::sources::columns::ColumnUses;
use driftline::sources::json::decoder::{Decoded, LineDecoder, infer};
use driftline::sources::json::lines::{LINE_BYTES_MAX, Line};
use driftline_operators::admit::event_times;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::campaign::run;
use crate::mutate::mutate;
use crate::random::Random;

const LINES_MAX: usize = 12;

fn line(bytes: Vec<u8>, position: usize) -> Line {
    let number = position as u64;
    Line { bytes, too_long: false, position: number, file: "f".into(), number: number + 1 }
}

fn columns(random: &mut Random) -> Vec<Field> {
    let mut columns = vec![("t", DataType::Int64)];
    let texts_or_integers = [DataType::Utf8, DataType::Int64];
    if random.one_in(4) {
        columns[0].1 = DataType::Utf8;
    }
    columns.push(("k", random.of(&texts_or_integers).clone()));
    for column in [("x", DataType::Float64), ("s", DataType::Utf8), ("b", DataType::Boolean)] {
        if !random.one_in(4) {
            columns.push(column);
        }
    }
    columns.into_iter().map(|(name, to)| Field::new(name, to, true)).collect()
}

/// Text of a line: an object of mostly fitting values, one way or the other damaged at times.
fn random_line(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    object(random, &mut text);
    let mut bytes = text.into_bytes();
    match random.below(10) {
        0..3 => mutate(random, &mut bytes),
        3 => {
            bytes.extend(random.of(&["{}", " ", "\r", "1", "{\"t\": 1}", "]", "\u{feff}"]).bytes())
        }
        _ => {}
    }
    bytes.retain(|byte| *byte != b'\n');
    bytes
}

fn object(random: &mut Random, text: &mut String) {
    text.push('{');
    for at in 0..random.below(8) {
        if at > 0 {
            text.push_str(random.pick(&[",", ", ", " ,\t"]));
        }
        let name = random.pick(&["t", "t", "k", "k", "x", "x", "s", "b", "other", "", "\\u0074"]);
        text.push_str(&format!("\"{name}\"{}", random.of(&[":", ": ", " : "])));
        let fits = !random.one_in(12);
        match name {
            "t" | "k" | "\\u0074" if fits => text.push_str(&integer(random)),
            "x" if fits => text.push_str(&number(random)),
            "s" if fits => string(random, text),
            "b" if fits => text.push_str(random.pick(&["true", "false", "null"])),
            _ => any(random, text),
        }
    }
    text.push('}');
}

fn any(random: &mut Random, text: &mut String) {
    match random.below(8) {
        0 => text.push_str(&number(random)),
        1 => text.push_str(&integer(random)),
        2 => string(random, text),
        3 => text.push_str(random.pick(&["true", "false", "null", "nul", "NaN", "Infinity", "-"])),
        4 => {
            let deep = 1 << random.below(16);
            let (open, close) = random.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let inner = if open == "[" { "" } else { "1" };
            text.push_str(&open.repeat(deep));
            text.push_str(inner);
            text.push_str(&close.repeat(if random.one_in(8) { deep - 1 } else { deep }));
        }
        5 if text.len() < 2_000 => object(random, text),
        6 if text.len() < 2_000 => {
            text.push('[');
            any(random, text);
            text.push(',');
            any(random, text);
            text.push(']');
        }
        _ => text.push('0'),
    }
}

fn integer(random: &mut Random) -> String {
    match random.below(8) {
        0 => (random.next() as i64).to_string(),
        1 => random.next().to_string(),
        2 => random.of(&["-0", "007", "9223372036854775808", "1e3", "1.0", "\"7\""]).to_string(),
        _ => (random.below(2_000) as i64 - 1_000).to_string(),
    }
}

fn number(random: &mut Random) -> String {
    match random.below(8) {
        0 => format!("{:e}", f64::from_bits(random.next())).replace("inf", "0").replace("NaN", "1"),
        1 => "9".repeat(1 + random.below(300)),
        2 => format!("0.{}", "3".repeat(1 + random.below(900))),
        3 => random
            .of(&["1e400", "-1e-400", "-0.0", "5e-324", "1.", ".5", "+1", "0x10", "\"nan\"", "1E5"])
            .to_string(),
        _ => format!("{}", random.below(1_000) as f64 / 8.0),
    }
}

fn string(random: &mut Random, text: &mut String) {
    text.push('"');
    for _ in 0..random.below(6) {
        let piece = [
            "a",
            "é",
            "\u{1f600}",
            "\\n",
            "\\\"",
            "\\u0041",
            "\\ud83d\\ude00",
            "\\uD84D\\uDE12",
            "\\ud800",
            "\t",
            "\\x",
            "12",
        ];
        text.push_str(random.pick(&piece));
    }
    text.push('"');
}

/// What serde_json has to say of a value as one of a column.
#[derive(Debug, PartialEq)]
enum Cell {
    Null,
    Integer(i64),
    Count(u64),
    Float(f64),
    Text(String),
    Truth(bool),
}

enum Verdict {
    Row(Vec<Cell>),
    Refused,
    /// serde_json does not say, as this may be in what is not read: nested deeper than it reads, a number
    /// beyond a float, half of a pair of surrogates.
    Unsaid,
}

fn verdict(bytes: &[u8], columns: &[Field]) -> Verdict {
    let Pairs(pairs) = match serde_json::from_slice(bytes) {
        Ok(pairs) => pairs,
        Err(error) => {
            let text = error.to_string();
            let unsaid = ["recursion limit", "number out of range", "surrogate", "hex escape"];
            let unsaid = unsaid.iter().any(|reason| text.contains(reason));
            return if unsaid { Verdict::Unsaid } else { Verdict::Refused };
        }
    };
    let mut row = Vec::new();
    for column in columns {
        let mut last = Cell::Null;
        for (_, value) in pairs.iter().filter(|(key, _)| key == column.name()) {
            let Some(found) = cell(value, column.data_type()) else { return Verdict::Refused };
            last = found;
        }
        row.push(last);
    }
    Verdict::Row(row)
}

/// The members of an object, with those that it has twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// `None` where the value does not fit the column.
fn cell(value: &Value, column: &DataType) -> Option<Cell> {
    Some(match (column, value) {
        (_, Value::Null) => Cell::Null,
        (DataType::Int64, Value::Number(number)) => match number.as_i64() {
            Some(integer) => Cell::Integer(integer),
            None if number
                .as_f64()
                .is_some_and(|float| float == 0.0 && float.is_sign_negative()) =>
            {
                Cell::Integer(0)
            }
            None => return None,
        },
        (DataType::UInt64, Value::Number(number)) => match number.as_u64() {
            Some(count) => Cell::Count(count),
            None if number
                .as_f64()
                .is_some_and(|float| float == 0.0 && float.is_sign_negative()) =>
            {
                Cell::Count(0)
            }
            None => return None,
        },
        (DataType::Float64, Value::Number(number)) => Cell::Float(number.as_f64()?),
        (DataType::Utf8, Value::String(text)) => Cell::Text(text.clone()),
        (DataType::Boolean, Value::Bool(truth)) => Cell::Truth(*truth),
        _ => return None,
    })
}

fn found(events: &RecordBatch, column: usize, row: usize) -> Cell {
    let values = events.column(column);
    if values.is_null(row) {
        return Cell::Null;
    }
    match values.data_type() {
        DataType::Int64 => Cell::Integer(values.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(..) => Cell::Integer(event_times(values).unwrap().value(row)),
        DataType::UInt64 => Cell::Count(values.as_primitive::<UInt64Type>().value(row)),
        DataType::Float64 => Cell::Float(values.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Cell::Truth(values.as_boolean().value(row)),
        _ => Cell::Text(values.as_string::<i32>().value(row).to_owned()),
    }
}

fn check(lines: &[Line], columns: &[Field], decoded: &Decoded) -> Result<(), String> {
    if decoded.events.num_rows() != decoded.rows.len() {
        return Err("rows and their lines differ in number".to_owned());
    }
    let mut seen = vec![0; lines.len()];
    decoded.rows.iter().for_each(|&at| seen[at] += 1);
    decoded.bad.iter().for_each(|(at, _)| seen[*at] += 1);
    if seen.iter().any(|&times| times != 1) || !decoded.rows.is_sorted() {
        return Err(format!("lines came {seen:?} times"));
    }
    for (at, line) in lines.iter().enumerate() {
        let row = decoded.rows.iter().position(|&row| row == at);
        let text = || line.bytes.escape_ascii().to_string();
        match (verdict(&line.bytes, columns), row) {
            (Verdict::Unsaid, _) | (Verdict::Refused, None) => {}
            // Letters of the time that are no time are null: a dead letter of its own kind.
            (Verdict::Row(cells), Some(row)) => {
                for (column, cell) in cells.iter().enumerate() {
                    let is_time_text = column == 0 && *columns[0].data_type() == DataType::Utf8;
                    let found = found(&decoded.events, column, row);
                    if !is_time_text && *cell != found {
                        let name = columns[column].name();
                        return Err(format!("{name} is {found:?}, not {cell:?}, in {}", text()));
                    }
                }
            }
            (Verdict::Row(_), None) => {
                let why = decoded.bad.iter().find(|(bad, _)| *bad == at);
                return Err(format!("refused ({why:?}): {}", text()));
            }
            (Verdict::Refused, Some(_)) => return Err(format!("taken: {}", text())),
        }
    }
    Ok(())
}

#[test]
fn json_lines() {
    run("json_lines", 15_000, |random, given| {
        let mut columns = columns(random);
        let lines: Vec<Line> = (0..1 + random.below(LINES_MAX))
            .map(|position| line(random_line(random), position))
            .collect();
        for line in &lines {
            given.0.extend(&line.bytes);
            given.0.push(b'\n');
        }
        if random.one_in(3) {
            let learned = infer(&lines, &uses());
            let times = [DataType::Int64, DataType::Utf8];
            if learned.first().is_some_and(|f| f.name() == "t" && times.contains(f.data_type())) {
                columns = learned;
            }
        }
        let mut decoder = LineDecoder::new(&columns, uses()).unwrap();
        let decoded = decoder.decode(&lines).map_err(|error| error.to_string())?;
        check(&lines, &columns, &decoded)
    });
}

fn uses() -> ColumnUses {
    let keys = ["k".to_owned()].into();
    ColumnUses { time: Some("t".to_owned()), keys, ..ColumnUses::default() }
}

#[test]
fn a_line_that_is_too_long_is_no_event() {
    let columns = [Field::new("t", DataType::Int64, true)];
    let mut decoder = LineDecoder::new(&columns, uses()).unwrap();
    let good = || line(b"{\"t\": 1}".to_vec(), 0);
    let lines = [good(), Line { too_long: true, ..good() }, good()];
    let decoded = decoder.decode(&lines).unwrap();
    assert_eq!((decoded.rows, decoded.bad.len()), (vec![0, 2], 1));
    assert!(decoded.bad[0].1.contains(&LINE_BYTES_MAX.to_string()));
}

#[test]
fn a_column_that_is_nested_deep_harms_no_other() {
    let columns = ["t", "s"].map(|name| Field::new(name, DataType::Utf8, true));
    let mut decoder = LineDecoder::new(&columns, uses()).unwrap();
    let nested = |name: &str, levels: usize| {
        let text = format!("{{\"{name}\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
        line(text.into_bytes(), 0)
    };
    let lines = [nested("s", 1), nested("s", 1_000_000), nested("u", 1), nested("u", 1_000_000)];
    let decoded = decoder.decode(&lines).unwrap();
    assert_eq!(decoded.rows, [2, 3]);
    assert!(decoded.bad[1].1.contains("is a list"), "{:?}", decoded.bad[1]);
}

/// However long lines are, there are only so many bytes of them at a time.
#[test]
fn long_lines_come_in_smaller_chunks() {
    const LINES: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{{\"t\": 1, \"s\": \"{}\"}}\n", "x".repeat(8 << 20));
    let text = zstd::encode_all(line.repeat(LINES).as_bytes(), 1).unwrap();
    std::fs::write(folder.path().join("a.jsonl.zst"), text).unwrap();
    let read = crate::parquet_files::read_all(folder.path(), "t", 8_192).unwrap();
    assert_eq!((read.rows, read.undecoded), (LINES, 0));
    assert!(read.batches.iter().all(|batch| batch.num_rows() <= 9));
}

/// Files of lines, damaged as they are stored: every line that is not blank is a row or is known to
/// be none, whatever its neighbours are.
#[test]
fn json_files() {
    use std::io::Write;

    run("json_files", 1_500, |random, given| {
        let mut text = Vec::new();
        for _ in 0..1 + random.below(40) {
            text.extend(random_line(random));
            text.push(b'\n');
        }
        if random.one_in(2) {
            mutate(random, &mut text);
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (name, stored) = match random.below(4) {
            0 => {
                let mut coder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                coder.write_all(&text).unwrap();
                ("a.jsonl.gz", coder.finish().unwrap())
            }
            1 => ("a.jsonl.zst", zstd::encode_all(text.as_slice(), 1).unwrap()),
            _ => ("a.jsonl", text.clone()),
        };
        let mut stored = stored;
        let whole = name == "a.jsonl" || !random.one_in(2);
        if !whole {
            mutate(random, &mut stored);
        }
        given.0.clone_from(&stored);
        std::fs::write(folder.path().join(name), &stored).unwrap();
        let expected = text.split(|&byte| byte == b'\n');
        let expected = expected.filter(|line| !line.iter().all(u8::is_ascii_whitespace)).count();
        match crate::parquet_files::read_all(folder.path(), "t", 1 + random.below(9)) {
            Ok(read) if whole && read.rows + read.undecoded != expected => {
                Err(format!("{} rows and {} others of {expected}", read.rows, read.undecoded))
            }
            // A damaged archive may say what it likes, or a file hold no line with a time.
            Ok(_) => Ok(()),
            Err(error)
                if whole
                    && !error.contains("columns are told")
                    && !error.contains("no column")
                    && !error.contains("not JSON lines")
                    && !error.contains("the event time must be") =>
            {
                Err(format!("refused: {error}"))
            }
            Err(_) => Ok(()),
        }
    });
}

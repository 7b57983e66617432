//! Lines to columns, against serde_json: it says which lines are objects of fitting types, and what
//! is in them. What Python writes beyond JSON is put as numbers that nobody else writes before. The way
//! that clean lines are read is also compared with that of all others: values to the bit, and what is
//! told of bad ones.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type};
use driftline::config::job::Format;
use driftline::sources::columns::ColumnUses;
use driftline::sources::json::chunk::{Line, LineChunk};
use driftline::sources::json::decoder::{Decoded, LineDecoder};
use driftline::sources::json::learn::infer;
use driftline::sources::json::lines::LINE_BYTES_MAX;
use driftline_operators::admit::event_times;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::campaign::run;
use crate::mutate::mutate;
use crate::random::Random;

const LINES_MAX: usize = 12;

fn chunk<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> LineChunk {
    LineChunk::of_texts(texts, &Default::default())
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
    if random.one_in(2) {
        columns.push(("p", object_type()));
    }
    columns.into_iter().map(|(name, to)| Field::new(name, to, true)).collect()
}

/// Of the column `p`.
fn object_type() -> DataType {
    let field = |name: &str, to| Field::new(name, to, true);
    let inner = vec![field("s", DataType::Utf8), field("b", DataType::Boolean)];
    DataType::Struct(
        vec![field("x", DataType::Float64), field("q", DataType::Struct(inner.into()))].into(),
    )
}

/// Text of a line: an object of mostly fitting values, one way or the other damaged at times.
fn random_line(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    if random.one_in(20) {
        text.push('\u{feff}');
    }
    match random.one_in(50) {
        true => wide_object(random, &mut text),
        false => object(random, &mut text),
    }
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

/// Lines of one writer: the same keys in the same order, though some may be left out, and now and then
/// a line that is damaged.
fn lines_of_one_writer(random: &mut Random) -> Vec<Vec<u8>> {
    let blanks = random.pick(&["", " "]);
    let names =
        ["t", "k", "x", "s", "b", "p", "q", "event_time", "a_name_of_many_letters", "a\\\"b"];
    let mut keys: Vec<&str> = names.into_iter().filter(|_| !random.one_in(3)).collect();
    for at in (1..keys.len()).rev() {
        keys.swap(at, random.below(at + 1));
    }
    let leaves_out = random.one_in(2);
    let mut line = |at: usize| {
        let mut text = String::new();
        for key in &keys {
            if leaves_out && random.one_in(4) {
                continue;
            }
            let between = if text.is_empty() { "{" } else { "," };
            text.push_str(&format!("{between}{blanks}\"{key}\":{blanks}"));
            match *key {
                "t" => text.push_str(&at.to_string()),
                "k" => text.push_str(&integer(random)),
                "x" | "event_time" => text.push_str(&number(random)),
                "b" => text.push_str(random.pick(&["true", "false", "null"])),
                "p" | "q" => object(random, &mut text),
                _ => string(random, &mut text),
            }
        }
        text.push_str(if text.is_empty() { "{}" } else { "}" });
        let mut bytes = text.into_bytes();
        if random.one_in(8) {
            mutate(random, &mut bytes);
        }
        bytes.retain(|byte| *byte != b'\n');
        bytes
    };
    (0..LINES_MAX).map(&mut line).collect()
}

fn object(random: &mut Random, text: &mut String) {
    text.push('{');
    for at in 0..random.below(8) {
        if at > 0 {
            text.push_str(random.pick(&[",", ", ", " ,\t"]));
        }
        let names = ["t", "t", "k", "k", "x", "x", "s", "b", "p", "q", "other", "", "\\u0074"];
        let name = random.pick(&names);
        text.push_str(&format!("\"{name}\"{}", random.of(&[":", ": ", " : "])));
        let fits = !random.one_in(12);
        match name {
            "t" | "k" | "\\u0074" if fits => text.push_str(&integer(random)),
            "x" if fits => text.push_str(&number(random)),
            "s" if fits => string(random, text),
            "b" if fits => text.push_str(random.pick(&["true", "false", "null", "NaN"])),
            "p" | "q" if fits && text.len() < 2_000 => object(random, text),
            _ => any(random, text),
        }
    }
    text.push('}');
}

/// More keys than have places, or about as many.
fn wide_object(random: &mut Random, text: &mut String) {
    text.push_str("{\"t\": 1");
    for at in 0..random.pick(&[255, 300, 700]) {
        text.push_str(&format!(", \"w{at}\": {}", random.pick(&["1", "{}", "NaN", "null"])));
    }
    text.push_str(&format!(", \"x\": {}}}", number(random)));
}

fn any(random: &mut Random, text: &mut String) {
    match random.below(8) {
        0 => text.push_str(&number(random)),
        1 => text.push_str(&integer(random)),
        2 => string(random, text),
        3 => text.push_str(random.pick(&[
            "true",
            "false",
            "null",
            "nul",
            "NaN",
            "Infinity",
            "-Infinity",
            "-NaN",
            "-",
        ])),
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
            .of(&[
                "NaN",
                "Infinity",
                "-Infinity",
                "NaN",
                "1NaN",
                "1e400",
                "-1e-400",
                "-0.0",
                "5e-324",
                "1.",
                ".5",
                "+1",
                "0x10",
                "\"nan\"",
                "1E5",
            ])
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
            "NaN",
            ": Infinity,",
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
    Object(Vec<Cell>),
}

enum Verdict {
    Row(Vec<Cell>),
    Refused,
    /// serde_json does not say, as this may be in what is not read: nested deeper than it reads, a number
    /// beyond a float, half of a pair of surrogates.
    Unsaid,
}

fn verdict(bytes: &[u8], columns: &[Field]) -> Verdict {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if std::str::from_utf8(bytes).is_err() {
        return Verdict::Refused;
    }
    let read = serde_json::from_slice(bytes).or_else(|error| match with_numbers(bytes) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    });
    let pairs = match read {
        Ok(Tree::Object(pairs)) => pairs,
        Ok(_) => return Verdict::Refused,
        Err(error) => {
            let text = error.to_string();
            let unsaid = ["recursion limit", "number out of range", "surrogate", "hex escape"];
            let unsaid = unsaid.iter().any(|reason| text.contains(reason));
            return if unsaid { Verdict::Unsaid } else { Verdict::Refused };
        }
    };
    members(&pairs, columns.iter()).map_or(Verdict::Refused, Verdict::Row)
}

/// Numbers that stand for what Python writes, and that nobody else writes.
const NAN: &str = " -987654321.0625 ";
const INFINITY: &str = " 1987654321.0625 ";
const NEGATIVE: &str = " -1987654321.0625 ";

/// The text with such numbers in place of words outside of strings, if there are any.
fn with_numbers(bytes: &[u8]) -> Option<Vec<u8>> {
    let words = [("NaN", NAN), ("-Infinity", NEGATIVE), ("Infinity", INFINITY)];
    let (mut text, mut at, mut quoted) = (Vec::new(), 0, false);
    while at < bytes.len() {
        let word =
            words.iter().find(|(word, _)| !quoted && bytes[at..].starts_with(word.as_bytes()));
        if let Some((word, number)) = word {
            text.extend(number.bytes());
            at += word.len();
            continue;
        }
        if quoted && bytes[at] == b'\\' && at + 1 < bytes.len() {
            text.push(bytes[at]);
            at += 1;
        } else if bytes[at] == b'"' {
            quoted = !quoted;
        }
        text.push(bytes[at]);
        at += 1;
    }
    (text != bytes).then_some(text)
}

/// The last value of each column; `None` where one does not fit.
fn members<'f>(
    pairs: &[(String, Tree)],
    columns: impl Iterator<Item = &'f Field>,
) -> Option<Vec<Cell>> {
    let last = |column: &Field| {
        let values = pairs.iter().filter(|(key, _)| key == column.name());
        let mut cells = values.map(|(_, value)| cell(value, column.data_type()));
        cells.try_fold(Cell::Null, |_, cell| cell)
    };
    columns.map(last).collect()
}

/// JSON, with the members that an object has twice.
enum Tree {
    Null,
    Truth(bool),
    Integer(i64),
    Count(u64),
    Float(f64),
    Text(String),
    List,
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Growing)
    }
}

struct Growing;

impl<'de> Visitor<'de> for Growing {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Truth(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(i64::try_from(value).map_or(Tree::Count(value), Tree::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Tree::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Tree::Object(pairs))
    }
}

/// serde_json takes `-0` for a float.
fn is_negative_zero(float: f64) -> bool {
    float == 0.0 && float.is_sign_negative()
}

/// `None` where the value does not fit the column.
fn cell(value: &Tree, column: &DataType) -> Option<Cell> {
    let is = |float: f64, number: &str| number.trim().parse() == Ok(float);
    let infinite = match value {
        Tree::Float(float) if is(*float, NAN) => return Some(Cell::Null),
        Tree::Float(float) if is(*float, INFINITY) => Some(f64::INFINITY),
        Tree::Float(float) if is(*float, NEGATIVE) => Some(f64::NEG_INFINITY),
        _ => None,
    };
    Some(match (column, value) {
        (_, Tree::Null) => Cell::Null,
        (DataType::Float64, Tree::Float(float)) => Cell::Float(infinite.unwrap_or(*float)),
        (DataType::Float64, Tree::Integer(integer)) => Cell::Float(*integer as f64),
        (DataType::Float64, Tree::Count(count)) => Cell::Float(*count as f64),
        (DataType::Int64, Tree::Integer(integer)) => Cell::Integer(*integer),
        (DataType::Int64, Tree::Float(zero)) if is_negative_zero(*zero) => Cell::Integer(0),
        (DataType::UInt64, Tree::Integer(integer)) => Cell::Count(u64::try_from(*integer).ok()?),
        (DataType::UInt64, Tree::Count(count)) => Cell::Count(*count),
        (DataType::UInt64, Tree::Float(zero)) if is_negative_zero(*zero) => Cell::Count(0),
        (DataType::Utf8, Tree::Text(text)) => Cell::Text(text.clone()),
        (DataType::Boolean, Tree::Truth(truth)) => Cell::Truth(*truth),
        (DataType::Struct(fields), Tree::Object(pairs)) => {
            Cell::Object(members(pairs, fields.iter().map(|field| field.as_ref()))?)
        }
        _ => return None,
    })
}

fn found(values: &ArrayRef, row: usize) -> Cell {
    if values.is_null(row) {
        return Cell::Null;
    }
    match values.data_type() {
        DataType::Int64 => Cell::Integer(values.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(..) => Cell::Integer(event_times(values).unwrap().value(row)),
        DataType::UInt64 => Cell::Count(values.as_primitive::<UInt64Type>().value(row)),
        DataType::Float64 => Cell::Float(values.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => Cell::Truth(values.as_boolean().value(row)),
        DataType::Struct(_) => {
            let members = values.as_struct().columns().iter();
            Cell::Object(members.map(|member| found(member, row)).collect())
        }
        _ => Cell::Text(values.as_string::<i32>().value(row).to_owned()),
    }
}

fn check(lines: &LineChunk, columns: &[Field], decoded: &Decoded) -> Result<(), String> {
    if decoded.events.num_rows() != decoded.rows.len() {
        return Err("rows and their lines differ in number".to_owned());
    }
    let mut seen = vec![0; lines.len()];
    decoded.rows.iter().for_each(|&at| seen[at] += 1);
    decoded.bad.iter().for_each(|(at, _)| seen[*at] += 1);
    if seen.iter().any(|&times| times != 1) || !decoded.rows.is_sorted() {
        return Err(format!("lines came {seen:?} times"));
    }
    for at in 0..lines.len() {
        let row = decoded.rows.iter().position(|&row| row == at);
        let text = || lines.text(at).escape_ascii().to_string();
        match (verdict(lines.text(at), columns), row) {
            (Verdict::Unsaid, _) | (Verdict::Refused, None) => {}
            // Letters of the time that are no time are null: a dead letter of its own kind.
            (Verdict::Row(cells), Some(row)) => {
                for (column, cell) in cells.iter().enumerate() {
                    let is_time_text = column == 0 && *columns[0].data_type() == DataType::Utf8;
                    let found = found(decoded.events.column(column), row);
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
    run("json_lines", 5_000, |random, given| {
        let mut columns = columns(random);
        let texts: Vec<Vec<u8>> = match random.one_in(2) {
            true => lines_of_one_writer(random),
            false => (0..1 + random.below(LINES_MAX)).map(|_| random_line(random)).collect(),
        };
        let lines = chunk(&texts);
        for text in &texts {
            given.0.extend(text);
            given.0.push(b'\n');
        }
        if random.one_in(3) {
            let learned = infer(&lines, &uses()).fields;
            let times = [DataType::Int64, DataType::Utf8];
            let is_time = |f: &Field| f.name() == "t" && times.contains(f.data_type());
            if learned.first().is_some_and(is_time) {
                columns = learned;
            }
        }
        let mut decoder = LineDecoder::new(Format::Json, &columns, uses()).unwrap();
        let decoded = decoder.decode(&lines).map_err(|error| error.to_string())?;
        check(&lines, &columns, &decoded)?;
        let mut decoder = LineDecoder::new(Format::Json, &columns, uses()).unwrap().by_serde();
        let expected = decoder.decode(&lines).map_err(|error| error.to_string())?;
        match expected == decoded {
            true => Ok(()),
            false => Err(format!("{decoded:?}, and by serde_json {expected:?}")),
        }
    });
}

fn uses() -> ColumnUses {
    let keys = ["k".to_owned()].into();
    ColumnUses { time: Some("t".to_owned()), keys, ..ColumnUses::default() }
}

#[test]
fn a_line_that_is_too_long_is_no_event() {
    let columns = [Field::new("t", DataType::Int64, true)];
    let mut decoder = LineDecoder::new(Format::Json, &columns, uses()).unwrap();
    let good = b"{\"t\": 1}";
    let mut lines = chunk([good]);
    let line = Line { too_long: true, position: 1, number: 2 };
    lines.push(good, line, &Default::default());
    lines.push(good, Line { too_long: false, ..line }, &Default::default());
    let decoded = decoder.decode(&lines).unwrap();
    assert_eq!((decoded.rows, decoded.bad.len()), (vec![0, 2], 1));
    assert!(decoded.bad[0].1.contains(&LINE_BYTES_MAX.to_string()));
}

#[test]
fn a_column_that_is_nested_deep_harms_no_other() {
    let columns = ["t", "s"].map(|name| Field::new(name, DataType::Utf8, true));
    let mut decoder = LineDecoder::new(Format::Json, &columns, uses()).unwrap();
    let nested = |name: &str, levels: usize| {
        format!("{{\"{name}\": {}{}}}", "[".repeat(levels), "]".repeat(levels))
    };
    let deep = 1_000_000;
    let lines = chunk([nested("s", 1), nested("s", deep), nested("u", 1), nested("u", deep)]);
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
        let plain = expected.map(|line| line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line));
        let expected = plain.filter(|line| !line.iter().all(u8::is_ascii_whitespace)).count();
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
                    && !error.contains("event time (event.time): ")
                    && !error.contains("the event time must be") =>
            {
                Err(format!("refused: {error}"))
            }
            Err(_) => Ok(()),
        }
    });
}

//! Objects that are written as most are, read faster than serde_json does: keys in the order of the
//! last object, texts without escapes, numbers of no more digits than count.
//!
//! It takes nothing that serde_json would refuse and finds what that would find, or gives up: then
//! serde_json reads the object, and says what is wrong with it. `tests/fuzz` compares the two.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};

use crate::sources::growing::{Column, Columns};

/// Objects within each other that are read here.
const LEVELS_MAX: usize = 16;
/// Digits that always fit 64 bits.
const DIGITS_MAX: usize = 19;
/// The whole numbers up to it are floats, and so are the powers of ten: a quotient of one by the other
/// is rounded once, to the nearest float (Clinger 1990, "How to read floating point numbers
/// accurately").
const EXACT_MAX: u64 = 1 << 53;
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads the one object that `text` is into the row behind `rows`; whether it did. Otherwise columns
/// hold a part of it, which is to be taken back.
#[must_use]
pub fn read_clean(text: &str, columns: &mut Columns, rows: usize) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.pass_blanks();
    let read = scanner.object(columns, rows, LEVELS_MAX);
    scanner.pass_blanks();
    read.is_some() && scanner.at == text.len()
}

/// A text that has been read up to `at`. Whatever gives `None` has met something unusual.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

/// The digits of a number.
struct Digits {
    negative: bool,
    /// All digits before an exponent, of which there may be more than [`DIGITS_MAX`].
    value: u64,
    digits: usize,
    /// Digits behind a point, if there is one.
    fraction: Option<usize>,
    has_exponent: bool,
}

impl<'t> Scanner<'t> {
    fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn pass_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn pass(&mut self, expected: &[u8]) -> Option<()> {
        let found = self.bytes().get(self.at..self.at + expected.len())?;
        self.at += expected.len();
        (found == expected).then_some(())
    }

    fn object(&mut self, columns: &mut Columns, rows: usize, levels: usize) -> Option<()> {
        let mut cursor = 0;
        let mut sign = b"{";
        // A key that is expected may stand behind a comma, and the object itself does not.
        if self.peek() != Some(b'{') {
            return None;
        }
        if self.bytes()[self.at..].starts_with(b"{}") {
            return self.pass(b"{}");
        }
        loop {
            let rest = self.bytes().get(self.at..)?;
            let column = match columns.of_expected_key(rest, &mut cursor) {
                Some((bytes, column)) => {
                    self.at += bytes;
                    column
                }
                None => self.new_key(sign, columns, &mut cursor)?,
            };
            match column {
                Some(column) => self.value(columns.get_mut(column), rows, levels)?,
                None => self.pass_value()?,
            }
            if self.peek()? != b',' {
                self.pass_blanks();
                if self.peek()? != b',' {
                    return self.pass(b"}");
                }
            }
            sign = b",";
        }
    }

    /// The column of a key behind a brace or a comma, if it is read.
    fn new_key(
        &mut self,
        sign: &[u8],
        columns: &mut Columns,
        cursor: &mut usize,
    ) -> Option<Option<usize>> {
        let from = self.at;
        self.pass(sign)?;
        self.pass_blanks();
        let key_from = self.at + 1;
        let key = self.string()?;
        let key_to = self.at - 1;
        self.pass_blanks();
        self.pass(b":")?;
        self.pass_blanks();
        let column = columns.position(&key);
        if let Cow::Borrowed(_) = key {
            let lead = &self.bytes()[from..self.at];
            columns.expect_key(lead, key_from - from..key_to - from, column, cursor);
        }
        Some(column)
    }

    fn value(&mut self, column: &mut Column, rows: usize, levels: usize) -> Option<()> {
        // Of a key that comes twice the last value counts.
        if column.rows() != rows {
            return None;
        }
        match self.peek()? {
            b'"' => column.push_text(&self.string()?).ok(),
            b'-' | b'0'..=b'9' => self.number(column),
            b't' => self.pass(b"true").and_then(|()| column.push_truth(true).ok()),
            b'f' => self.pass(b"false").and_then(|()| column.push_truth(false).ok()),
            b'n' => {
                column.push_null();
                self.pass(b"null")
            }
            b'{' if levels > 0 => {
                let (members, row) = column.begin_members()?;
                self.object(members, row, levels - 1)?;
                column.end_members();
                Some(())
            }
            _ => None,
        }
    }

    /// A value that is not read.
    fn pass_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => match self.plain_string() {
                Some(_) => Some(()),
                None => self.by_serde::<IgnoredAny>().map(|_| ()),
            },
            b'-' | b'0'..=b'9' => self.digits().map(|_| ()),
            b't' => self.pass(b"true"),
            b'f' => self.pass(b"false"),
            b'n' => self.pass(b"null"),
            b'{' | b'[' => self.by_serde::<IgnoredAny>().map(|_| ()),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Cow<'t, str>> {
        match self.plain_string() {
            Some(text) => Some(Cow::Borrowed(text)),
            None => self.by_serde::<String>().map(Cow::Owned),
        }
    }

    /// A string without escapes; it is not passed if it is another.
    fn plain_string(&mut self) -> Option<&'t str> {
        let from = self.at + 1;
        let end = plain_end(self.bytes(), from);
        if self.peek() != Some(b'"') || self.bytes().get(end) != Some(&b'"') {
            return None;
        }
        self.at = end + 1;
        self.text.get(from..end)
    }

    /// A string, an object or a list, whatever is in it.
    fn by_serde<T: Deserialize<'t>>(&mut self) -> Option<T> {
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<T>();
        let value = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(value)
    }

    /// A number into its column, as serde_json would call it: an integer without a sign, one with, or
    /// a float.
    fn number(&mut self, column: &mut Column) -> Option<()> {
        let from = self.at;
        let Digits { negative, value, digits, fraction, has_exponent } = self.digits()?;
        if digits > DIGITS_MAX {
            return None;
        }
        let pushed = match (fraction, negative) {
            (None, false) if !has_exponent => column.push_unsigned(value),
            (None, true) if !has_exponent && value > 0 => {
                column.push_integer(0_i64.checked_sub_unsigned(value)?)
            }
            _ => {
                let power = POWERS.get(fraction.unwrap_or(0));
                let power = power.filter(|_| !has_exponent && value <= EXACT_MAX);
                let float = match power {
                    Some(power) => value as f64 / power * if negative { -1.0 } else { 1.0 },
                    None => self.text[from..self.at].parse().ok()?,
                };
                if f64::is_infinite(float) {
                    return None;
                }
                column.push_float(float)
            }
        };
        pushed.ok()
    }

    /// Passes what is a number by the grammar.
    fn digits(&mut self) -> Option<Digits> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let (from, mut value) = (self.at, 0);
        let whole = self.pass_digits(&mut value);
        if whole == 0 || whole > 1 && self.bytes()[from] == b'0' {
            return None;
        }
        let fraction = match self.peek() {
            Some(b'.') => {
                self.at += 1;
                Some(self.pass_digits(&mut value)).filter(|digits| *digits > 0).map(Some)?
            }
            _ => None,
        };
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.pass_digits(&mut 0) == 0 {
                return None;
            }
        }
        let digits = whole + fraction.unwrap_or(0);
        Some(Digits { negative, value, digits, fraction, has_exponent })
    }

    /// Appends digits to `value`, as long as it has room for them; how many there are.
    fn pass_digits(&mut self, value: &mut u64) -> usize {
        let from = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            *value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - from
    }
}

/// Where the first byte from `at` on is that a string does not hold as it is: a quote, a backslash or a
/// control character. Eight bytes at a time: of these the lowest that is found is found rightly.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let quotes = has_zero(word ^ (ONES * u64::from(b'"')));
        let escapes = has_zero(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quotes | escapes | controls) & (ONES << 7);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Float64Type, Schema};

    use super::*;
    use crate::sources::json::columns::JsonColumns;

    fn schema() -> Schema {
        let field = |name: &str, to| Field::new(name, to, true);
        let object = vec![field("x", DataType::Float64), field("s", DataType::Utf8)];
        Schema::new(vec![
            field("i", DataType::Int64),
            field("u", DataType::UInt64),
            field("x", DataType::Float64),
            field("s", DataType::Utf8),
            field("b", DataType::Boolean),
            field("p", DataType::Struct(object.into())),
        ])
    }

    const CLEAN: [&str; 6] = [
        r#"{"i":-7,"u":18,"x":0.125,"s":"text","b":true,"p":{"x":1e3,"s":"é"},"more":[1,{}]}"#,
        r#"{"i":8,"u":0,"x":-12.5E-1,"s":"","b":false,"p":null,"more":"no \"more\""}"#,
        r#"{"i":9223372036854775807,"x":12345678.901234567,"s":"a longer text, in words","p":{}}"#,
        r#" { "i" : -9223372036854775808 , "u" : 9999999999999999999 , "s" : "\u00e9\n" } "#,
        r#"{"unread":-0.5e+9,"x":-0,"i":-0,"s":null,"more":{"x":[]},"b":null}"#,
        "{}",
    ];

    fn is_clean(text: &str) -> bool {
        let mut columns = Columns::new(schema().fields(), "").unwrap();
        read_clean(text, &mut columns, 0)
    }

    #[test]
    fn what_is_unusual_is_left_alone() {
        for text in CLEAN {
            assert!(is_clean(text), "{text}");
        }
        for text in [
            "",
            "{",
            "[]",
            r#"{"i":1}}"#,
            r#"{"i":1,}"#,
            r#"{"i" 1}"#,
            r#"{"i":1 "b":true}"#,
            r#"{"i":01}"#,
            r#"{"i":1.0}"#,
            r#"{"i":9223372036854775808}"#,
            r#"{"u":-1}"#,
            r#"{"x":1.}"#,
            r#"{"x":.5}"#,
            r#"{"x":+1}"#,
            r#"{"x":1e}"#,
            r#"{"x":1e999}"#,
            r#"{"x":12345678901234567890}"#,
            r#"{"x":NaN}"#,
            r#"{"x":-}"#,
            r#"{"x":"1"}"#,
            r#"{"s":1}"#,
            r#"{"s":"a"#,
            r#"{"s":"\ud800"}"#,
            "{\"s\":\"a\tb\"}",
            "{\"unread\":\"1234\t5678\"}",
            r#"{"b":tru}"#,
            r#"{"b":null,"b":true}"#,
            r#"{"p":[]}"#,
            r#"{"p":{"x":1,"x":2}}"#,
            r#"{"unread":[}"#,
            r#"{"unread":01}"#,
            r#"{unread:1}"#,
        ] {
            assert!(!is_clean(text), "{text}");
        }
    }

    /// Pushes lines one by one: what is said of each, and all that is in the columns then.
    fn check(lines: &[String]) {
        let new = || JsonColumns::new(Arc::new(schema())).unwrap();
        let (mut columns, mut by_serde) = (new(), new().by_serde());
        for line in lines {
            let (found, expected) = (columns.push(line.as_bytes()), by_serde.push(line.as_bytes()));
            assert_eq!(found, expected, "{line}");
        }
        assert_eq!(columns.finish().unwrap(), by_serde.finish().unwrap(), "{lines:#?}");
    }

    #[test]
    fn an_object_does_not_begin_with_a_key_that_is_expected() {
        let lines = [r#"{"i":1,"b":true}"#, r#","b":true}"#, r#"{,"b":true}"#, r#"{"i":1{"i":1}"#];
        check(&lines.map(str::to_owned));
    }

    #[test]
    fn lines_that_are_damaged_are_read_as_serde_json_reads_them() {
        const SIGNS: &str = "{}[]\",:\\ \t0123456789.eE+-tfnulé\u{0}";
        let signs: Vec<char> = SIGNS.chars().collect();
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..2_000 {
            let lines = (0..8).map(|_| {
                let mut line: Vec<char> = CLEAN[random.usize(..CLEAN.len())].chars().collect();
                for _ in 0..random.usize(..3) {
                    let (at, sign) =
                        (random.usize(..line.len()), signs[random.usize(..signs.len())]);
                    match random.u8(..3) {
                        0 => line[at] = sign,
                        1 => line.insert(at, sign),
                        _ if line.len() > 1 => drop(line.remove(at)),
                        _ => {}
                    }
                }
                line.into_iter().collect()
            });
            check(&lines.collect::<Vec<String>>());
        }
    }

    #[test]
    fn numbers_are_those_of_serde_json_to_the_bit() {
        let mut random = fastrand::Rng::with_seed(12);
        let mut lines = Vec::new();
        for _ in 0..20_000 {
            let digits = random.usize(1..22);
            let mut text: String = (0..digits).map(|_| random.digit(10)).collect();
            if random.bool() {
                text.insert(random.usize(..=digits), '.');
            }
            if random.u8(..3) == 0 {
                text.push_str(&format!("e{}", random.i32(-330..330)));
            }
            let sign = if random.bool() { "-" } else { "" };
            lines.push(format!("{{\"x\":{sign}{text}}}"));
            lines.push(format!("{{\"x\":{:?}}}", f64::from_bits(random.u64(..))));
        }
        check(&lines);
        let mut columns = JsonColumns::new(Arc::new(schema())).unwrap();
        columns.push(br#"{"x":-0}"#).unwrap();
        columns.push(br#"{"x":9007199254740993.0}"#).unwrap();
        let batch = columns.finish().unwrap();
        let floats = batch.column(2).as_primitive::<Float64Type>();
        assert!(floats.value(0).is_sign_negative() && floats.null_count() == 0);
        assert_eq!(floats.value(1).to_bits(), 9_007_199_254_740_992_f64.to_bits());
    }
}

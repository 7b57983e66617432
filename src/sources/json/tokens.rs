//! What other writers of JSON put where there is none: a byte order mark, `NaN`, `Infinity`.

use twox_hash::XxHash3_64;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes without a byte order mark at their beginning.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// A text that is JSON if all that kept it from being that were `NaN` and `Infinity`.
pub struct Mended {
    pub text: String,
    /// What stands for `Infinity`: a text that the line itself does not hold.
    pub infinity: Infinity,
    /// Where what was put in ends, and how many bytes longer all is from there on.
    grown: Vec<(usize, usize)>,
}

/// The text that stands for `Infinity`, without its sign.
pub struct Infinity(String);

impl Infinity {
    /// The infinity that `text` stands for, if it does.
    pub fn of(&self, text: &str) -> Option<f64> {
        match text.strip_prefix('-') {
            Some(rest) => (rest == self.0).then_some(f64::NEG_INFINITY),
            None => (text == self.0).then_some(f64::INFINITY),
        }
    }
}

impl Mended {
    /// `None` if `text` has no such word where a value stands. A `NaN` is as good as null there.
    pub fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // The words are found first: most lines that are no JSON have none.
        if !["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
            return None;
        }
        let infinity = format!("{:016x} Infinity", XxHash3_64::oneshot(bytes));
        let (mut mended, mut grown) = (String::with_capacity(text.len() + 64), Vec::new());
        let (mut at, mut copied, mut before) = (0, 0, b'[');
        while at < bytes.len() {
            let is_value = matches!(before, b':' | b'[' | b',');
            match word(&text[at..]).filter(|word| is_value && ends_value(&bytes[at + word.len..])) {
                Some(word) => {
                    mended.push_str(&text[copied..at]);
                    match word.sign {
                        None => mended.push_str("null"),
                        Some(sign) => mended.push_str(&format!("\"{sign}{infinity}\"")),
                    }
                    at += word.len;
                    copied = at;
                    grown.push((mended.len(), mended.len() - at));
                    before = b'0';
                }
                None => {
                    if !bytes[at].is_ascii_whitespace() {
                        before = bytes[at];
                    }
                    at += if bytes[at] == b'"' { string_length(&bytes[at..]) } else { 1 };
                    // Strings end at their quote, and all else here is ASCII or no JSON anyway.
                    while !text.is_char_boundary(at) {
                        at += 1;
                    }
                }
            }
        }
        mended.push_str(&text[copied..]);
        let infinity = Infinity(infinity);
        (!grown.is_empty()).then_some(Mended { text: mended, infinity, grown })
    }

    /// The column (from 1) of the original that is `column` here.
    pub fn original_column(&self, column: usize) -> usize {
        let before = self.grown.iter().rev().find(|(end, _)| column >= *end);
        column - before.map_or(0, |(_, more)| *more)
    }
}

/// A word that is no JSON.
struct Word {
    len: usize,
    /// Of an infinity.
    sign: Option<&'static str>,
}

fn word(text: &str) -> Option<Word> {
    let known = [("NaN", None), ("Infinity", Some("")), ("-Infinity", Some("-"))];
    let found = known.iter().find(|(word, _)| text.starts_with(word))?;
    Some(Word { len: found.0.len(), sign: found.1 })
}

/// Whether what comes next ends a value.
fn ends_value(rest: &[u8]) -> bool {
    let next = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(next, Some(b',' | b'}' | b']'))
}

/// Bytes of a string from its quote on to the one that ends it.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with what stands for infinities as `+` and `-`.
    fn mended(text: &str) -> Option<String> {
        let Mended { text, infinity: Infinity(infinity), .. } = Mended::new(text)?;
        Some(
            text.replace(&format!("\"-{infinity}\""), "-").replace(&format!("\"{infinity}\""), "+"),
        )
    }

    #[test]
    fn words_are_mended_where_values_stand_and_nowhere_else() {
        for (text, expected) in [
            (r#"{"x": NaN}"#, Some(r#"{"x": null}"#)),
            (r#"{"x":-Infinity,"y":[Infinity , NaN]}"#, Some(r#"{"x":-,"y":[+ , null]}"#)),
            (r#"{"x": "NaN", "y": NaN}"#, Some(r#"{"x": "NaN", "y": null}"#)),
            (r#"{"é\"NaN": NaN}"#, Some(r#"{"é\"NaN": null}"#)),
            (r#"{"x": "NaN"}"#, None),
            (r#"{"x": -NaN}"#, None),
            (r#"{"x": NaNs}"#, None),
            (r#"{"x": 1NaN}"#, None),
            (r#"{Infinity: 1}"#, None),
            (r#"{"x" NaN}"#, None),
            (r#"{"x": nan, "y": Inf}"#, None),
            ("{\"x\": \"\\", None),
            ("{\"x\": \"NaN\\", None),
            ("{\"x\": NaN", None),
        ] {
            assert_eq!(mended(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn columns_of_errors_are_those_of_the_original() {
        let text = r#"{"x": NaN, "y": Infinity, "z": ?, "w": NaN}"#;
        let mended = Mended::new(text).unwrap();
        for mark in ["x", "y", "z", "?", "w"] {
            let column = mended.text.find(mark).unwrap() + 1;
            assert_eq!(mended.original_column(column), text.find(mark).unwrap() + 1, "{mark}");
        }
    }
}

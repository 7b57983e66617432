//! Escaped pairs of surrogates in JSON, put right before Arrow reads them: its decoder (59.3) takes
//! those of U+20000 and above for other characters, such as U+23612 for U+13612.

use std::borrow::Cow;

/// Bytes of an escape such as `\ud84d`.
const ESCAPE: usize = 6;

/// The line with each escaped pair of surrogates as the character that it stands for. What is no pair
/// stays.
pub fn without_pairs(line: &[u8]) -> Cow<'_, [u8]> {
    let is_high = |four: &[u8]| {
        let &[b'\\', b'u', b'd' | b'D', hex] = four else { return false };
        matches!(hex, b'8' | b'9' | b'a' | b'A' | b'b' | b'B')
    };
    if !line.windows(4).any(is_high) {
        return Cow::Borrowed(line);
    }
    let mut text = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(character) = pair(rest) {
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[2 * ESCAPE..];
            continue;
        }
        text.push(byte);
        rest = after;
        // What is escaped begins no escape.
        if byte == b'\\'
            && let Some((&escaped, after)) = rest.split_first()
        {
            text.push(escaped);
            rest = after;
        }
    }
    Cow::Owned(text)
}

/// The character of the escaped pair that `text` begins with.
fn pair(text: &[u8]) -> Option<char> {
    let (high, low) = (unit(text)?, unit(text.get(ESCAPE..)?)?);
    let is_pair = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
    is_pair.then(|| char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)))?
}

fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.get(..ESCAPE)?.strip_prefix(b"\\u")?;
    let hex = |unit: u32, digit: &u8| Some(unit << 4 | (*digit as char).to_digit(16)?);
    digits.iter().try_fold(0, hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&without_pairs(line.as_bytes())), expected);
    }

    #[test]
    fn pairs_are_their_characters() {
        check(r#"{"a": "\ud84d\ude12"}"#, "{\"a\": \"\u{23612}\"}");
        check(r#""\uD83D\uDE00\ud83d\ude00""#, "\"\u{1f600}\u{1f600}\"");
        check(r#""\udbff\udfff \ud800\udc00""#, "\"\u{10ffff} \u{10000}\"");
    }

    #[test]
    fn what_is_no_pair_stays() {
        for line in [
            r#""\\ud84d\\ude12""#,
            r#""\ud84d""#,
            r#""\ud84d\u0041""#,
            r#""\ude12\ud84d""#,
            r#""\ud84d\ude1""#,
            r#""\\\\ud84d\ude12""#,
            r#""plain \u0041 \n""#,
            "\\",
        ] {
            check(line, line);
        }
        check(r#""\\\ud84d\ude12""#, "\"\\\\\u{23612}\"");
    }

    /// serde_json reads both the same.
    #[test]
    fn the_text_is_the_same_for_every_character() {
        for code in (0x1_0000..=0x10_ffff).step_by(0x3fd) {
            let character = char::from_u32(code).unwrap();
            let mut units = [0; 2];
            character.encode_utf16(&mut units);
            let line = format!("\"x\\u{:04x}\\u{:04X}\"", units[0], units[1]);
            let ours: String = serde_json::from_slice(&without_pairs(line.as_bytes())).unwrap();
            assert_eq!(ours, serde_json::from_str::<String>(&line).unwrap());
        }
    }
}

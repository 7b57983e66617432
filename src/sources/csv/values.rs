//! What the text of a field says.

/// Above it not every whole number is a Float64.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether the field has no value. Also what pandas calls so in a column of numbers.
pub fn is_missing(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("nan")
}

/// A whole number, which may be written with zeros behind a point.
pub fn integer(text: &str) -> Option<i64> {
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    let float = number(text)?;
    (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
}

/// A number, or an infinity that is called so. A number beyond all of Float64 is none.
pub fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let is_named = text.contains(['i', 'I']);
    (number.is_finite() || (number.is_infinite() && is_named)).then_some(number)
}

pub fn truth(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

/// Whether digits are a code rather than a number: those of `02139` would be lost.
pub fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    text.starts_with('+')
        || (digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_may_have_a_point_and_numbers_may_be_infinite() {
        for (text, expected) in [
            ("7", Some(7)),
            ("-7.0", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1e3", Some(1_000)),
            ("1.5", None),
            ("inf", None),
            ("seven", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1.5", Some(1.5)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("inf", Some(f64::INFINITY)),
            ("1e400", None),
            ("1e-400", Some(0.0)),
            ("0x10", None),
            ("1,5", None),
            ("NA", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert_eq!((truth("True"), truth("FALSE"), truth("1")), (Some(true), Some(false), None));
        assert!(is_missing("NaN") && is_missing("") && !is_missing("NA"));
        for (text, code) in [("02139", true), ("0", false), ("0.5", false), ("-01", true)] {
            assert_eq!(is_code(text), code, "{text}");
        }
    }
}

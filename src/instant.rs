//! Times as text, RFC 3339 in UTC.

/// How much of a second is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fraction {
    /// Three digits.
    Millis,
    /// Three digits, none for a whole second.
    AsNeeded,
}

const DAY_MS: i64 = 86_400_000;
/// The first of the years 0 and 10,000.
const FOUR_DIGITS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// A time in ms since 1970.
pub(crate) fn instant(millis: i64) -> String {
    let mut text = Vec::with_capacity(24);
    write_instant(millis, Fraction::Millis, &mut text);
    text.into_iter().map(char::from).collect()
}

/// Appends a time in ms since 1970.
pub(crate) fn write_instant(millis: i64, fraction: Fraction, to: &mut Vec<u8>) {
    if !FOUR_DIGITS.contains(&millis) {
        let format = match fraction {
            Fraction::Millis => chrono::SecondsFormat::Millis,
            Fraction::AsNeeded => chrono::SecondsFormat::AutoSi,
        };
        let instant = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
        return to.extend(instant.to_rfc3339_opts(format, true).bytes());
    }
    let (year, month, day) = date(millis.div_euclid(DAY_MS));
    let (seconds, millis) =
        (millis.rem_euclid(DAY_MS) as u32 / 1_000, millis.rem_euclid(1_000) as u32);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], seconds / 3_600);
    put(&mut text[14..16], seconds / 60 % 60);
    put(&mut text[17..19], seconds % 60);
    if millis == 0 && fraction == Fraction::AsNeeded {
        text[19] = b'Z';
        return to.extend_from_slice(&text[..20]);
    }
    put(&mut text[20..23], millis);
    to.extend_from_slice(&text);
}

fn put(text: &mut [u8], number: u32) {
    let mut left = number;
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Year, month and day of a day since 1970, of the years 0 to 9999. Years begin with March here, so that
/// the day that some lack is their last (H. Hinnant, *chrono-Compatible Low-Level Date Algorithms*).
fn date(day: i64) -> (u32, u32, u32) {
    /// From March 1 of the year -400 to 1970; of 400 years.
    const BEFORE_1970: i64 = 719_468 + ERA;
    const ERA: i64 = 146_097;
    let day = (day + BEFORE_1970) as u32;
    let (era, of_era) = (day / ERA as u32, day % ERA as u32);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + 400 * era + next - 400, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_chrono_writes_them() {
        let ends = [FOUR_DIGITS.start, FOUR_DIGITS.end, i64::MIN, i64::MAX, 0, 951_782_400_000];
        let steps = (0..20_000).map(|step| (-40_000 + step * 5) * DAY_MS + step * 7_654_321);
        let days = (0..3_652_500).step_by(7).map(|day| FOUR_DIGITS.start + day * DAY_MS);
        let around =
            ends.into_iter().flat_map(|end: i64| [-1, 0, 1].map(|by| end.saturating_add(by)));
        for millis in steps.chain(days).chain(around) {
            let chrono = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
            let expected = chrono.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            assert_eq!(instant(millis), expected, "{millis}");
            let mut text = Vec::new();
            write_instant(millis, Fraction::AsNeeded, &mut text);
            let expected = chrono.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
            assert_eq!(text, expected.as_bytes(), "{millis}");
        }
    }
}

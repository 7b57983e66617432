//! The keys that objects have had, in their order: the next object most likely has them too.

use std::ops::Range;

/// Keys that are remembered, and the bytes of each with what is around it.
const KEYS_MAX: usize = 16_384;
const LEAD_BYTES_MAX: usize = 160;
/// Keys that an object may leave out in a row and still be followed.
const LEFT_OUT_MAX: usize = 8;

/// Keys in the order of the last objects, with those that some of these left out.
#[derive(Default)]
pub struct KnownKeys {
    keys: Vec<KnownKey>,
}

#[derive(Default)]
struct KnownKey {
    /// All that stands before a value, such as `, "key": `; it begins with a comma or a brace.
    lead: Vec<u8>,
    /// Where the key is in it.
    key: Range<usize>,
    column: Option<usize>,
}

impl KnownKeys {
    /// Of a key that may come next, if `json` begins with all that stands before its value: how many
    /// bytes that are, and the column of the key if it is read.
    pub fn expected(&self, json: &[u8], cursor: &mut usize) -> Option<(usize, Option<usize>)> {
        let (skipped, known) = self.next(*cursor, |known| begins_with(json, &known.lead))?;
        *cursor += skipped + 1;
        Some((known.lead.len(), known.column))
    }

    /// The column of a key that may come next, if it is read.
    pub fn find(&self, key: &str, cursor: &mut usize) -> Option<Option<usize>> {
        let is = |known: &KnownKey| known.lead[known.key.clone()] == *key.as_bytes();
        let (skipped, known) = self.next(*cursor, is)?;
        *cursor += skipped + 1;
        Some(known.column)
    }

    fn next(&self, cursor: usize, is: impl Fn(&KnownKey) -> bool) -> Option<(usize, &KnownKey)> {
        let keys = self.keys.get(cursor..)?.iter().take(LEFT_OUT_MAX + 1);
        keys.enumerate().find(|(_, known)| is(known))
    }

    /// Expects a key where it came. `lead`: what stood before its value, with the key, which has no
    /// escapes, at `key`.
    pub fn expect(
        &mut self,
        lead: &[u8],
        key: Range<usize>,
        column: Option<usize>,
        cursor: &mut usize,
    ) {
        if lead.len() > LEAD_BYTES_MAX || *cursor >= KEYS_MAX {
            return;
        }
        if *cursor == self.keys.len() {
            self.keys.push(KnownKey::default());
        }
        let known = &mut self.keys[*cursor];
        known.lead.clear();
        known.lead.extend_from_slice(lead);
        (known.key, known.column) = (key, column);
        *cursor += 1;
    }

    /// The same of a key of which nothing else is known. One that is not written as it reads is not
    /// looked for in text.
    pub fn remember(&mut self, key: &str, column: Option<usize>, cursor: &mut usize) {
        let is_plain = !key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        if is_plain && key.len() <= LEAD_BYTES_MAX {
            let lead = [b",\"", key.as_bytes(), b"\":"].concat();
            self.expect(&lead, 2..2 + key.len(), column, cursor);
        }
    }
}

/// `text.starts_with(beginning)`, without a call for the few bytes of a key.
fn begins_with(text: &[u8], beginning: &[u8]) -> bool {
    let Some(text) = text.get(..beginning.len()) else { return false };
    let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) else {
        return text.iter().eq(beginning);
    };
    // The last eight bytes may have been among the first already.
    let words = text.as_chunks::<8>().0.iter().zip(beginning.as_chunks::<8>().0);
    beginning.first_chunk() == Some(first)
        && beginning.last_chunk() == Some(last)
        && words.skip(1).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(keys: &[&str]) -> KnownKeys {
        let mut known = KnownKeys::default();
        let mut cursor = 0;
        keys.iter().enumerate().for_each(|(at, key)| known.remember(key, Some(at), &mut cursor));
        known
    }

    #[test]
    fn a_key_is_expected_where_it_came_or_a_little_before() {
        let known = known(&["a", "event_time", "a_name_of_many_letters", "d"]);
        for (cursor, json, expected) in [
            (0, ",\"a\":1", Some((5, 0, 1))),
            (0, ",\"event_time\":1", Some((14, 1, 2))),
            (1, ",\"a_name_of_many_letters\":", Some((26, 2, 3))),
            (1, ",\"a_name_of_many_letterz\":", None),
            (1, ",\"a_name_of_manx_letters\":", None),
            (1, ",\"event_timf\":1", None),
            (1, ",\"a\":1", None),
            (0, ",\"a\"", None),
            (0, "{\"a\":1", None),
            (0, ",\"a\" :1", None),
            (0, ",\"ab\":1", None),
            (9, ",\"a\":1", None),
        ] {
            let mut after = cursor;
            let found = known.expected(json.as_bytes(), &mut after);
            let found = found.map(|(bytes, column)| (bytes, column.unwrap(), after));
            assert_eq!(found, expected, "{json} at {cursor}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_name_whatever_is_around_it() {
        let mut known = KnownKeys::default();
        known.expect(b"{ \"key\" : ", 3..6, Some(7), &mut 0);
        assert_eq!(known.find("key", &mut 0), Some(Some(7)));
        assert_eq!(known.expected(b"{ \"key\" : 1", &mut 0), Some((10, Some(7))));
        known.expect(b",\"key\":", 2..5, None, &mut 0);
        assert_eq!((known.find("key", &mut 0), known.find("ke", &mut 0)), (Some(None), None));
    }

    #[test]
    fn what_was_left_out_is_still_known_and_what_is_new_is_added() {
        let mut known = known(&["a", "c"]);
        let mut cursor = 1;
        assert!(known.find("b", &mut cursor).is_none());
        known.remember("b", None, &mut cursor);
        assert!(known.find("c", &mut cursor).is_none());
        known.remember("c", Some(1), &mut cursor);
        let mut cursor = 1;
        assert_eq!(known.find("c", &mut cursor).unwrap(), Some(1));
        assert_eq!((cursor, known.keys.len()), (3, 3));
    }

    #[test]
    fn so_many_keys_are_remembered() {
        let keys: Vec<String> = (0..KEYS_MAX + 10).map(|at| format!("k{at}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(known(&keys[..3_000]).keys.len(), 3_000);
        assert_eq!(known(&keys).keys.len(), KEYS_MAX);
        assert_eq!(known(&[&"k".repeat(LEAD_BYTES_MAX)]).keys.len(), 0);
    }

    #[test]
    fn a_key_that_is_written_with_escapes_is_not_looked_for_in_text() {
        for key in ["a\"b", "a\\", "a\u{1}"] {
            assert_eq!(known(&[key]).keys.len(), 0, "{key}");
        }
    }
}

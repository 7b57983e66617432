//! The keys that objects have had, in their order: the next object most likely has them too.

/// Keys that are remembered, and the bytes of each.
const KEYS_MAX: usize = 16_384;
const KEY_BYTES_MAX: usize = 128;
/// Keys that an object may leave out in a row and still be followed.
const LEFT_OUT_MAX: usize = 8;

/// Keys in the order of the last objects, with those that some of these left out.
#[derive(Default)]
pub struct KnownKeys {
    keys: Vec<KnownKey>,
}

struct KnownKey {
    /// With its quotes, as it is written where nothing in it is escaped.
    quoted: Vec<u8>,
    column: Option<usize>,
}

impl KnownKeys {
    /// The key that stands at the beginning of `json`, if it is one that may come next: its bytes with
    /// quotes, and its column.
    pub fn expected(&self, json: &[u8], cursor: &mut usize) -> Option<(usize, Option<usize>)> {
        let nearest = self.keys.get(*cursor..)?.iter().take(LEFT_OUT_MAX + 1);
        let (skipped, known) =
            nearest.enumerate().find(|(_, known)| begins_with(json, &known.quoted))?;
        *cursor += skipped + 1;
        Some((known.quoted.len(), known.column))
    }

    /// The same of a key without quotes.
    pub fn find(&self, key: &str, cursor: &mut usize) -> Option<Option<usize>> {
        let nearest = self.keys.get(*cursor..)?.iter().take(LEFT_OUT_MAX + 1);
        let is = |known: &KnownKey| &known.quoted[1..known.quoted.len() - 1] == key.as_bytes();
        let (skipped, known) = nearest.enumerate().find(|(_, known)| is(known))?;
        *cursor += skipped + 1;
        Some(known.column)
    }

    /// Expects the key where it came. A key that is not written as it reads is none of those that are
    /// found in text.
    pub fn remember(&mut self, key: &str, column: Option<usize>, cursor: &mut usize) {
        let is_plain = !key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        if !is_plain || key.len() > KEY_BYTES_MAX || *cursor >= KEYS_MAX {
            return;
        }
        if *cursor == self.keys.len() {
            self.keys.push(KnownKey { quoted: Vec::new(), column });
        }
        let known = &mut self.keys[*cursor];
        known.column = column;
        known.quoted.clear();
        known.quoted.push(b'"');
        known.quoted.extend_from_slice(key.as_bytes());
        known.quoted.push(b'"');
        *cursor += 1;
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.keys.len()
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
            (0, "\"a\":1", Some((3, 0, 1))),
            (0, "\"event_time\":1", Some((12, 1, 2))),
            (1, "\"a_name_of_many_letters\"", Some((24, 2, 3))),
            (1, "\"a_name_of_many_letterz\"", None),
            (1, "\"a_name_of_manx_letters\"", None),
            (1, "\"event_timf\":1", None),
            (1, "\"a\":1", None),
            (0, "\"a", None),
            (0, "\"ab\":1", None),
            (9, "\"a\":1", None),
        ] {
            let mut after = cursor;
            let found = known.expected(json.as_bytes(), &mut after);
            let found = found.map(|(bytes, column)| (bytes, column.unwrap(), after));
            assert_eq!(found, expected, "{json} at {cursor}");
        }
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
        assert_eq!((cursor, known.len()), (3, 3));
    }

    #[test]
    fn so_many_keys_are_remembered() {
        let keys: Vec<String> = (0..KEYS_MAX + 10).map(|at| format!("k{at}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(known(&keys[..3_000]).len(), 3_000);
        assert_eq!(known(&keys).len(), KEYS_MAX);
        assert_eq!(known(&[&"k".repeat(KEY_BYTES_MAX + 1)]).len(), 0);
    }

    #[test]
    fn a_key_that_is_written_with_escapes_is_not_looked_for_in_text() {
        for key in ["a\"b", "a\\", "a\u{1}"] {
            assert_eq!(known(&[key]).len(), 0, "{key}");
        }
    }
}

//! Key, headers and time of a message, as bytes of one column.
//!
//! The layout is the time in ms (8 bytes), the key, then the name and the value of each header; each
//! of these with its length before it (4 bytes, `u32::MAX` for null). All integers little-endian.

/// The length that stands for null.
const NULL: u32 = u32::MAX;

/// Appends an envelope to `bytes`.
pub fn encode<'a>(
    bytes: &mut Vec<u8>,
    time_ms: i64,
    key: Option<&[u8]>,
    headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) {
    bytes.extend(time_ms.to_le_bytes());
    put(bytes, key);
    for (name, value) in headers {
        put(bytes, Some(name));
        put(bytes, value);
    }
}

fn put(bytes: &mut Vec<u8>, text: Option<&[u8]>) {
    bytes.extend(text.map_or(NULL, |text| text.len() as u32).to_le_bytes());
    bytes.extend(text.unwrap_or_default());
}

/// What [`encode`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// When the message was sent, in ms since 1970.
    pub time_ms: i64,
    pub key: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// `None` if `bytes` are no envelope.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (time, mut rest) = bytes.split_first_chunk()?;
        let key = take(&mut rest)?;
        Some(Envelope { time_ms: i64::from_le_bytes(*time), key, headers: rest })
    }

    /// Names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || Some((take(&mut rest)??, take(&mut rest)?)))
    }

    /// The value of the last header called `name`.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(found, _)| *found == name.as_bytes()).last()?.1
    }
}

/// The next text, or null.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length);
    if length == NULL {
        *rest = after;
        return Some(None);
    }
    let (text, after) = after.split_at_checked(length as usize)?;
    *rest = after;
    Some(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        let headers: [(&[u8], Option<&[u8]>); 3] =
            [(b"traceparent", Some(b"00-a")), (b"", None), (b"traceparent", Some(b"00-b"))];
        let mut bytes = Vec::new();
        encode(&mut bytes, -5, Some(b""), headers);
        let envelope = Envelope::of(&bytes).unwrap();
        assert_eq!((envelope.time_ms, envelope.key), (-5, Some(&b""[..])));
        assert_eq!(envelope.headers().collect::<Vec<_>>(), headers);
        assert_eq!(envelope.header("traceparent"), Some(&b"00-b"[..]));
        assert_eq!(envelope.header("id"), None);
        let mut bytes = Vec::new();
        encode(&mut bytes, 5, None, []);
        let envelope = Envelope::of(&bytes).unwrap();
        assert_eq!((envelope.key, envelope.headers().count()), (None, 0));
    }

    #[test]
    fn what_is_cut_off_is_no_envelope_or_has_fewer_headers() {
        let mut bytes = Vec::new();
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"name", Some(b"value"))];
        encode(&mut bytes, 7, Some(b"key"), headers);
        for length in 0..bytes.len() {
            let cut = Envelope::of(&bytes[..length]);
            assert_eq!(cut.is_some(), length >= 15, "{length}");
            assert_eq!(cut.map_or(0, |cut| cut.headers().count()), 0, "{length}");
        }
    }
}

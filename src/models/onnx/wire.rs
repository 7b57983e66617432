//! The wire format of Protocol Buffers, read without a schema.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Number(_) => None,
        }
    }
}

/// The fields of a message, by number; ends where the bytes stop making sense.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Fields(message)
    }

    fn take(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

/// The integers of a repeated field, packed or not.
pub fn integers(value: Value) -> Vec<i64> {
    match value {
        Value::Number(number) => vec![number as i64],
        Value::Bytes(mut packed) => {
            std::iter::from_fn(|| varint(&mut packed)).map(|number| number as i64).collect()
        }
    }
}

/// The floats of a repeated field, packed or not.
pub fn floats(value: Value) -> Vec<f32> {
    let bytes = value.bytes().unwrap_or_default().as_chunks().0;
    bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_until_they_stop_making_sense() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x12, 0x05, b'x'];
        let fields: Vec<_> = Fields::new(&bytes).collect();
        assert_eq!(fields, [(1, Value::Number(150)), (2, Value::Bytes(b"hi"))]);
    }

    #[test]
    fn numbers_are_packed_or_not() {
        assert_eq!(integers(Value::Number(u64::MAX)), [-1]);
        assert_eq!(integers(Value::Bytes(&[1, 0x96, 0x01])), [1, 150]);
        assert_eq!(floats(Value::Bytes(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])), [1.0, -2.0]);
    }
}

//! How deep the schema in the footer of a Parquet file is nested: just enough of Thrift's compact
//! protocol to find out without recursion.

/// Kinds of values in Thrift's compact protocol.
mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
}

/// `FileMetaData.schema` and `SchemaElement.num_children`.
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;
/// Structures within structures that are passed over.
const SKIP_DEPTH_MAX: u32 = 32;

/// Levels of the schema in a footer, its root the first; `None` if that cannot be made out.
pub fn nesting(footer: &[u8]) -> Option<usize> {
    let mut compact = Compact(footer);
    let mut last = 0;
    while let Some((kind, id)) = compact.field(&mut last)? {
        if id == SCHEMA && kind == kind::LIST {
            return deepest(&mut compact);
        }
        compact.skip(kind, SKIP_DEPTH_MAX)?;
    }
    None
}

/// The schema is a list of its nodes, parents before their children.
fn deepest(compact: &mut Compact) -> Option<usize> {
    let (elements, kind) = compact.list()?;
    if kind != kind::STRUCT {
        return None;
    }
    // Children that are still to come, by level.
    let mut open: Vec<u64> = Vec::new();
    let mut deepest = 0;
    for _ in 0..elements {
        let mut children = 0;
        let mut last = 0;
        while let Some((kind, id)) = compact.field(&mut last)? {
            if id == CHILDREN && (kind::I16..=kind::I64).contains(&kind) {
                children = u64::try_from(zigzag(compact.varint()?)).ok()?;
            } else {
                compact.skip(kind, SKIP_DEPTH_MAX)?;
            }
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        deepest = deepest.max(open.len() + 1);
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Some(deepest)
}

fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The kind and number of a structure's next field; `Some(None)` at its end.
    fn field(&mut self, last: &mut i64) -> Option<Option<(u8, i64)>> {
        let header = self.byte()?;
        let (delta, kind) = (i64::from(header >> 4), header & 0xf);
        if kind == 0 {
            return Some(None);
        }
        *last = if delta == 0 { zigzag(self.varint()?) } else { last.checked_add(delta)? };
        Some(Some((kind, *last)))
    }

    /// The length of a list, and the kind of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let header = self.byte()?;
        let short = u64::from(header >> 4);
        let length = if short == 15 { self.varint()? } else { short };
        Some((length, header & 0xf))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let depth_below = depth.checked_sub(1)?;
        match kind {
            kind::TRUE | kind::FALSE => Some(()),
            kind::BYTE => self.pass(1),
            kind::I16..=kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.pass(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            kind::LIST | kind::SET => {
                let (length, kind) = self.list()?;
                self.skip_elements(length, &[kind], depth_below)
            }
            kind::MAP => {
                let length = self.varint()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                self.skip_elements(length, &[kinds >> 4, kinds & 0xf], depth_below)
            }
            kind::STRUCT => {
                let mut last = 0;
                while let Some((kind, _)) = self.field(&mut last)? {
                    self.skip(kind, depth_below)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Each takes a byte at least, so a length that is made up ends with the bytes.
    fn skip_elements(&mut self, length: u64, kinds: &[u8], depth: u32) -> Option<()> {
        for _ in 0..length {
            for &kind in kinds {
                match kind {
                    kind::TRUE | kind::FALSE => self.pass(1)?,
                    kind => self.skip(kind, depth)?,
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::new_empty_array;
    use arrow::datatypes::{DataType, Field, Fields, Schema};
    use arrow::record_batch::RecordBatch;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn footer(columns: Vec<Field>) -> Vec<u8> {
        let schema = Arc::new(Schema::new(columns));
        let empty = schema.fields().iter().map(|field| new_empty_array(field.data_type()));
        let batch = RecordBatch::try_new(schema.clone(), empty.collect()).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let end = bytes.len() - 8;
        let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
        bytes[end - length..end].to_vec()
    }

    fn within(levels: usize) -> Field {
        (0..levels).fold(Field::new("x", DataType::Int64, true), |field, _| {
            Field::new("x", DataType::Struct(Fields::from(vec![field])), true)
        })
    }

    #[test]
    fn levels_are_those_that_were_written() {
        for levels in [0, 1, 2, 30] {
            let columns = vec![within(1), within(levels), within(0)];
            assert_eq!(nesting(&footer(columns)), Some(levels.max(1) + 2), "{levels}");
        }
        let list = DataType::new_list(DataType::Utf8, true);
        assert_eq!(nesting(&footer(vec![Field::new("l", list, true)])), Some(4));
    }

    #[test]
    fn what_is_no_footer_has_no_levels() {
        let whole = footer(vec![within(3)]);
        for end in 0..whole.len() {
            let _ = nesting(&whole[..end]);
        }
        for bytes in
            [&b""[..], b"nonsense", &[0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x1b; 99]]
        {
            assert_eq!(nesting(bytes), None, "{bytes:?}");
        }
    }
}

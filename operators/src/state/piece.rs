//! A piece of state, and its bytes.
//!
//! ```text
//! magic 8 │ format u32 │ length u16, part │ key group u16 │ fingerprint u64 │ length u64, Arrow IPC stream │ XXH3-64 of all before
//! ```
//! Integers are little-endian. The checksum is looked at before anything but magic and format.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use twox_hash::XxHash3_64;

use super::StateError;
use crate::key_group::KEY_GROUPS;

const MAGIC: &[u8; 8] = b"DRIFTST\n";

/// Of the bytes of a piece; a piece of another one is refused.
pub const FORMAT: u32 = 1;

/// What one part of a job holds of one key group.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub part: String,
    /// Below [`KEY_GROUPS`].
    pub group: u64,
    /// Of the columns, and of what the job says of the part.
    pub fingerprint: u64,
    pub rows: RecordBatch,
}

impl Piece {
    /// # Errors
    /// If the rows cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        let mut body = Vec::new();
        let mut writer = StreamWriter::try_new(&mut body, self.rows.schema_ref())?;
        writer.write(&self.rows)?;
        writer.finish()?;
        drop(writer);
        let mut bytes = Vec::with_capacity(body.len() + self.part.len() + 48);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.part.len() as u16).to_le_bytes());
        bytes.extend_from_slice(self.part.as_bytes());
        bytes.extend_from_slice(&(self.group as u16).to_le_bytes());
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        let checksum = XxHash3_64::oneshot(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// # Errors
    /// If the bytes are not those of a piece, or of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut input = bytes;
        if take(&mut input, MAGIC.len())? != MAGIC {
            return Err(StateError::damaged("it does not begin as one"));
        }
        let found = u32::from_le_bytes(fixed(&mut input)?);
        if found != FORMAT {
            return Err(StateError::OtherVersion { found, known: FORMAT });
        }
        let Some((before, checksum)) = bytes.split_last_chunk::<8>() else {
            return Err(StateError::damaged("it is cut off"));
        };
        if XxHash3_64::oneshot(before) != u64::from_le_bytes(*checksum) {
            return Err(StateError::damaged("its checksum is another"));
        }
        let length = u16::from_le_bytes(fixed(&mut input)?).into();
        let part = std::str::from_utf8(take(&mut input, length)?);
        let part = part.map_err(|_| StateError::damaged("its part has no name"))?.to_owned();
        let group = u64::from(u16::from_le_bytes(fixed(&mut input)?));
        let fingerprint = u64::from_le_bytes(fixed(&mut input)?);
        let length = u64::from_le_bytes(fixed(&mut input)?);
        if group >= KEY_GROUPS || input.len() as u64 != length.saturating_add(8) {
            return Err(StateError::damaged("its key group or its length is out of range"));
        }
        let rows = rows(take(&mut input, length as usize)?)?;
        Ok(Piece { part, group, fingerprint, rows })
    }
}

fn rows(body: &[u8]) -> Result<RecordBatch, StateError> {
    let unread = |error| StateError::damaged(format!("its columns cannot be read ({error})"));
    let reader = StreamReader::try_new(body, None).map_err(unread)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    Ok(concat_batches(&schema, &batches)?)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], StateError> {
    let taken = input.split_off(..length);
    taken.ok_or_else(|| StateError::damaged("it is cut off"))
}

fn fixed<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], StateError> {
    let mut fixed = [0; N];
    fixed.copy_from_slice(take(input, N)?);
    Ok(fixed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;
    use crate::state::PieceKind;

    fn rows() -> RecordBatch {
        let columns: [(&str, ArrayRef, bool); 2] = [
            ("key", Arc::new(StringArray::from(vec!["a", ""])), false),
            ("time", Arc::new(Int64Array::from(vec![Some(7), None])), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn kind(part: &str, spec: &str) -> PieceKind {
        PieceKind::new(part, rows().schema(), &[spec.to_owned()])
    }

    #[test]
    fn a_piece_is_what_it_was_before_it_was_bytes() {
        let piece = kind("gate", "").piece(255, rows()).unwrap();
        let found = Piece::decode(&piece.encode().unwrap()).unwrap();
        assert_eq!(found, piece);
        assert_eq!(kind("gate", "").open(&found).unwrap(), &rows());
    }

    #[test]
    fn each_damaged_byte_and_each_cut_is_seen() {
        let bytes = kind("gate", "").piece(3, rows()).unwrap().encode().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let error = Piece::decode(&damaged).unwrap_err();
            let of_format = (8..12).contains(&at);
            assert_eq!(matches!(error, StateError::OtherVersion { .. }), of_format, "byte {at}");
            assert_eq!(matches!(error, StateError::Damaged { .. }), !of_format, "byte {at}");
            assert!(Piece::decode(&bytes[..at]).is_err(), "the first {at} bytes");
        }
        let longer = [bytes, vec![0]].concat();
        assert!(Piece::decode(&longer).is_err());
    }

    #[test]
    fn a_piece_of_another_part_or_job_is_refused() {
        let piece = kind("windows_1", "sum of x over 5 ms").piece(3, rows()).unwrap();
        let error = |kind: PieceKind| kind.open(&piece).unwrap_err();
        let other_part = error(kind("windows_2", "sum of x over 5 ms"));
        assert!(matches!(other_part, StateError::OtherPart { .. }));
        let other_job = error(kind("windows_1", "sum of x over 6 ms"));
        assert_eq!(
            other_job.to_string(),
            "the state of windows_1 is of another job, or of this one before it was changed; undo the change, or start without state"
        );
        let narrow = Arc::new(rows().schema().project(&[0]).unwrap());
        let of_other_columns = PieceKind::new("windows_1", narrow, &[]);
        assert!(matches!(error(of_other_columns), StateError::OtherJob { .. }));
    }
}

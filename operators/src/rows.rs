//! The container on every edge that carries rows: one Arrow [`RecordBatch`].

use std::cell::OnceCell;
use std::collections::HashMap;
use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::beside::{bytes_beside, packed};

/// One batch of rows, of one of the kinds that an edge carries ([`Rows::kind`]), and the number its
/// sender gave it ([`Rows::number`]).
///
/// Between threads of one process the batch travels as it is. Between processes it travels as *row
/// count, kind, number, IPC record batch without schema*: `from_bytes` can neither fail nor know a schema,
/// so the bytes are kept until the receiving operator decodes them with the schema of its edge.
#[derive(Clone, Default)]
pub struct Rows {
    payload: Payload,
    kind: usize,
    number: u64,
    encoded: OnceCell<Vec<u8>>,
}

#[derive(Clone, Default)]
enum Payload {
    #[default]
    Empty,
    Batch(RecordBatch),
    Bytes {
        rows: u64,
        bytes: Bytes,
    },
}

/// Bytes of the values of rows, and of those that lie beside them, without those of others in the same
/// memory.
pub fn own_bytes(rows: &RecordBatch) -> usize {
    let of_column = |column: &ArrayRef| {
        let data = column.to_data();
        // Of some types it is not known.
        let bytes = data.get_slice_memory_size();
        bytes.map_or_else(|_| column.get_array_memory_size(), |bytes| bytes + bytes_beside(column))
    };
    rows.columns().iter().map(of_column).sum()
}

const WORD: usize = 8;
/// Row count, kind, number, and length of the IPC metadata.
const HEADER: usize = 4 * WORD;

impl Rows {
    pub fn new(batch: RecordBatch) -> Self {
        Self::of_kind(0, batch)
    }

    /// Rows of one of the kinds of an edge that carries several, each with a schema of its own.
    pub fn of_kind(kind: usize, batch: RecordBatch) -> Self {
        Rows { payload: Payload::Batch(batch), kind, number: 0, encoded: OnceCell::new() }
    }

    /// The same with a number of the sender's choice, such as the sequence number of the first row.
    #[must_use]
    pub fn with_number(self, number: u64) -> Self {
        Rows { number, encoded: OnceCell::new(), ..self }
    }

    pub fn kind(&self) -> usize {
        self.kind
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn len(&self) -> usize {
        match &self.payload {
            Payload::Empty => 0,
            Payload::Batch(batch) => batch.num_rows(),
            Payload::Bytes { rows, .. } => *rows as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch, decoded with the schema of the edge it came over; leaves the container empty.
    ///
    /// # Errors
    /// If the bytes are not a record batch of `schema`: the sender builds another graph.
    pub fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        self.encoded = OnceCell::new();
        match std::mem::take(&mut self.payload) {
            Payload::Empty => Ok(RecordBatch::new_empty(schema.clone())),
            Payload::Batch(batch) => Ok(batch),
            Payload::Bytes { bytes, .. } => decode(&bytes, schema),
        }
    }

    fn encoded(&self) -> &[u8] {
        self.encoded.get_or_init(|| match &self.payload {
            Payload::Batch(batch) => encode(&packed(batch.clone()), self.kind, self.number),
            Payload::Empty => vec![0; HEADER],
            Payload::Bytes { bytes, .. } => bytes.to_vec(),
        })
    }
}

fn encode(batch: &RecordBatch, kind: usize, number: u64) -> Vec<u8> {
    let (_, encoded) = IpcDataGenerator::default()
        .encode(
            batch,
            &mut DictionaryTracker::new(false),
            &IpcWriteOptions::default(),
            &mut IpcWriteContext::default(),
        )
        .expect("a batch without dictionaries, uncompressed, always encodes");
    let (metadata, body) = (encoded.ipc_message, encoded.arrow_data);
    let padded = metadata.len().next_multiple_of(WORD);
    let total = (HEADER + padded + body.len()).next_multiple_of(WORD);
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&(batch.num_rows() as u64).to_le_bytes());
    bytes.extend_from_slice(&(kind as u64).to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&metadata);
    bytes.resize(HEADER + padded, 0);
    bytes.extend_from_slice(&body);
    bytes.resize(total, 0);
    bytes
}

fn word(bytes: &[u8], index: usize) -> u64 {
    bytes
        .get(index * WORD..(index + 1) * WORD)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let malformed = |what: &str| ArrowError::IpcError(format!("rows from another worker: {what}"));
    let metadata_len = word(bytes, 3) as usize;
    if metadata_len == 0 {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let metadata =
        bytes.get(HEADER..HEADER + metadata_len).ok_or_else(|| malformed("cut off in metadata"))?;
    let body = bytes
        .get(HEADER + metadata_len.next_multiple_of(WORD)..)
        .ok_or_else(|| malformed("cut off in body"))?;
    let message =
        arrow::ipc::root_as_message(metadata).map_err(|error| malformed(&error.to_string()))?;
    let header = message.header_as_record_batch().ok_or_else(|| malformed("not a record batch"))?;
    read_record_batch(
        &Buffer::from(body),
        header,
        schema.clone(),
        &HashMap::new(),
        None,
        &message.version(),
    )
}

impl timely::Accountable for Rows {
    fn record_count(&self) -> i64 {
        self.len() as i64
    }
}

impl ContainerBytes for Rows {
    fn from_bytes(bytes: Bytes) -> Self {
        let (rows, kind, number) = (word(&bytes, 0), word(&bytes, 1) as usize, word(&bytes, 2));
        Rows { payload: Payload::Bytes { rows, bytes }, kind, number, encoded: OnceCell::new() }
    }

    fn length_in_bytes(&self) -> usize {
        self.encoded().len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        writer.write_all(self.encoded()).expect("timely hands out a buffer of length_in_bytes");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, StringArray};
    use timely::Accountable;
    use timely::bytes::arc::BytesMut;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("s", Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")])) as _),
            ("f", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None])) as _),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true])) as _),
        ])
        .unwrap()
    }

    fn over_the_wire(rows: &Rows) -> Rows {
        let mut bytes = Vec::new();
        rows.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), rows.length_in_bytes());
        assert_eq!(bytes.len() % WORD, 0);
        Rows::from_bytes(BytesMut::from(bytes).freeze())
    }

    #[test]
    fn a_batch_and_its_slice_survive_the_wire() {
        for batch in [batch(), batch().slice(1, 2), batch().slice(2, 0)] {
            let mut there = over_the_wire(&Rows::of_kind(3, batch.clone()).with_number(7));
            assert_eq!(there.record_count(), batch.num_rows() as i64);
            assert_eq!((there.kind(), there.number()), (3, 7));
            let back = there.take(&batch.schema()).unwrap();
            assert_eq!(format!("{back:?}"), format!("{batch:?}"));
        }
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let mut bytes = Vec::new();
        Rows::new(batch()).into_bytes(&mut bytes);
        bytes.truncate(HEADER + 8);
        let mut rows = Rows::from_bytes(BytesMut::from(bytes).freeze());
        assert!(rows.take(&batch().schema()).is_err());
    }
}

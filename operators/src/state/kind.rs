//! What a piece of a part has to be.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use twox_hash::XxHash3_64;

use super::{Piece, StateError};

/// The pieces of one part of a job: their columns, and what they belong to.
#[derive(Clone, Debug)]
pub struct PieceKind {
    part: String,
    schema: SchemaRef,
    fingerprint: u64,
}

impl PieceKind {
    /// Pieces of `part` with the columns of `schema`. `spec`: all that the job says of the part and that
    /// its state depends on, in words.
    pub fn new(part: impl Into<String>, schema: SchemaRef, spec: &[String]) -> Self {
        let mut text = String::new();
        for field in schema.fields() {
            let null = if field.is_nullable() { "?" } else { "" };
            // Nothing fails that writes to a string.
            let _ = writeln!(text, "{} {}{null}", field.name(), field.data_type());
        }
        spec.iter().for_each(|line| {
            let _ = writeln!(text, "{}:{line}", line.len());
        });
        let fingerprint = XxHash3_64::oneshot(text.as_bytes());
        PieceKind { part: part.into(), schema, fingerprint }
    }

    pub fn part(&self) -> &str {
        &self.part
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The piece of a key group.
    ///
    /// # Errors
    /// If the columns are not those of the schema.
    pub fn piece(&self, group: u64, rows: RecordBatch) -> Result<Piece, StateError> {
        let columns = rows.columns().to_vec();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Piece { part: self.part.clone(), group, fingerprint: self.fingerprint, rows })
    }

    /// The rows of a piece of this kind.
    ///
    /// # Errors
    /// If it is one of another part, or of another job.
    pub fn open<'a>(&self, piece: &'a Piece) -> Result<&'a RecordBatch, StateError> {
        let Piece { part, fingerprint, rows, .. } = piece;
        if *part != self.part {
            let (found, wanted) = (part.clone(), self.part.clone());
            return Err(StateError::OtherPart { found, wanted });
        }
        if *fingerprint != self.fingerprint || rows.schema_ref().fields() != self.schema.fields() {
            return Err(StateError::OtherJob { part: part.clone() });
        }
        Ok(rows)
    }
}

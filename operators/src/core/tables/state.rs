//! The versions of the keys of one key group, as a piece of state: rows of the table's own columns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::super::values::{NOWHERE, Place};
use super::super::versions::{Kept, Key};
use super::TableOwner;
use crate::as_of::table::{AsOfTable, pack};
use crate::key_group::group_of_bytes;
use crate::state::groups::by_group;
use crate::state::{Piece, PieceKind, StateError};

/// The pieces of the versions of one table.
#[derive(Clone, Debug)]
pub struct VersionPieces {
    kind: PieceKind,
    key_type: DataType,
    is_fine: bool,
}

impl VersionPieces {
    pub fn new(part: String, table: &AsOfTable) -> Self {
        let spec = [table.name.clone(), format!("{:?}", table.max_age_ms)];
        VersionPieces {
            kind: PieceKind::new(part, table.schema(), &spec),
            key_type: table.key_type.clone(),
            is_fine: table.fine,
        }
    }

    pub fn part(&self) -> &str {
        self.kind.part()
    }
}

/// The piece of the watermarks of epochs whose rows may still look up: one for all tables and workers.
pub fn passed_kind(part: String) -> PieceKind {
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("watermark", DataType::Int64, false)]));
    PieceKind::new(part, schema, &[])
}

impl TableOwner {
    /// The pieces of some key groups.
    ///
    /// # Errors
    /// If the table is not the one that the pieces are of.
    pub fn export(
        &self,
        pieces: &VersionPieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        let versions = self.versions.all().map(|kept| {
            let group = match kept.key {
                Key::Text(key) => group_of_bytes(key.as_bytes()),
                Key::Number(key) => group_of_bytes(&key.to_le_bytes()),
            };
            (group, kept)
        });
        let by_group = by_group(versions, &groups).into_iter();
        let piece = |(group, mut versions): (u64, Vec<Kept>)| {
            versions.sort_by_key(|kept| kept.key);
            let rows = RecordBatch::try_new(
                pieces.kind.schema().clone(),
                self.columns(pieces, &versions)?,
            )?;
            pieces.kind.piece(group, rows)
        };
        by_group.map(piece).collect()
    }

    fn columns(&self, pieces: &VersionPieces, kept: &[Kept]) -> Result<Vec<ArrayRef>, StateError> {
        let all = || kept.iter().map(|kept| (kept.version, kept.version.sequence));
        let places: Vec<Place> = all().map(|(version, _)| version.values).collect();
        let deleted = places.iter().map(|&place| Some(place == NOWHERE));
        let mut columns: Vec<ArrayRef> = vec![
            keys(kept, &pieces.key_type),
            Arc::new(Int64Array::from_iter_values(all().map(|(version, _)| version.valid_from.ms))),
            Arc::new(Int64Array::from_iter_values(all().map(|(_, sequence)| sequence.high))),
            Arc::new(deleted.collect::<BooleanArray>()),
            Arc::new(UInt32Array::from_iter_values(all().map(|(_, sequence)| sequence.partition))),
            Arc::new(UInt64Array::from_iter_values(all().map(|(_, sequence)| sequence.offset))),
        ];
        for values in &self.values {
            columns.push(values.gather(&places)?);
        }
        if pieces.is_fine {
            let fine = all().map(|(version, sequence)| pack(version.valid_from.ns, sequence.low));
            columns.push(Arc::new(UInt64Array::from_iter_values(fine)));
        }
        Ok(columns)
    }

    /// Adds the versions of a piece.
    ///
    /// # Errors
    /// If it is a piece of another table.
    pub fn import(&mut self, pieces: &VersionPieces, piece: &Piece) -> Result<(), StateError> {
        Ok(self.insert(pieces.kind.open(piece)?)?)
    }

    /// The watermarks of epochs whose rows may still look up.
    ///
    /// # Errors
    /// If they cannot be put into a column.
    pub fn export_passed(&self, kind: &PieceKind) -> Result<Piece, StateError> {
        let passed: ArrayRef = Arc::new(Int64Array::from_iter_values(self.passed.iter().copied()));
        kind.piece(0, RecordBatch::try_new(kind.schema().clone(), vec![passed])?)
    }

    /// # Errors
    /// If it is not a piece of this.
    pub fn import_passed(&mut self, kind: &PieceKind, piece: &Piece) -> Result<(), StateError> {
        let passed = kind.open(piece)?.column(0).as_primitive::<Int64Type>();
        // Another number of epochs may be under way than before: the newest count.
        let missing = self.passed.len().saturating_sub(passed.len());
        let before = std::iter::repeat_n(i64::MIN, missing);
        let skipped = passed.len().saturating_sub(self.passed.len());
        self.passed = before.chain(passed.values().iter().copied().skip(skipped)).collect();
        Ok(())
    }
}

fn keys(kept: &[Kept], key_type: &DataType) -> ArrayRef {
    let number = |kept: &Kept| match kept.key {
        Key::Number(key) => key,
        Key::Text(_) => 0,
    };
    match key_type {
        DataType::Utf8 => {
            let text = |kept: &Kept<'_>| match kept.key {
                Key::Text(key) => Some(key.to_owned()),
                Key::Number(_) => None,
            };
            Arc::new(kept.iter().map(text).collect::<StringArray>())
        }
        DataType::UInt64 => {
            let bits = kept.iter().map(|kept| number(kept).cast_unsigned());
            Arc::new(UInt64Array::from_iter_values(bits))
        }
        _ => Arc::new(Int64Array::from_iter_values(kept.iter().map(number))),
    }
}

#[cfg(test)]
mod tests;

//! What of the outputs of a worker is durable, as a piece of state.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt8Type, UInt64Type};

use super::Output;
use crate::state::{Piece, PieceKind, StateError};

/// What the part is called.
pub const PART: &str = "outputs";

static KIND: LazyLock<PieceKind> = LazyLock::new(|| {
    let schema = Schema::new(vec![
        Field::new("output", DataType::UInt8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("up_to_epoch", DataType::UInt64, false),
    ]);
    PieceKind::new(PART, Arc::new(schema), &[])
});

/// What one worker has made durable of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    pub output: Output,
    /// Since the worker began.
    pub rows: u64,
    /// Everything of this epoch and those before it.
    pub up_to_epoch: u64,
}

/// Under a key group of the worker.
///
/// # Errors
/// If it cannot be put into columns.
pub fn export(durable: &[Durable], group: u64) -> Result<Piece, StateError> {
    let outputs = durable.iter().map(|durable| u8::from(durable.output));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt8Array::from_iter_values(outputs)),
        Arc::new(UInt64Array::from_iter_values(durable.iter().map(|durable| durable.rows))),
        Arc::new(UInt64Array::from_iter_values(durable.iter().map(|durable| durable.up_to_epoch))),
    ];
    KIND.piece(group, RecordBatch::try_new(KIND.schema().clone(), columns)?)
}

/// What a piece says.
///
/// # Errors
/// If it says nothing of outputs.
pub fn import(piece: &Piece) -> Result<Vec<Durable>, StateError> {
    let rows = KIND.open(piece)?;
    let count = |column: usize| rows.column(column).as_primitive::<UInt64Type>().values();
    let counted = count(1).iter().zip(count(2));
    let outputs = rows.column(0).as_primitive::<UInt8Type>().values().iter();
    let durable = outputs.zip(counted).map(|(&output, (&rows, &up_to_epoch))| {
        let output = Output::try_from(output);
        let output = output.map_err(|_| StateError::damaged("an output is none"))?;
        Ok(Durable { output, rows, up_to_epoch })
    });
    durable.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_is_told_by_output() {
        let durable = [Output::Predictions, Output::Drift].map(|output| Durable {
            output,
            rows: 7,
            up_to_epoch: 3,
        });
        let piece = export(&durable, 128).unwrap();
        let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
        assert_eq!(import(&piece).unwrap(), durable);
    }
}

//! What drift and alerts look at of a row that was scored.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::layout::EventLayout;
use crate::model_input::ModelInput;

/// What drift watches of a scored row: event time, late flag, the model's numeric inputs, the score.
#[derive(Clone)]
pub struct Watched {
    pub schema: SchemaRef,
    /// Names of the watched columns: numeric inputs in order, then `prediction`.
    pub names: Vec<String>,
    columns: Vec<usize>,
    /// Time, late flag and score alone.
    of_scores: SchemaRef,
}

/// What is watched of rows of one epoch that one version of the model scored.
pub struct Seen {
    pub epoch: u64,
    /// Which version of the run; see [`Versions`](crate::drift::versions::Versions).
    pub version: usize,
    /// Whether the features of the rows are seen, too; they are once, whoever else scores them.
    pub with_features: bool,
    /// `[rows]`, as of [`Watched::batch`]; without features as of [`Watched::scores`].
    pub rows: RecordBatch,
}

#[cfg(test)]
impl Seen {
    /// All of rows that a version scored.
    pub fn of(rows: RecordBatch, version: usize) -> Self {
        Seen { epoch: 0, version, rows, with_features: true }
    }
}

/// The name that the score goes by in drift figures.
pub const PREDICTION: &str = "prediction";

impl Watched {
    pub const TIME: usize = 0;
    pub const LATE: usize = 1;
    pub const FIRST: usize = 2;

    pub fn new(enriched: &Schema, inputs: &[ModelInput]) -> Self {
        let numeric: Vec<&ModelInput> = inputs
            .iter()
            .filter(|input| enriched.field(input.column).data_type().is_numeric())
            .collect();
        let mut names: Vec<String> = numeric.iter().map(|input| input.name.clone()).collect();
        names.push(PREDICTION.to_owned());
        let mut fields = vec![
            Field::new("time", DataType::Int64, false),
            Field::new("late", DataType::Boolean, false),
        ];
        fields.extend(names.iter().map(|name| Field::new(name, DataType::Float64, true)));
        let columns = numeric.iter().map(|input| input.column).collect();
        let of_scores = [&fields[..Self::FIRST], &fields[fields.len() - 1..]].concat();
        let of_scores = Arc::new(Schema::new(of_scores));
        Watched { schema: Arc::new(Schema::new(fields)), names, columns, of_scores }
    }

    /// The same of scores alone, as of [`Seen`] without features.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn scores(
        &self,
        time: ArrayRef,
        late: ArrayRef,
        scores: &ArrayRef,
    ) -> Result<RecordBatch, ArrowError> {
        let columns = vec![time, late, cast(scores, &DataType::Float64)?];
        RecordBatch::try_new(self.of_scores.clone(), columns)
    }

    /// What is watched of rows that were scored, `[rows]`.
    ///
    /// # Errors
    /// If there are not as many scores as rows.
    pub fn batch(
        &self,
        events: &RecordBatch,
        layout: &EventLayout,
        scores: &ArrayRef,
    ) -> Result<RecordBatch, ArrowError> {
        let mut columns =
            vec![events.column(layout.time).clone(), events.column(layout.late).clone()];
        for &at in &self.columns {
            columns.push(cast(events.column(at), &DataType::Float64)?);
        }
        columns.push(cast(scores, &DataType::Float64)?);
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

//! The result of a row, as columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float32Builder, ListArray, RecordBatch,
    StringArray, StringBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::layout::EventLayout;
use crate::model::{ModelIdentity, Task};

/// What scoring adds to the rows it was given.
pub struct ScoredColumns {
    /// `[rows * width]`.
    pub predictions: Vec<f32>,
    pub width: usize,
    /// The tensors the model was given, row after row, if they are kept.
    pub inputs: Option<Vec<f32>>,
    /// Rows of the micro-batch each row was in, `[rows]`, and the ms its model took.
    pub run_batch_rows: Vec<u32>,
    pub run_inference_ms: Vec<f32>,
}

impl ScoredColumns {
    pub fn new(width: usize, keep_inputs: bool) -> Self {
        ScoredColumns {
            predictions: Vec::new(),
            width,
            inputs: keep_inputs.then(Vec::new),
            run_batch_rows: Vec::new(),
            run_inference_ms: Vec::new(),
        }
    }

    /// The one number of each row that stands for its prediction, `[rows]`.
    pub fn scores(&self, task: Task) -> Float32Array {
        self.vectors()
            .map(|vector| match task {
                Task::Binary => vector[1],
                Task::Multiclass => largest(vector),
                Task::Regression => vector[0],
            })
            .collect::<Vec<_>>()
            .into()
    }

    /// The probability of the most probable class, `[rows]`; null for a regression.
    pub fn confidences(&self, task: Task) -> Float32Array {
        let mut confidences = Float32Builder::with_capacity(self.run_batch_rows.len());
        for vector in self.vectors() {
            confidences.append_option((task != Task::Regression).then(|| largest(vector)));
        }
        confidences.finish()
    }

    /// Which rows have a prediction of finite numbers only, `[rows]`; `None` if all have.
    pub fn finite_rows(&self) -> Option<BooleanArray> {
        if self.predictions.iter().all(|number| number.is_finite()) {
            return None;
        }
        let is_finite = |vector: &[f32]| Some(vector.iter().all(|number| number.is_finite()));
        Some(self.vectors().map(is_finite).collect())
    }

    /// The prediction of a row.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.predictions[row * self.width..(row + 1) * self.width]
    }

    /// What scoring adds to the rows that are `kept`.
    pub fn filtered(&self, kept: &BooleanArray) -> Self {
        let rows = self.run_batch_rows.len();
        let of_rows = |values: &[f32]| -> Vec<f32> {
            let kept_rows = values.chunks_exact((values.len() / rows).max(1)).zip(kept);
            kept_rows
                .filter(|(_, kept)| *kept == Some(true))
                .flat_map(|(row, _)| row)
                .copied()
                .collect()
        };
        let batch_rows = self.run_batch_rows.iter().zip(kept);
        ScoredColumns {
            predictions: of_rows(&self.predictions),
            width: self.width,
            inputs: self.inputs.as_ref().map(|inputs| of_rows(inputs)),
            run_batch_rows: batch_rows
                .filter(|(_, kept)| *kept == Some(true))
                .map(|(n, _)| *n)
                .collect(),
            run_inference_ms: of_rows(&self.run_inference_ms),
        }
    }

    fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.predictions.chunks_exact(self.width)
    }
}

fn largest(vector: &[f32]) -> f32 {
    vector.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The position of the score in every prediction.
pub const SCORE: usize = 7;

/// The columns, by path, whose values hardly occur twice.
pub const UNIQUE: &[&str] = &[
    "event_id",
    "event_time",
    "prediction.list.item",
    "score",
    "confidence",
    "model_input.list.item",
];

/// A text that all rows of a batch have, or nearly all.
#[derive(Clone)]
struct Usual {
    text: String,
    /// For as many rows as the largest batch had.
    column: StringArray,
}

impl Usual {
    fn new(text: impl Into<String>) -> Self {
        Usual { text: text.into(), column: StringArray::new_null(0) }
    }

    /// The text, `[rows]`.
    fn repeated(&mut self, rows: usize) -> ArrayRef {
        if self.column.len() < rows {
            let mut column = StringBuilder::with_capacity(rows, rows * self.text.len());
            (0..rows).for_each(|_| column.append_value(&self.text));
            self.column = column.finish();
        }
        Arc::new(self.column.slice(0, rows))
    }

    /// The text, but `other` where `condition` is true.
    fn unless(&mut self, condition: &BooleanArray, other: &str) -> ArrayRef {
        if condition.true_count() == 0 {
            return self.repeated(condition.len());
        }
        let text = |other_here: Option<bool>| match other_here {
            Some(true) => Some(other),
            _ => Some(self.text.as_str()),
        };
        Arc::new(condition.iter().map(text).collect::<StringArray>())
    }
}

/// Which columns a prediction has, and how they are filled.
#[derive(Clone)]
pub struct PredictionFormat {
    pub schema: SchemaRef,
    layout: EventLayout,
    model_name: Usual,
    model_version: Usual,
    status: Usual,
    metadata: Usual,
    late_metadata: String,
    with_input: bool,
    with_run_columns: bool,
}

/// The columns that say where a row came from, when, and in what.
fn origin(layout: &EventLayout) -> impl Iterator<Item = usize> {
    [layout.partition, layout.offset, layout.read_at].into_iter().chain(layout.envelope)
}

fn float_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float32, false)))
}

impl PredictionFormat {
    /// `metadata` is a JSON object of what is the same for all rows.
    pub fn new(
        layout: EventLayout,
        model: ModelIdentity,
        metadata: serde_json::Map<String, serde_json::Value>,
        with_input: bool,
        with_run_columns: bool,
    ) -> Self {
        let field = Field::new;
        let key_type =
            layout.key.map_or(DataType::Utf8, |key| layout.schema.field(key).data_type().clone());
        let mut fields = vec![
            field("event_id", DataType::Utf8, false),
            field("key", key_type, true),
            field(
                "event_time",
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                false,
            ),
            field("model_name", DataType::Utf8, false),
            field("model_version", DataType::Utf8, false),
            field("status", DataType::Utf8, false),
            field("prediction", float_list(), false),
            field("score", DataType::Float32, false),
            field("confidence", DataType::Float32, true),
            field("error", DataType::Utf8, true),
            field("metadata", DataType::Utf8, false),
        ];
        if with_input {
            fields.push(field("model_input", float_list(), false));
        }
        if with_run_columns {
            fields.push(field("run_inference_ms", DataType::Float32, false));
            fields.push(field("run_batch_rows", DataType::UInt32, false));
            fields.push(field("run_worker", DataType::UInt32, false));
        }
        // Where the row came from and when, for the sink.
        fields.extend(origin(&layout).map(|at| layout.schema.field(at).clone()));
        let mut late = metadata.clone();
        late.insert("degraded".to_owned(), serde_json::json!(["late"]));
        PredictionFormat {
            schema: Arc::new(Schema::new(fields)),
            layout,
            model_name: Usual::new(model.name),
            model_version: Usual::new(model.version),
            status: Usual::new("ok"),
            metadata: Usual::new(serde_json::Value::Object(metadata).to_string()),
            late_metadata: serde_json::Value::Object(late).to_string(),
            with_input,
            with_run_columns,
        }
    }

    /// Predictions of `events`, `[rows]`, which begin with the columns of the layout.
    ///
    /// # Errors
    /// If the columns do not have as many rows as the events.
    pub fn batch(
        &mut self,
        events: &RecordBatch,
        scored: ScoredColumns,
        task: Task,
        worker: u32,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = events.num_rows();
        let late = self.layout.late(events);
        let times = self.layout.times(events).values().clone();
        let mut columns: Vec<ArrayRef> = vec![
            self.request_ids(events),
            self.keys(events),
            Arc::new(TimestampMillisecondArray::new(times, None).with_timezone("UTC")),
            self.model_name.repeated(rows),
            self.model_version.repeated(rows),
            self.status.unless(late, "degraded"),
        ];
        let [scores, confidences] = [scored.scores(task), scored.confidences(task)];
        columns.extend([
            float_lists(scored.predictions, scored.width, rows)?,
            Arc::new(scores) as ArrayRef,
            Arc::new(confidences),
            Arc::new(StringArray::new_null(rows)),
            self.metadata.unless(late, &self.late_metadata),
        ]);
        if self.with_input {
            let inputs = scored.inputs.unwrap_or_default();
            let width = inputs.len() / rows.max(1);
            columns.push(float_lists(inputs, width, rows)?);
        }
        if self.with_run_columns {
            columns.push(Arc::new(Float32Array::from(scored.run_inference_ms)));
            columns.push(Arc::new(UInt32Array::from(scored.run_batch_rows)));
            columns.push(Arc::new(UInt32Array::from_value(worker, rows)));
        }
        columns.extend(origin(&self.layout).map(|at| events.column(at).clone()));
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    fn request_ids(&self, events: &RecordBatch) -> ArrayRef {
        if let Some(ids) = self.layout.id.map(|id| events.column(id))
            && *ids.data_type() == DataType::Utf8
            && ids.null_count() == 0
        {
            return ids.clone();
        }
        let rows = 0..events.num_rows();
        Arc::new(StringArray::from_iter_values(rows.map(|row| self.layout.request_id(events, row))))
    }

    fn keys(&self, events: &RecordBatch) -> ArrayRef {
        match self.layout.key {
            Some(key) => events.column(key).clone(),
            None => Arc::new(StringArray::new_null(events.num_rows())),
        }
    }
}

fn float_lists(values: Vec<f32>, width: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
    let offsets: Vec<i32> = (0..=rows).map(|row| (row * width) as i32).collect();
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(Float32Array::from(values)), None)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    fn scored(predictions: Vec<f32>, inputs: Option<Vec<f32>>) -> ScoredColumns {
        let run_inference_ms = vec![0.5, 1.5, 2.5, 3.5];
        ScoredColumns {
            predictions,
            width: 2,
            inputs,
            run_batch_rows: vec![3, 3, 3, 1],
            run_inference_ms,
        }
    }

    #[test]
    fn one_number_that_is_not_finite_makes_no_prediction() {
        let all = scored(vec![0.0, 1.0, f32::MAX, f32::MIN, -0.0, 1e-45, 0.5, 0.5], None);
        assert!(all.finite_rows().is_none());
        let some = scored(vec![0.5, NAN, 0.25, 0.75, INF, 0.0, -INF, NAN], None);
        let finite = some.finite_rows().unwrap();
        assert_eq!(finite, BooleanArray::from(vec![false, true, false, false]));
        assert!(some.vector(2) == [INF, 0.0]);
        let kept = some.filtered(&finite);
        assert_eq!((kept.predictions, kept.inputs), (vec![0.25, 0.75], None));
        assert_eq!((kept.run_batch_rows, kept.run_inference_ms), (vec![3], vec![1.5]));
    }

    #[test]
    fn inputs_stay_with_their_rows() {
        let inputs = (0..12u8).map(f32::from).collect();
        let some = scored(vec![0.5, 0.5, NAN, 0.0, 0.25, 0.75, INF, 0.0], Some(inputs));
        let kept = some.filtered(&some.finite_rows().unwrap());
        assert_eq!(kept.inputs, Some(vec![0.0, 1.0, 2.0, 6.0, 7.0, 8.0]));
        let none = scored(vec![NAN; 8], Some(Vec::new()));
        let kept = none.filtered(&none.finite_rows().unwrap());
        assert_eq!(
            (kept.predictions, kept.inputs, kept.run_batch_rows),
            (vec![], Some(vec![]), vec![])
        );
    }
}

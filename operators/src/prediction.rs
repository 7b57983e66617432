//! The result of a row, as columns.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, Float32Array, ListArray, RecordBatch, StringBuilder,
    TimestampMillisecondArray, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::constant::{Constant, Usual};
use crate::features::rules::Rules;
use crate::layout::EventLayout;
use crate::model::{ModelIdentity, Task};
use crate::numbers::Numbers;
use crate::status::{RowNote, Statuses};

/// What scoring adds to the rows it was given.
pub struct ScoredColumns {
    /// `[rows * width]`.
    pub predictions: Numbers,
    pub width: usize,
    /// The tensors the model was given, row after row, if they are kept.
    pub inputs: Option<Vec<f32>>,
    /// Rows of the micro-batch each row was in, `[rows]`, and the ms its model took; empty where
    /// nobody asks for them.
    pub run_batch_rows: Vec<u32>,
    pub run_inference_ms: Vec<f32>,
    /// `[rows]`, where that is not the largest probability.
    pub confidences: Option<Numbers>,
    /// `[rows]`, where there is something to say of them.
    pub notes: Option<Vec<RowNote>>,
    /// Whether what scored them did in place of another.
    pub is_fallback: bool,
    keeps_runs: bool,
}

impl ScoredColumns {
    pub fn new(width: usize, keep_inputs: bool) -> Self {
        ScoredColumns {
            predictions: Numbers::with_capacity(false, 0),
            width,
            inputs: keep_inputs.then(Vec::new),
            run_batch_rows: Vec::new(),
            run_inference_ms: Vec::new(),
            confidences: None,
            notes: None,
            is_fallback: false,
            keeps_runs: true,
        }
    }

    /// What `format` has columns for, with room for so many rows.
    pub fn for_format(format: &PredictionFormat, width: usize, rows: usize) -> Self {
        ScoredColumns {
            predictions: Numbers::with_capacity(format.of_doubles, rows * width),
            keeps_runs: format.with_run_columns,
            ..ScoredColumns::new(width, format.with_input)
        }
    }

    /// The next `rows` rows were in a micro-batch of `batch_rows`, for which the model `took` so long.
    pub fn ran(&mut self, rows: usize, batch_rows: usize, took: Duration) {
        if self.keeps_runs {
            let took_ms = took.as_secs_f32() * 1e3;
            self.run_batch_rows.extend(std::iter::repeat_n(batch_rows as u32, rows));
            self.run_inference_ms.extend(std::iter::repeat_n(took_ms, rows));
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.predictions.len() / self.width.max(1)
    }
}

/// The positions of some columns in every prediction.
pub const STATUS: usize = 5;
pub const SCORE: usize = 7;
pub const CONFIDENCE: usize = 8;

/// The columns that every prediction has, in their order.
pub const COLUMNS: [&str; 11] = [
    "event_id",
    "key",
    "event_time",
    "model_name",
    "model_version",
    "status",
    "prediction",
    "score",
    "confidence",
    "error",
    "metadata",
];

/// Those that follow where a job has routes.
pub const ROUTE_COLUMNS: [&str; 2] = ["route", "variant"];

/// What the predictions of a lane say of it.
#[derive(Clone)]
pub struct RouteLabels {
    route: Usual,
    variant: Option<Usual>,
    no_variant: Constant,
}

impl RouteLabels {
    pub fn new(route: &str, variant: Option<&str>) -> Self {
        RouteLabels {
            route: Usual::new(route),
            variant: variant.map(Usual::new),
            no_variant: Constant::new(&DataType::Utf8),
        }
    }

    /// Of [`ROUTE_COLUMNS`], `[rows]` each.
    fn columns(&mut self, rows: usize) -> [ArrayRef; 2] {
        let variant = match &mut self.variant {
            Some(variant) => variant.repeated(rows),
            None => self.no_variant.null(rows),
        };
        [self.route.repeated(rows), variant]
    }
}

/// The columns, by path, whose values hardly occur twice.
pub const UNIQUE: &[&str] = &[
    "event_id",
    "event_time",
    "prediction.list.item",
    "score",
    "confidence",
    "model_input.list.item",
];

/// Which columns a prediction has, and how they are filled.
#[derive(Clone)]
pub struct PredictionFormat {
    pub schema: SchemaRef,
    layout: EventLayout,
    model_name: Usual,
    model_version: Usual,
    statuses: Statuses,
    utc: Arc<str>,
    no_key: Constant,
    no_confidence: Constant,
    no_error: Constant,
    predictions: Lists,
    inputs: Lists,
    with_input: bool,
    with_run_columns: bool,
    /// Whether predictions are doubles.
    of_doubles: bool,
}

/// The columns that say where a row came from, when, and in what.
fn origin(layout: &EventLayout) -> impl Iterator<Item = usize> {
    [layout.partition, layout.offset, layout.read_at].into_iter().chain(layout.envelope)
}

static FLOAT_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(false));
static DOUBLE_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(true));

fn item(is_double: bool) -> FieldRef {
    Arc::new(Field::new_list_field(Numbers::data_type(is_double), false))
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
            field("prediction", DataType::List(FLOAT_ITEM.clone()), false),
            field("score", DataType::Float32, false),
            field("confidence", DataType::Float32, true),
            field("error", DataType::Utf8, true),
            field("metadata", DataType::Utf8, false),
        ];
        if with_input {
            fields.push(field("model_input", DataType::List(FLOAT_ITEM.clone()), false));
        }
        if with_run_columns {
            fields.push(field("run_inference_ms", DataType::Float32, false));
            fields.push(field("run_batch_rows", DataType::UInt32, false));
            fields.push(field("run_worker", DataType::UInt32, false));
        }
        // Where the row came from and when, for the sink.
        fields.extend(origin(&layout).map(|at| layout.schema.field(at).clone()));
        PredictionFormat {
            schema: Arc::new(Schema::new(fields)),
            layout,
            model_name: Usual::new(model.name),
            model_version: Usual::new(model.version),
            statuses: Statuses::new(metadata),
            utc: "UTC".into(),
            no_key: Constant::new(&DataType::Utf8),
            no_confidence: Constant::new(&DataType::Float32),
            no_error: Constant::new(&DataType::Utf8),
            predictions: Lists::default(),
            inputs: Lists::default(),
            with_input,
            with_run_columns,
            of_doubles: false,
        }
    }

    /// The same, where rows may fail some of these rules and be scored: the last column of events says which
    /// they did.
    #[must_use]
    pub fn with_rules(self, rules: &Arc<Rules>) -> Self {
        PredictionFormat { statuses: self.statuses.with_rules(rules), ..self }
    }

    /// The same of a model whose predictions are doubles: so are the columns of its numbers.
    #[must_use]
    pub fn with_doubles(mut self) -> Self {
        let widened = |field: &FieldRef| {
            let data_type = match field.name().as_str() {
                "prediction" => DataType::List(DOUBLE_ITEM.clone()),
                "score" | "confidence" => DataType::Float64,
                _ => return field.clone(),
            };
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        };
        let own = self.schema.fields().iter().take(COLUMNS.len()).map(widened);
        let others = self.schema.fields().iter().skip(COLUMNS.len()).cloned();
        self.schema = Arc::new(Schema::new(own.chain(others).collect::<Fields>()));
        self.no_confidence = Constant::new(&DataType::Float64);
        self.of_doubles = true;
        self
    }

    /// The same of another model.
    #[must_use]
    pub fn of_model(self, model: &ModelIdentity) -> Self {
        PredictionFormat {
            model_name: Usual::new(model.name.clone()),
            model_version: Usual::new(model.version.clone()),
            ..self
        }
    }

    /// The same of several models together: what is said of all rows of one of them is not.
    #[must_use]
    pub fn of_ensemble(self, ensemble: &ModelIdentity) -> Self {
        let statuses = self.statuses.without_metadata();
        PredictionFormat { statuses, ..self }.of_model(ensemble)
    }

    /// The same of a job that has routes: the columns of them follow [`COLUMNS`].
    #[must_use]
    pub fn with_routes(mut self) -> Self {
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        let [route, variant] = ROUTE_COLUMNS;
        let more =
            [Field::new(route, DataType::Utf8, false), Field::new(variant, DataType::Utf8, true)];
        fields.splice(COLUMNS.len()..COLUMNS.len(), more.map(Arc::new));
        self.schema = Arc::new(Schema::new(fields));
        self
    }

    /// Whether the tensors of models are columns.
    pub fn keeps_inputs(&self) -> bool {
        self.with_input
    }

    /// Predictions of `events`, `[rows]`, which begin with the columns of the layout; `labels` are those of
    /// a job that has routes.
    ///
    /// # Errors
    /// If the columns do not have as many rows as the events.
    pub fn batch(
        &mut self,
        events: &RecordBatch,
        scored: ScoredColumns,
        task: Task,
        worker: u32,
        labels: Option<&mut RouteLabels>,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = events.num_rows();
        let layout = &self.layout;
        let (ids, late) = (request_ids(layout, events), layout.late(events));
        let times = TimestampMillisecondArray::new(layout.times(events).values().clone(), None);
        let ScoredColumns { predictions, width, confidences, .. } = &scored;
        let scores = predictions.scores(task, *width).into_array();
        let confidences = match (task, confidences) {
            (Task::Regression, _) => self.no_confidence.null(rows),
            (_, Some(own)) => own.clone().into_array(),
            (_, None) => predictions.largest(*width).into_array(),
        };
        let notes = scored.notes.as_deref();
        let (status, metadata) = self.statuses.of(events, late, scored.is_fallback, notes);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        columns.extend([
            ids,
            layout.key.map_or_else(|| self.no_key.null(rows), |key| events.column(key).clone()),
            Arc::new(times.with_timezone(self.utc.clone())),
            self.model_name.repeated(rows),
            self.model_version.repeated(rows),
            status,
            self.predictions.of(scored.predictions, scored.width, rows)?,
            scores,
            confidences,
            self.no_error.null(rows),
            metadata,
        ]);
        columns.extend(labels.map(|labels| labels.columns(rows)).into_iter().flatten());
        if self.with_input {
            let inputs = scored.inputs.unwrap_or_default();
            let width = inputs.len() / rows.max(1);
            columns.push(self.inputs.of(Numbers::Floats(inputs), width, rows)?);
        }
        if self.with_run_columns {
            columns.push(Arc::new(Float32Array::from(scored.run_inference_ms)));
            columns.push(Arc::new(UInt32Array::from(scored.run_batch_rows)));
            columns.push(Arc::new(UInt32Array::from_value(worker, rows)));
        }
        columns.extend(origin(&self.layout).map(|at| events.column(at).clone()));
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// As many as a partition and an offset have, mostly.
const ID_BYTES: usize = 16;

fn request_ids(layout: &EventLayout, events: &RecordBatch) -> ArrayRef {
    if let Some(ids) = layout.id.map(|id| events.column(id))
        && *ids.data_type() == DataType::Utf8
        && ids.null_count() == 0
    {
        return ids.clone();
    }
    let rows = events.num_rows();
    let mut ids = StringBuilder::with_capacity(rows, rows * ID_BYTES);
    for row in 0..rows {
        layout.write_request_id(events, row, &mut ids);
        ids.append_value("");
    }
    Arc::new(ids.finish())
}

/// Lists that are all of one length.
#[derive(Clone)]
struct Lists {
    width: usize,
    /// Where they begin and end, for as many as the largest batch had.
    offsets: OffsetBuffer<i32>,
}

impl Default for Lists {
    fn default() -> Self {
        Lists { width: 0, offsets: OffsetBuffer::new_empty() }
    }
}

impl Lists {
    /// `values`, `[rows * width]`, as `rows` lists.
    fn of(&mut self, values: Numbers, width: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.width != width || self.offsets.len() <= rows {
            let offsets: Vec<i32> = (0..=rows).map(|row| (row * width) as i32).collect();
            *self = Lists { width, offsets: OffsetBuffer::new(ScalarBuffer::from(offsets)) };
        }
        let offsets = self.offsets.slice(0, rows);
        let item = if values.are_doubles() { &DOUBLE_ITEM } else { &FLOAT_ITEM };
        Ok(Arc::new(ListArray::try_new(FieldRef::clone(item), offsets, values.into_array(), None)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, BooleanArray, Int64Array, UInt64Array, new_null_array};
    use arrow::datatypes::Float32Type;

    use super::*;
    use crate::layout::CameAs;

    #[test]
    fn runs_are_kept_only_where_they_are_columns() {
        let own = Schema::new(vec![Field::new("key", DataType::Int64, true)]);
        let layout = EventLayout::new(&own, None, Some(0), CameAs::Columns);
        let model = || ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
        for with_runs in [true, false] {
            let format = PredictionFormat::new(
                layout.clone(),
                model(),
                Default::default(),
                false,
                with_runs,
            );
            let mut columns = ScoredColumns::for_format(&format, 1, 3);
            columns.predictions = Numbers::Floats(vec![1.0, 2.0, 3.0]);
            columns.ran(2, 7, Duration::from_millis(5));
            columns.ran(1, 9, Duration::from_millis(6));
            let of_all = if with_runs { vec![7, 7, 9] } else { vec![] };
            assert_eq!((columns.rows(), &columns.run_batch_rows), (3, &of_all));
            let took = if with_runs { vec![5.0, 5.0, 6.0] } else { vec![] };
            assert_eq!(columns.run_inference_ms, took);
        }
    }

    /// Batches of any size and order, each against one that a format of its own makes.
    #[test]
    fn a_batch_does_not_depend_on_those_before_it() {
        let own = Schema::new(vec![Field::new("a", DataType::Float64, true)]);
        let layout = EventLayout::new(&own, None, None, CameAs::Columns);
        let format = || {
            let model = ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
            PredictionFormat::new(layout.clone(), model, Default::default(), true, false)
        };
        let mut used = format();
        for (at, rows) in [3, 1, 1, 0, 5, 4, 5, 2].into_iter().enumerate() {
            let numbers = || Int64Array::from_iter_values(0..rows as i64);
            let is_late = |row| row == 1 && at % 3 == 0;
            let columns: Vec<ArrayRef> = vec![
                new_null_array(&DataType::Float64, rows),
                Arc::new(numbers()),
                Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(is_late(row))))),
                Arc::new(UInt32Array::from_value(3, rows)),
                Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
                Arc::new(numbers()),
            ];
            let events = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
            for (task, width) in [(Task::Multiclass, 3), (Task::Regression, 1)] {
                let values: Vec<f32> = (0..rows * width).map(|value| value as f32).collect();
                let scored = || ScoredColumns {
                    predictions: Numbers::Floats(values.clone()),
                    inputs: Some(values.clone()),
                    ..ScoredColumns::new(width, true)
                };
                let made = used.batch(&events, scored(), task, 0, None).unwrap();
                assert_eq!(made, format().batch(&events, scored(), task, 0, None).unwrap());
                let text = |name: &str, row| {
                    made.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned()
                };
                for row in 0..rows {
                    let status = if is_late(row) { "degraded" } else { "ok" };
                    assert_eq!(text("status", row), status);
                    assert_eq!(
                        (text("event_id", row), text("model_name", row)),
                        (format!("3-{row}"), "m".to_owned())
                    );
                    let vector =
                        made.column_by_name("prediction").unwrap().as_list::<i32>().value(row);
                    assert_eq!(
                        *vector.as_primitive::<Float32Type>().values(),
                        values[row * width..][..width]
                    );
                }
                for (name, nulls) in [
                    ("error", rows),
                    ("key", rows),
                    ("confidence", if width == 1 { rows } else { 0 }),
                ] {
                    assert_eq!(made.column_by_name(name).unwrap().null_count(), nulls, "{name}");
                }
            }
        }
    }
}

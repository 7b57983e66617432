//! Feature rows as they would reach the model, for training.
//!
//! The rules of the job hold as they do before the model: what they refuse is a dead letter here, too, and
//! values are those that they make of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::control::Turn;
use crate::core::finish::{Out, Work};
use crate::features::plan::FeaturePlan;
use crate::features::rules::{FAILED_RULES, Rules, failed_by};
use crate::layout::{EventLayout, INTERNAL};
use crate::sinks::Output;
use crate::sort::OrderColumns;
use crate::validate::Validator;
use crate::warm_up::WarmUp;

/// Columns of an export: event id, event time, then the features as declared, nulls as they are; where rows
/// may fail rules and go on, [`FAILED_RULES`]; where the rows of all workers are gathered, what orders them
/// behind these, not published.
pub struct ExportFormat {
    pub schema: SchemaRef,
    /// The columns that order rows, if they are gathered.
    pub gathered_by: Option<OrderColumns>,
    layout: EventLayout,
    warm_up: WarmUp,
    features: usize,
    /// The rules that rows may fail and go on.
    rules: Option<Arc<Rules>>,
}

impl ExportFormat {
    /// Rows of the warm-up are left out.
    pub fn new(
        plan: &FeaturePlan,
        layout: &EventLayout,
        warm_up: WarmUp,
        is_gathered: bool,
    ) -> Self {
        let mut fields = vec![
            Field::new("event_id", DataType::Utf8, false),
            Field::new(
                "event_time",
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                false,
            ),
        ];
        fields.extend(plan.fields().iter().cloned());
        let rules = plan.rules.let_some_go_on().then(|| plan.rules.clone());
        fields.extend(rules.iter().map(|_| Field::new(FAILED_RULES, DataType::Utf8, true)));
        let gathered_by = is_gathered.then(|| {
            let first = fields.len();
            let order = ordered_by(layout).into_iter().enumerate();
            fields.extend(order.map(|(place, at)| {
                layout.schema.field(at).clone().with_name(format!("{INTERNAL}order_{place}"))
            }));
            let id = layout.id.map(|_| first + 3);
            OrderColumns { time: first, partition: first + 1, offset: first + 2, id }
        });
        let (schema, layout) = (Arc::new(Schema::new(fields)), layout.clone());
        let features = plan.fields().len();
        ExportFormat { schema, gathered_by, layout, warm_up, features, rules }
    }

    fn batch(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ids = (0..rows.num_rows()).map(|row| self.layout.request_id(rows, row));
        let times = self.layout.times(rows).values().clone();
        let first_feature = self.layout.schema.fields().len();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(TimestampMillisecondArray::new(times, None).with_timezone("UTC")),
        ];
        columns.extend(rows.columns()[first_feature..][..self.features].iter().cloned());
        if let (Some(rules), Some(failed)) = (&self.rules, rows.columns().last()) {
            let names = (0..rows.num_rows()).map(|row| names_in_json(rules, failed, row));
            columns.push(Arc::new(names.collect::<StringArray>()));
        }
        if self.gathered_by.is_some() {
            columns.extend(ordered_by(&self.layout).iter().map(|&at| rows.column(at).clone()));
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// The columns of the layout that order rows: time, partition, offset, and the id if there is one.
fn ordered_by(layout: &EventLayout) -> Vec<usize> {
    [layout.time, layout.partition, layout.offset].into_iter().chain(layout.id).collect()
}

/// The names of the rules that a row has failed, as a list in JSON.
fn names_in_json(rules: &Rules, failed: &ArrayRef, row: usize) -> Option<String> {
    let names = rules.names(&failed_by(failed, row));
    (!names.is_empty()).then(|| serde_json::json!(names).to_string())
}

/// Gives out enriched rows as rows of an export.
pub struct Exporter {
    format: ExportFormat,
    validator: Validator,
}

impl Exporter {
    pub fn new(format: ExportFormat, validator: Validator) -> Self {
        Exporter { format, validator }
    }
}

impl Work for Exporter {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let Turn { epoch, .. } = turn;
        let rows = self.format.warm_up.without(rows, &self.format.layout)?;
        let (rows, letters) = self.validator.sift(rows, &[])?;
        out.extend(letters.map(|rows| Out { epoch, output: Output::DeadLetters, rows }));
        out.push(Out { epoch, output: Output::Features, rows: self.format.batch(&rows)? });
        Ok(())
    }
}

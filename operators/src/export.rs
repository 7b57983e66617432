//! Feature rows as they would reach the model, for training.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::failure::Failure;
use crate::features::plan::FeaturePlan;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::warm_up::WarmUp;

/// Columns of an export: event id, event time, then the features as declared, nulls as they are.
pub struct ExportFormat {
    pub schema: SchemaRef,
    layout: EventLayout,
    enriched: SchemaRef,
    warm_up: WarmUp,
}

impl ExportFormat {
    /// Rows of the warm-up are left out.
    pub fn new(plan: &FeaturePlan, layout: &EventLayout, warm_up: WarmUp) -> Self {
        let mut fields = vec![
            Field::new("event_id", DataType::Utf8, false),
            Field::new(
                "event_time",
                DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                false,
            ),
        ];
        fields.extend(plan.fields().iter().cloned());
        ExportFormat {
            schema: Arc::new(Schema::new(fields)),
            layout: layout.clone(),
            enriched: plan.enriched_schema(layout),
            warm_up,
        }
    }

    fn batch(&self, enriched: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = self.warm_up.without(enriched, &self.layout)?;
        let ids = (0..rows.num_rows()).map(|row| self.layout.request_id(&rows, row));
        let times = self.layout.times(&rows).values().clone();
        let first_feature = self.layout.schema.fields().len();
        let mut columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(TimestampMillisecondArray::new(times, None).with_timezone("UTC")),
        ];
        columns.extend(rows.columns()[first_feature..].iter().cloned());
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

/// Enriched rows as rows of an export.
pub fn export_rows<'scope>(
    rows: Stream<'scope, u64, Rows>,
    format: ExportFormat,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    rows.unary::<CapacityContainerBuilder<Rows>, _, _, _>(
        Pipeline,
        "Export",
        move |_capability, _info| {
            move |input, output| {
                input.for_each(|capability, container| {
                    let batch =
                        container.take(&format.enriched).and_then(|batch| format.batch(batch));
                    if let Some(batch) = failure.check(batch) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                });
            }
        },
    )
}

//! Deliberate faults, so that a test can see that the accounting notices them.

use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::failure::Failure;
use crate::rows::Rows;

/// A fault to inject; none in earnest.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The stage behind which the first worker loses one row.
    pub lose_row_after: Option<String>,
}

impl Faults {
    /// The stream behind `stage`, less one row if that is the fault.
    pub fn behind<'scope>(
        &self,
        stage: &str,
        rows: Stream<'scope, u64, Rows>,
        schema: SchemaRef,
        failure: Failure,
    ) -> Stream<'scope, u64, Rows> {
        if self.lose_row_after.as_deref() != Some(stage) {
            return rows;
        }
        let first_worker = rows.scope().index() == 0;
        rows.unary::<CapacityContainerBuilder<Rows>, _, _, _>(
            Pipeline,
            "LoseRow",
            move |_cap, _info| {
                // Every worker has the operator, so that all build the same graph.
                let mut lost = !first_worker;
                move |input, output| {
                    input.for_each(|capability, container| {
                        let number = container.number();
                        let Some(mut batch) = failure.check(container.take(&schema)) else {
                            return;
                        };
                        if !lost && batch.num_rows() > 0 {
                            batch = batch.slice(1, batch.num_rows() - 1);
                            lost = true;
                        }
                        output
                            .session(&capability)
                            .give_container(&mut Rows::numbered(batch, number));
                    });
                }
            },
        )
    }
}

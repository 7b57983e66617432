//! Sinks that the program brings itself.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use driftline_operators::sinks::{Sink, SinkError};

/// Makes the sink of a worker on its thread, given its number and the schema of the batches; see
/// [`Sink::write`] on which of their columns are for publication.
pub type SinkFactory =
    Arc<dyn Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync>;

/// A program's own sinks in place of the job's.
#[derive(Clone, Default)]
pub struct OwnSinks {
    pub predictions: Option<SinkFactory>,
    pub dead_letters: Option<SinkFactory>,
    pub drift: Option<SinkFactory>,
}

//! A sink that is given some of the columns that are published.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use driftline_operators::layout::Published;
use driftline_operators::sinks::{Sink, SinkError};

/// Of files and standard output, which acknowledge nothing.
struct SomeColumns {
    published: Published,
    sink: Box<dyn Sink>,
}

/// What `make` makes for rows of a schema, without the columns that are left out, by name.
///
/// # Errors
/// As `make`.
pub fn without<E>(
    left_out: &Arc<[String]>,
    schema: SchemaRef,
    make: impl FnOnce(SchemaRef) -> Result<Box<dyn Sink>, E>,
) -> Result<Box<dyn Sink>, E> {
    if left_out.is_empty() {
        return make(schema);
    }
    let published = Published::without(left_out.clone());
    let sink = make(published.schema_of(&schema))?;
    Ok(Box::new(SomeColumns { published, sink }))
}

impl Sink for SomeColumns {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.sink.write(&self.published.of(batch))
    }

    fn durable_rows(&mut self) -> u64 {
        self.sink.durable_rows()
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.sink.tick()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

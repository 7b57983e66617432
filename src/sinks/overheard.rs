//! A sink that somebody listens to.

use arrow::array::RecordBatch;
use driftline_operators::reasons::Reasons;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::wake::Wake;

/// Hears of what a sink is given.
pub trait Listener {
    /// The sink has taken a batch.
    fn taken(&mut self, batch: &RecordBatch);

    /// So many more of the rows that it has taken are durable, and so many have become dead letters, the
    /// oldest first.
    fn durable(&mut self, _rows: u64, _refused: u64) {}
}

pub struct Overheard<L> {
    sink: Box<dyn Sink>,
    listener: L,
    /// What has been told to the listener, and not asked for.
    refused: Reasons,
}

impl<L> Overheard<L> {
    pub fn new(sink: Box<dyn Sink>, listener: L) -> Self {
        Overheard { sink, listener, refused: Reasons::default() }
    }
}

impl<L: Listener> Sink for Overheard<L> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.sink.write(batch)?;
        self.listener.taken(batch);
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        let rows = self.sink.durable_rows();
        let refused = self.sink.refused();
        self.listener.durable(rows, refused.rows());
        self.refused.merge(&refused);
        rows
    }

    fn refused(&mut self) -> Reasons {
        std::mem::take(&mut self.refused)
    }

    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        self.sink.acknowledged()
    }

    fn unacknowledged(&mut self) -> usize {
        self.sink.unacknowledged()
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.sink.tick()
    }

    fn wake_with(&mut self, wake: Wake) {
        self.sink.wake_with(wake);
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

//! A sink that somebody listens to.

use arrow::array::RecordBatch;
use driftline_operators::reasons::Reasons;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::wake::Wake;

/// Hears of what a sink is given.
pub trait Listener {
    /// The sink has taken a batch.
    fn taken(&mut self, batch: &RecordBatch);

    /// So many more of the rows that it has taken are durable, the oldest first.
    fn durable(&mut self, _rows: u64) {}
}

pub struct Overheard<L> {
    pub sink: Box<dyn Sink>,
    pub listener: L,
}

impl<L: Listener> Sink for Overheard<L> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.sink.write(batch)?;
        self.listener.taken(batch);
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        let rows = self.sink.durable_rows();
        self.listener.durable(rows);
        rows
    }

    fn refused(&mut self) -> Reasons {
        self.sink.refused()
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

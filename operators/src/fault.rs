//! Deliberate faults, so that a test can see that the accounting notices them.

use arrow::array::RecordBatch;

/// A fault to inject; none in earnest.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The stage behind which the first worker loses one row.
    pub lose_row_after: Option<String>,
}

impl Faults {
    /// The fault on one worker.
    pub fn on(&self, worker: usize) -> LoseRow {
        LoseRow { stage: self.lose_row_after.clone().filter(|_| worker == 0) }
    }
}

/// A row to be lost behind a stage.
#[derive(Clone, Debug, Default)]
pub struct LoseRow {
    stage: Option<String>,
}

impl LoseRow {
    /// The rows behind `stage`, less one if that is the fault and none has been lost yet.
    pub fn behind(&mut self, stage: &str, batch: RecordBatch) -> RecordBatch {
        if self.stage.is_none() || !self.loses(stage, batch.num_rows()) {
            return batch;
        }
        batch.slice(1, batch.num_rows() - 1)
    }

    /// Whether one of `rows` rows behind `stage` is lost now; it is once.
    pub fn loses(&mut self, stage: &str, rows: usize) -> bool {
        let loses = rows > 0 && self.stage.as_deref() == Some(stage);
        if loses {
            self.stage = None;
        }
        loses
    }
}

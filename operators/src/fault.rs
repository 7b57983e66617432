//! Deliberate faults, so that a test can see that the accounting notices them.

use arrow::array::RecordBatch;

/// The stages behind which a row can be lost: every edge of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostBehind {
    Ingest,
    Order,
    Requests,
    Answers,
    Features,
    Score,
    Watched,
    Panes,
    DeadLetters,
}

impl LostBehind {
    pub const ALL: [Self; 9] = [
        LostBehind::Ingest,
        LostBehind::Order,
        LostBehind::Requests,
        LostBehind::Answers,
        LostBehind::Features,
        LostBehind::Score,
        LostBehind::Watched,
        LostBehind::Panes,
        LostBehind::DeadLetters,
    ];

    pub fn name(self) -> &'static str {
        match self {
            LostBehind::Ingest => "ingest",
            LostBehind::Order => "order",
            LostBehind::Requests => "requests",
            LostBehind::Answers => "answers",
            LostBehind::Features => "features",
            LostBehind::Score => "score",
            LostBehind::Watched => "watched",
            LostBehind::Panes => "panes",
            LostBehind::DeadLetters => "dead_letters",
        }
    }
}

/// A fault to inject; none in earnest.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Where the first worker loses one row.
    pub lose_row_after: Option<LostBehind>,
}

impl Faults {
    /// The fault on one worker.
    pub fn on(&self, worker: usize) -> LoseRow {
        LoseRow { edge: self.lose_row_after.filter(|_| worker == 0) }
    }
}

/// A row to be lost.
#[derive(Clone, Debug, Default)]
pub struct LoseRow {
    edge: Option<LostBehind>,
}

impl LoseRow {
    /// The rows behind a stage, less one if that is the fault and none has been lost yet.
    pub fn behind(&mut self, edge: LostBehind, batch: RecordBatch) -> RecordBatch {
        if !self.loses(edge, batch.num_rows()) {
            return batch;
        }
        batch.slice(1, batch.num_rows() - 1)
    }

    /// Whether one of `rows` rows behind a stage is lost now; it is once.
    pub fn loses(&mut self, edge: LostBehind, rows: usize) -> bool {
        let loses = rows > 0 && self.edge == Some(edge);
        if loses {
            self.edge = None;
        }
        loses
    }
}

//! The source of a predictor: what requests have brought, together.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use arrow::compute::concat_batches;
use driftline_operators::wake::Wake;

use super::requests::Requests;
use crate::sources::own::{EventSource, Next};

pub struct Batcher {
    requests: Arc<Requests>,
    rows_max: usize,
    /// Told once the graph is there; dropped without if it never will be.
    ready: Option<Sender<()>>,
}

impl Batcher {
    /// Takes rows of several requests together, until there are `rows_max`.
    pub fn new(requests: Arc<Requests>, rows_max: usize, ready: Sender<()>) -> Self {
        Batcher { requests, rows_max, ready: Some(ready) }
    }
}

impl EventSource for Batcher {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        let waiting = self.requests.take(self.rows_max);
        Ok(match waiting.as_deref() {
            None => Next::End,
            Some([]) => Next::Nothing,
            Some([one]) => Next::Events(one.clone()),
            Some(several) => Next::Events(concat_batches(several[0].schema_ref(), several)?),
        })
    }

    fn wakes(&self) -> bool {
        true
    }

    fn wake_with(&mut self, wake: Wake) {
        self.requests.wake_with(wake);
        if let Some(ready) = self.ready.take() {
            // Nobody listens if the predictor was dropped while it started.
            let _ = ready.send(());
        }
    }
}

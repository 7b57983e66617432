//! State that is kept in memory.

use std::ops::Range;
use std::sync::Mutex;

use driftline_operators::state::{StateError, StateStore};

/// Pieces in memory.
#[derive(Default)]
pub struct Memory(Mutex<Pieces>);

#[derive(Default)]
struct Pieces {
    put: Vec<Stored>,
    state: Vec<Stored>,
}

#[derive(Clone)]
pub struct Stored {
    pub part: String,
    pub group: u64,
    pub bytes: Vec<u8>,
}

impl StateStore for Memory {
    fn put(&self, part: &str, group: u64, bytes: Vec<u8>) -> Result<(), StateError> {
        self.0.lock().unwrap().put.push(Stored { part: part.to_owned(), group, bytes });
        Ok(())
    }

    fn complete(&self) -> Result<(), StateError> {
        let mut pieces = self.0.lock().unwrap();
        pieces.state = std::mem::take(&mut pieces.put);
        Ok(())
    }

    fn parts(&self) -> Result<Vec<String>, StateError> {
        let mut parts: Vec<String> = self.state().into_iter().map(|stored| stored.part).collect();
        parts.sort();
        parts.dedup();
        Ok(parts)
    }

    fn pieces(&self, part: &str, groups: Range<u64>) -> Result<Vec<Vec<u8>>, StateError> {
        let mut stored = self.state();
        stored.retain(|stored| stored.part == part && groups.contains(&stored.group));
        Ok(stored.into_iter().map(|stored| stored.bytes).collect())
    }
}

impl Memory {
    pub fn of(state: impl IntoIterator<Item = Stored>) -> Self {
        let state = state.into_iter().collect();
        Memory(Mutex::new(Pieces { put: Vec::new(), state }))
    }

    /// What is the state, in whichever order it was put.
    pub fn state(&self) -> Vec<Stored> {
        self.0.lock().unwrap().state.clone()
    }
}

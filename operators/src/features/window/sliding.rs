//! One window of one key.

use super::previous::PreviousRow;
use super::running::Running;
use super::values::ValueWindow;
use super::{RowPlace, WindowSpec};

/// The state of one window of one key.
pub struct SlidingWindow(State);

enum State {
    Values(ValueWindow),
    Previous(PreviousRow),
}

impl SlidingWindow {
    pub fn new(spec: WindowSpec) -> Self {
        SlidingWindow(match Running::new(spec.aggregate) {
            Some(running) => State::Values(ValueWindow::new(spec, running)),
            None => State::Previous(PreviousRow::new(spec)),
        })
    }

    /// Adds a row and returns the aggregate as of it. A row behind the newest one, by up to the
    /// history, sees what was added no later in (time, place) order, and counts for later ones.
    pub fn add(&mut self, time: i64, place: RowPlace, value: Option<f64>) -> Option<f64> {
        match &mut self.0 {
            State::Values(window) => window.add(time, place, value),
            State::Previous(previous) => previous.add(time, place),
        }
    }

    /// The aggregate as of a row that updates nothing: rows up to its time and place, and its own
    /// value.
    pub fn read(&self, time: i64, place: RowPlace, value: Option<f64>) -> Option<f64> {
        match &self.0 {
            State::Values(window) => window.read(time, place, value),
            State::Previous(previous) => previous.read(time, place),
        }
    }

    /// How many rows are held, in the window or as history.
    pub fn rows(&self) -> usize {
        match &self.0 {
            State::Values(window) => window.rows(),
            State::Previous(previous) => previous.rows(),
        }
    }

    /// The time of the newest row added, in ms.
    pub fn newest(&self) -> Option<i64> {
        match &self.0 {
            State::Values(window) => window.newest(),
            State::Previous(previous) => previous.newest(),
        }
    }
}

#[cfg(test)]
mod tests;

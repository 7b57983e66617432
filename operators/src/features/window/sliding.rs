//! One window of one key.

use super::WindowSpec;
use super::keyed::Kept;
use super::previous::PreviousRow;
use super::rows::KeyRows;
use super::running::Running;
use super::values::ValueWindow;

/// What one window of one key knows of the key's rows.
pub(super) enum Window {
    Values(ValueWindow),
    Previous(PreviousRow),
}

impl Window {
    pub(super) fn new(spec: &WindowSpec) -> Self {
        match Running::new(spec.aggregate) {
            Some(running) => Window::Values(ValueWindow::new(running)),
            None => Window::Previous(PreviousRow::default()),
        }
    }

    /// As it was when it kept this of `rows`; `None` if that is more than there are.
    pub(super) fn restored(spec: &WindowSpec, rows: &KeyRows, kept: Kept) -> Option<Self> {
        match (Window::new(spec), kept) {
            (Window::Values(mut window), Kept::Values(values)) => {
                (values.len() <= rows.len()).then(|| window.restore(spec, rows, values))?;
                Some(Window::Values(window))
            }
            (Window::Previous(_), Kept::Seen(seen)) => {
                (seen <= rows.len()).then(|| Window::Previous(PreviousRow::of(seen)))
            }
            _ => None,
        }
    }

    /// The last of `rows` is new: the aggregate as of it.
    pub(super) fn push(
        &mut self,
        spec: &WindowSpec,
        rows: &KeyRows,
        value: Option<f64>,
    ) -> Option<f64> {
        match self {
            Window::Values(window) => window.push(spec, rows, value),
            Window::Previous(previous) => previous.push(spec, rows),
        }
    }

    /// The aggregate as of a row that is not among `rows`: of those up to its time and place, and its
    /// own value. `at`: its time, and how many rows come no later.
    pub(super) fn read(
        &self,
        spec: &WindowSpec,
        rows: &KeyRows,
        at: (i64, usize),
        value: Option<f64>,
    ) -> Option<f64> {
        match self {
            Window::Values(window) => window.read(spec, rows, at, value),
            Window::Previous(previous) => previous.read(spec, rows, at),
        }
    }

    /// The row at `at` of `rows` has come behind others, by up to the history: it counts for later ones.
    pub(super) fn insert(
        &mut self,
        spec: &WindowSpec,
        rows: &KeyRows,
        at: usize,
        value: Option<f64>,
    ) {
        match self {
            Window::Values(window) => window.insert(spec, rows, at, value),
            Window::Previous(previous) => previous.insert(spec, rows, at),
        }
    }

    /// How many rows are held, in the window or as history.
    pub(super) fn held(&self) -> usize {
        match self {
            Window::Values(window) => window.held(),
            Window::Previous(previous) => previous.seen(),
        }
    }

    /// How many of the key's rows, the last ones, it still looks at.
    pub(super) fn seen(&self) -> usize {
        match self {
            Window::Values(window) => window.seen(),
            Window::Previous(previous) => previous.seen(),
        }
    }
}

#[cfg(test)]
mod tests;

//! Keyed sliding windows over event time.
//!
//! The window of a row is (t − length, t] in event time, of the key's rows no later in (time, place)
//! order, the row itself included; ties of time are told apart by [`Place`]. Sums are exact inside
//! and a minimum is one of the values, so an aggregate depends on which rows are in its window and
//! on nothing else: not on what has left it, nor on the order of arrival.
//!
//! Rows that are not late are added; in order at amortised constant cost, behind the newest row by a
//! scan of their window. Late rows read the same way and leave no trace.
//!
//! | file | concept |
//! | --- | --- |
//! | `spec` | what a window is: its aggregate, its length |
//! | `places` | where rows of one time stand |
//! | `rows` | the rows of one key, which all its windows share |
//! | `sliding` | one window of one key |
//! | `values` | windows over values: the rows kept, and which of them are inside |
//! | `running` | the aggregate of the values inside, as values join and leave |
//! | `extreme` | the running minimum or maximum |
//! | `deviation` | the running standard deviation |
//! | `previous` | the time since the previous row |
//! | `room` | memory given back |
//! | `limit` | how many keys are held where none expires |
//! | `keyed` | the windows of all keys of a worker, and when they are forgotten; `keyed/state`: those of a key group, as they move |

mod deviation;
mod extreme;
mod keyed;
mod limit;
mod places;
mod previous;
mod room;
mod rows;
mod running;
mod sliding;
mod spec;
mod values;

#[cfg(test)]
pub(crate) mod naive;

pub use keyed::{KeyedWindows, WindowPieces};
pub use places::Place;
pub use spec::{Aggregate, OwnAggregate, WindowFunction, WindowSpec};

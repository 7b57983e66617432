//! State that moves: what a part of a job holds of one key group, as bytes that say what they are.
//!
//! The unit is a [`Piece`]: one part, one of the [`KEY_GROUPS`](crate::key_group::KEY_GROUPS) key
//! groups, one Arrow record batch whose schema its [`PieceKind`] states. A worker exports the pieces of
//! the groups that it owns, in one pass over its state; whoever owns a group afterwards imports its
//! piece, so that any number of workers can go on where another number has stopped. Empty pieces are
//! not written.
//!
//! | part | of a group | exported by |
//! | --- | --- | --- |
//! | `gate` | rows that wait, by their home | every worker |
//! | `windows_N` | keys, their rows and values in windows | the owner of each key |
//! | `versions_N` | versions of a table and their values | the owner of each key |
//! | `drift_windows`, `drift_issued` | panes, and windows that are not final | the owner of each column, by its name |
//! | `drift_panes` | what has not been sent of panes | every worker, under its first group |
//! | `watermark`, `passed` | the clock, which is the same everywhere: group 0 | the first worker |
//! | `account` | what has been counted | the process |
//! | `outputs` | what is durable | every worker, under its first group |
//!
//! State is whole between epochs: when all that was read has been worked off. Each struct exports and
//! imports beside itself; what an import refuses is a [`StateError`].
//!
//! | file | concept |
//! | --- | --- |
//! | `piece` | a piece, and its bytes |
//! | `kind` | what a piece of a part has to be |
//! | `groups` | rows and items by key group |
//! | `lists` | columns of lists |
//! | `store` | the seam to where pieces are kept, and when what was saved counts |
//! | `error` | what can be wrong with one |

mod error;
pub mod groups;
mod kind;
pub(crate) mod lists;
mod piece;
mod store;

pub use error::StateError;
pub use kind::PieceKind;
pub use piece::Piece;
pub use store::{Saving, StateParts, StateStore};

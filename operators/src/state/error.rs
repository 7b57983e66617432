//! What can be wrong with a piece of state.

use arrow::error::ArrowError;

/// Why state cannot be saved, or what was saved cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "a piece of state is damaged: {what}; fetch it once more, or go on from the state before it"
    )]
    Damaged { what: String },
    #[error(
        "a piece of state is of format {found}, and this version reads format {known}; go on with the version that wrote it"
    )]
    OtherVersion { found: u32, known: u32 },
    #[error(
        "the state of {part} is of another job, or of this one before it was changed; undo the change, or start without state"
    )]
    OtherJob { part: String },
    #[error("a piece of the state of {found} was handed to {wanted}; hand it to {found}")]
    OtherPart { found: String, wanted: String },
    #[error(
        "there is state of {part}, which this job does not have; undo the change, or start without state"
    )]
    UnknownPart { part: String },
    #[error("{part} has rows of an epoch that is not complete; save state between epochs")]
    WithinEpoch { part: String },
    #[error("state cannot be stored: {0}; look after the store, and save once more")]
    Store(String),
    #[error("state cannot be put into columns: {0}; report this as a bug")]
    Columns(#[from] ArrowError),
}

impl StateError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        StateError::Damaged { what: what.into() }
    }
}

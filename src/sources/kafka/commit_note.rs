//! What is committed beside an offset, for the run that begins there.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// The metadata of a committed offset, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitNote {
    /// The highest event time (ms) of the records before the offset.
    pub highest_event_time_ms: i64,
}

impl CommitNote {
    /// `highest`: [`i64::MIN`] where there is no record with an event time.
    pub fn of_highest(highest: i64) -> Option<Self> {
        (highest > i64::MIN).then_some(CommitNote { highest_event_time_ms: highest })
    }

    /// `None` if it is the metadata of somebody else, or there is none.
    pub fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok()
    }
}

impl Display for CommitNote {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_what_others_write_is_none() {
        for highest in [-5, 0, 1_700_000_000_123, i64::MAX] {
            let note = CommitNote::of_highest(highest).unwrap();
            assert_eq!(CommitNote::parse(&note.to_string()), Some(note));
        }
        assert_eq!(CommitNote::of_highest(i64::MIN), None);
        let told = r#"{"highest_event_time_ms":7}"#;
        assert_eq!(CommitNote::of_highest(7).unwrap().to_string(), told);
        for metadata in ["", "{}", "somebody", "7", r#"{"highest_event_time_ms":"7"}"#] {
            assert_eq!(CommitNote::parse(metadata), None, "{metadata}");
        }
    }
}

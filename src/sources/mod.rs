//! Where rows come from: files of columns, files of JSON lines, standard input; the events and the
//! as-of tables of a job as one numbered sequence of epochs.
//!
//! | file | concept |
//! | --- | --- |
//! | `inputs` | all streams of a job: what kind each is, and the source that reads them |
//! | `stream` | what a job says of a stream; a partition of it |
//! | `parquet/` | files of columns: footers, the schedule of their row groups, damage |
//! | `json/` | lines of text: reading them; JSON to columns |
//! | `csv/` | records of CSV to columns |
//! | `kafka/` | topics: partitions, where they begin, messages to columns |
//! | `own/` | events that a program brings |
//! | `feed`, `one_partition` | what reads a stream, chunk by chunk; one that has a single partition |
//! | `merge`, `replay` | several feeds as one source; Parquet events alone, by their schedule |
//! | `in_time_order`, `sorted_rows` | stored tables whose rows are in another order |
//! | `columns`, `stored_columns` | one form for columns, whoever wrote them |
//! | `unify` | one type for what several files hold in a column |
//! | `time_units` | integer times that look like those of another unit |
//! | `growing` | columns that grow as text is read |
//! | `files`, `idle` | which files there are; silence of live input |

pub mod columns;
pub mod csv;
pub mod epochs;
pub mod feed;
pub mod files;
pub mod growing;
pub mod idle;
mod in_time_order;
pub mod inputs;
pub mod json;
pub mod kafka;
pub mod merge;
pub mod one_partition;
pub mod own;
pub mod parquet;
pub mod replay;
mod sorted_rows;
pub mod stored_columns;
pub mod stream;
pub mod time_units;
pub mod unify;

#[cfg(test)]
mod random_reads;
#[cfg(test)]
mod testing;

use std::path::Path;

pub use driftline_operators::ingest::SourceError;
pub use inputs::Inputs;
pub use stream::{Partition, StreamSpec};

use crate::config::{in_words, on_one_line};
use crate::text::without_prefixes;

/// What is wrong with a file that cannot be read as Parquet: it is damaged, or uses what the library
/// does not know.
pub(crate) fn damaged(error: &::parquet::errors::ParquetError) -> String {
    let reason = without_prefixes(&error.to_string());
    match is_unsupported(error) {
        true => format!(
            "it uses something of Parquet that is not supported: {reason}; if it is not damaged, \
             write it anew without that"
        ),
        false => {
            format!(
                "not a readable Parquet file: {reason}; if it is damaged or cut off, write it anew"
            )
        }
    }
}

/// Whether a file may be sound and is only more than the library can read.
fn is_unsupported(error: &::parquet::errors::ParquetError) -> bool {
    let text = error.to_string().to_lowercase();
    let words =
        ["not supported", "unsupported", "not implemented", "disabled feature", "not enabled"];
    matches!(error, ::parquet::errors::ParquetError::NYI(_))
        || words.iter().any(|words| text.contains(words))
}

/// A file or folder that cannot be opened.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> SourceError {
    let text = in_words(path, error);
    let input = path.display().to_string();
    failed(&input, text.strip_prefix(&format!("{input}: ")).unwrap_or(&text))
}

pub(crate) fn failed(input: impl std::fmt::Display, error: impl std::fmt::Display) -> SourceError {
    SourceError { input: input.to_string(), message: on_one_line(&error.to_string()) }
}

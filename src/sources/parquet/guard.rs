//! What a damaged Parquet file does to the library that reads it, as an error.
//!
//! The library checks most of what it reads, but not all: some damage ends in a failed assertion, and
//! a schema that is nested deep enough in the end of the stack.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use driftline_operators::guarded;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::{ParquetError, Result};

use crate::sources::parquet::nesting::nesting;
use crate::sources::parquet::types::FileTypes;

/// Groups within groups of a schema; a list takes two.
const NESTING_MAX: usize = 100;
/// The length of the footer and the magic number behind it.
const TRAILER: u64 = 8;

/// Lets `read` fail where it panics.
///
/// # Errors
/// Those of `read`, and its panics. What it was reading with must not be used again.
pub fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded::guarded(read).unwrap_or_else(|panic| {
        Err(ParquetError::General(format!("its contents contradict each other ({panic})")))
    })
}

/// Reads the footer of a Parquet file.
///
/// # Errors
/// If it is none, or damaged.
pub fn footer(file: &File) -> Result<ArrowReaderMetadata> {
    Ok(types(file)?.metadata)
}

/// Reads the footer of a Parquet file, and says which of its columns cannot be read.
///
/// # Errors
/// If it is none, or damaged.
pub fn types(file: &File) -> Result<FileTypes> {
    check_nesting(file)?;
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = guarded(|| ArrowReaderMetadata::load(file, plain))?;
    FileTypes::new(&plain)
}

/// What is no footer at all is left to the library to find out.
fn check_nesting(mut file: &File) -> Result<()> {
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub(TRAILER) else { return Ok(()) };
    let mut trailer = [0; 4];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut trailer)?;
    let footer = u64::from(u32::from_le_bytes(trailer));
    let Some(start) = end.checked_sub(footer) else { return Ok(()) };
    let mut bytes = vec![0; footer as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    match nesting(&bytes) {
        Some(levels) if levels > NESTING_MAX => Err(ParquetError::General(format!(
            "its columns are nested {levels} levels deep, and {NESTING_MAX} are the most"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line() {
        assert!(!guarded::is_guarded());
        let read = || -> Result<()> {
            assert!(guarded::is_guarded());
            assert_eq!(1, 2, "two\nlines");
            Ok(())
        };
        let error = guarded(read).unwrap_err().to_string();
        assert!(error.contains("two lines") && !error.contains('\n'), "{error}");
        assert!(!guarded::is_guarded());
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }
}

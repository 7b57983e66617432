//! A Parquet file whose end is an error to whoever reads on: the library passes over what is not there
//! (59.3), one element of a list after the other, as many as a damaged length says.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

pub struct WholeFile(pub File);

/// Reads on to the end of a file, and no further.
pub struct UntilEnd(BufReader<File>);

impl Read for UntilEnd {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(Error::from(ErrorKind::UnexpectedEof)),
            read => Ok(read),
        }
    }
}

impl Length for WholeFile {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for WholeFile {
    type T = UntilEnd;

    fn get_read(&self, start: u64) -> Result<UntilEnd> {
        self.0.get_read(start).map(UntilEnd)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // Before memory is taken for them.
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond its end")));
        }
        self.0.get_bytes(start, length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_end_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let whole = WholeFile(file);
        assert_eq!(whole.get_bytes(7, 3).unwrap().as_ref(), b"789");
        assert!(whole.get_bytes(7, 4).is_err());
        let mut reader = whole.get_read(8).unwrap();
        let mut two = [0; 2];
        reader.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"89");
        assert!(reader.read(&mut two).is_err());
        assert_eq!(reader.read(&mut []).unwrap(), 0);
    }
}

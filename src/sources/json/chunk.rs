//! Lines that are read together.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::error::ArrowError;

use crate::sources::csv::header::Header;

/// A file of lines, or standard input.
#[derive(Debug, Default)]
pub struct TextFile {
    pub name: String,
    /// Of CSV.
    pub header: Header,
    /// The columns that its folders stand for; `None` is null.
    pub folders: Vec<(String, Option<String>)>,
}

/// Lines in one buffer, one behind the other without their ends.
#[derive(Default)]
pub struct LineChunk {
    text: Vec<u8>,
    /// Where each line ends in the text.
    ends: Vec<usize>,
    lines: Vec<Line>,
    /// Each with its first line.
    files: Vec<(usize, Arc<TextFile>)>,
}

/// A line that is not blank; of CSV a record.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// It is longer than lines may be; there is its beginning.
    pub too_long: bool,
    /// Its position among all lines of all files, blank ones counted, from 0.
    pub position: u64,
    /// Its number in the file, from 1.
    pub number: u64,
}

impl LineChunk {
    /// No lines, with room for as many bytes as `other` has.
    pub fn like(other: &LineChunk) -> Self {
        let lines = other.len();
        LineChunk {
            text: Vec::with_capacity(other.text.len() + other.text.len() / 8),
            ends: Vec::with_capacity(lines),
            lines: Vec::with_capacity(lines),
            files: Vec::new(),
        }
    }

    /// Lines of a file that has no others.
    pub fn of_texts<T: AsRef<[u8]>>(
        texts: impl IntoIterator<Item = T>,
        file: &Arc<TextFile>,
    ) -> Self {
        let mut chunk = LineChunk::default();
        for (text, position) in texts.into_iter().zip(0..) {
            let line = Line { too_long: false, position, number: position + 1 };
            chunk.push(text.as_ref(), line, file);
        }
        chunk
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub fn text(&self, line: usize) -> &[u8] {
        let from = if line == 0 { 0 } else { self.ends[line - 1] };
        &self.text[from..self.ends[line]]
    }

    pub fn line(&self, line: usize) -> Line {
        self.lines[line]
    }

    pub fn file(&self, line: usize) -> &Arc<TextFile> {
        let behind = self.files.partition_point(|(first, _)| *first <= line);
        &self.files[behind - 1].1
    }

    /// The files that there are lines of, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Arc<TextFile>> {
        self.files.iter().map(|(_, file)| file)
    }

    /// Text and file of each line that is not too long.
    pub fn whole_lines(&self) -> impl Iterator<Item = (&[u8], &Arc<TextFile>)> {
        let whole = (0..self.len()).filter(|&line| !self.lines[line].too_long);
        whole.map(|line| (self.text(line), self.file(line)))
    }

    pub fn push(&mut self, text: &[u8], line: Line, file: &Arc<TextFile>) {
        self.text.extend_from_slice(text);
        self.end_line(line, file);
    }

    /// Where the text of the next line is appended, before [`LineChunk::end_line`].
    pub(super) fn text_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// What has been appended to the text since the last line is the next one.
    pub(super) fn end_line(&mut self, line: Line, file: &Arc<TextFile>) {
        if self.files.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, file)) {
            self.files.push((self.lines.len(), file.clone()));
        }
        self.lines.push(line);
        self.ends.push(self.text.len());
    }

    /// Positions of lines, ascending, to a column of their bytes: of all of them the buffer that they
    /// are in.
    ///
    /// # Errors
    /// If they have 2 GiB and more.
    pub fn into_column(self, lines: &[usize]) -> Result<ArrayRef, ArrowError> {
        if lines.len() < self.len() {
            let texts = lines.iter().map(|&line| self.text(line));
            return Ok(Arc::new(BinaryArray::from_iter_values(texts)));
        }
        let offset = |end| i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end));
        let offsets = std::iter::once(0).chain(self.ends).map(offset);
        let offsets = OffsetBuffer::new(offsets.collect::<Result<Vec<_>, _>>()?.into());
        Ok(Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(self.text), None)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn lines_know_their_texts_and_files() {
        let file = |name: &str| Arc::new(TextFile { name: name.to_owned(), ..TextFile::default() });
        let mut chunk = LineChunk::of_texts(["one", "", "three"], &file("a"));
        let line = Line { too_long: true, position: 7, number: 2 };
        chunk.push(b"four", line, &file("b"));
        let found = (0..4).map(|line| (chunk.text(line), chunk.file(line).name.as_str()));
        let expected: [(&[u8], &str); 4] =
            [(b"one", "a"), (b"", "a"), (b"three", "a"), (b"four", "b")];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!((chunk.bytes(), chunk.line(2).number, chunk.line(3).position), (12, 3, 7));
        assert_eq!((chunk.files().count(), chunk.whole_lines().count()), (2, 3));
    }

    #[test]
    fn the_column_of_all_lines_is_their_buffer() {
        let chunk = || LineChunk::of_texts(["one", "", "three"], &Arc::default());
        let whole = chunk();
        let at = whole.text.as_ptr();
        let column = whole.into_column(&[0, 1, 2]).unwrap();
        let texts = |column: &ArrayRef| {
            let texts = column.as_binary::<i32>().iter().flatten();
            texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(&column), ["one", "", "three"]);
        assert_eq!(column.as_binary::<i32>().values().as_ptr(), at);
        let column = chunk().into_column(&[0, 2]).unwrap();
        assert_eq!((texts(&column), column.len()), (vec!["one".to_owned(), "three".to_owned()], 2));
        assert_eq!(LineChunk::default().into_column(&[]).unwrap().len(), 0);
    }
}

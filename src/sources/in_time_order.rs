//! A reader that gives the rows of a stored table in order of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::error::ArrowError;
use driftline_operators::fine_time::{FineTimes, fine_times};
use driftline_operators::wake::Wake;

use super::one_partition::{Came, Reader, Records};
use super::sorted_rows::SortedRows;
use super::{SourceError, failed};

/// Rows that are read at a time before others have their turn.
const ROWS_A_TURN: usize = 65_536;

/// Reads `reader` to its end, and then gives its rows in order of time, `rows_max` at a time; each at
/// the position that it has in the file. It holds all columns that are read.
pub struct InTimeOrder<R> {
    reader: R,
    /// For messages.
    name: String,
    time_column: usize,
    rows_max: usize,
    held: Vec<(RecordBatch, FineTimes)>,
    /// All rows, and how many were given.
    sorted: Option<(SortedRows, usize)>,
    /// The rows were found to be in another order.
    was_sorted: Arc<AtomicBool>,
}

impl<R: Reader> InTimeOrder<R> {
    /// `was_sorted` becomes true if the rows turn out to be in another order.
    pub fn new(
        reader: R,
        name: &str,
        time_column: usize,
        rows_max: usize,
        was_sorted: Arc<AtomicBool>,
    ) -> Self {
        let name = name.to_owned();
        let held = Vec::new();
        InTimeOrder { reader, name, time_column, rows_max, held, sorted: None, was_sorted }
    }

    /// Reads on; what is to be said meanwhile.
    fn gather(&mut self) -> Result<Option<Came>, SourceError> {
        let mut read = 0;
        while read < ROWS_A_TURN {
            match self.reader.read()? {
                Came::Records(mut records) => {
                    read += records.offsets.len().max(1);
                    let undecoded = std::mem::take(&mut records.undecoded);
                    self.hold(*records).map_err(|error| failed(&self.name, error))?;
                    if !undecoded.is_empty() {
                        let records = Records { undecoded, ..self.reader.none() };
                        return Ok(Some(Came::Records(Box::new(records))));
                    }
                }
                Came::End => {
                    let (rows, in_order) = SortedRows::new(std::mem::take(&mut self.held));
                    self.was_sorted.fetch_or(!in_order, Relaxed);
                    self.sorted = Some((rows, 0));
                    return Ok(None);
                }
                other => return Ok(Some(other)),
            }
        }
        Ok(Some(Came::Pending))
    }

    fn hold(&mut self, records: Records) -> Result<(), ArrowError> {
        if records.rows.num_rows() > 0 {
            let times = fine_times(records.rows.column(self.time_column))?;
            self.held.push((together(records)?, times));
        }
        Ok(())
    }

    /// The next rows in order.
    fn give(&mut self) -> Result<Came, ArrowError> {
        let Some((sorted, given)) = &mut self.sorted else { return Ok(Came::End) };
        let rows = self.rows_max.min(sorted.len() - *given);
        if rows == 0 {
            return Ok(Came::End);
        }
        let slice = sorted.slice(*given, rows)?;
        *given += rows;
        if *given == sorted.len() {
            // Nothing is held on for the end, which is asked for once more.
            self.sorted = Some((SortedRows::new(Vec::new()).0, 0));
        }
        Ok(Came::Records(Box::new(apart(&slice, self.reader.none())?)))
    }
}

impl<R: Reader> Reader for InTimeOrder<R> {
    fn read(&mut self) -> Result<Came, SourceError> {
        if self.sorted.is_none()
            && let Some(came) = self.gather()?
        {
            return Ok(came);
        }
        self.give().map_err(|error| failed(&self.name, error))
    }

    fn none(&self) -> Records {
        self.reader.none()
    }

    fn wake_with(&mut self, wake: Wake) {
        self.reader.wake_with(wake);
    }
}

/// Records of a file as one batch: its columns, the offsets, and the bytes that rows came as.
fn together(records: Records) -> Result<RecordBatch, ArrowError> {
    let Records { rows, offsets, raw, .. } = records;
    let mut fields: Vec<Field> =
        rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns = rows.columns().to_vec();
    fields.push(Field::new("offset", DataType::UInt64, false));
    columns.push(Arc::new(offsets));
    if let Some(raw) = raw {
        fields.push(Field::new("raw", raw.data_type().clone(), true));
        columns.push(raw);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The records of [`together`]; `none` has their form.
fn apart(batch: &RecordBatch, none: Records) -> Result<Records, ArrowError> {
    let own = none.rows.num_columns();
    let rows = RecordBatch::try_new(none.rows.schema(), batch.columns()[..own].to_vec())?;
    let offsets: UInt64Array = batch.column(own).as_primitive::<UInt64Type>().clone();
    let raw: Option<ArrayRef> = batch.columns().get(own + 1).cloned();
    Ok(Records { rows, offsets, raw, ..none })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::job::Format;
    use crate::sources::feed::{Feed, Offer};
    use crate::sources::files;
    use crate::sources::json::JsonLines;
    use crate::sources::json::feed::json_feed;
    use crate::sources::testing::{Folder, numbers, spec};

    /// (numbers, offsets, lines that are none) of each chunk that says anything.
    type Chunks = Vec<(Vec<i64>, Vec<u64>, usize)>;

    /// What a file of these lines gives, and whether it was sorted.
    fn read(text: &str, rows_max: usize) -> (Chunks, bool) {
        let folder = Folder::new();
        let path = folder.json("t.jsonl", &[]);
        std::fs::write(&path, text).unwrap();
        let json =
            JsonLines::open(files::list(&path).unwrap(), &spec(&path), 1, Format::Json).unwrap();
        let was_sorted = Arc::new(AtomicBool::new(false));
        let feed = json_feed(&json, 0, json.start(None, 2, 2), None, Instant::now()).unwrap();
        let mut feed = feed.in_time_order(rows_max, was_sorted.clone());
        let mut chunks = Vec::new();
        loop {
            match feed.offer(Instant::now()).unwrap() {
                Offer::Pending => std::thread::sleep(std::time::Duration::from_millis(1)),
                Offer::End => break,
                _ => {
                    let chunk = feed.take(1).unwrap().chunk;
                    let offsets = chunk.offsets.values().to_vec();
                    chunks.push((numbers(&chunk), offsets, chunk.undecoded.len()));
                }
            }
        }
        chunks.retain(|(numbers, _, undecoded)| !numbers.is_empty() || *undecoded > 0);
        (chunks, was_sorted.load(Relaxed))
    }

    fn line(n: i64, time: &str) -> String {
        format!("{{\"time\": {time}, \"n\": {n}}}\n")
    }

    #[test]
    fn lines_come_in_order_of_time_with_their_positions() {
        let text = [line(0, "30"), line(1, "10"), line(2, "30"), line(3, "null"), line(4, "20")];
        let (chunks, was_sorted) = read(&text.concat(), 2);
        let wanted =
            [(vec![3, 1], vec![3, 1], 0), (vec![4, 0], vec![4, 0], 0), (vec![2], vec![2], 0)];
        assert_eq!(chunks, wanted);
        assert!(was_sorted);
    }

    #[test]
    fn lines_in_order_stay_and_bad_ones_are_said() {
        let text = [line(0, "10"), "{\n".to_owned(), line(1, "10"), line(2, "11")];
        let (chunks, was_sorted) = read(&text.concat(), 9);
        assert_eq!(chunks, [(vec![], vec![], 1), (vec![0, 1, 2], vec![0, 2, 3], 0)]);
        assert!(!was_sorted);
    }
}

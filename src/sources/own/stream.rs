//! A program's own events as a stream of a job.

use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{Schema, SchemaRef};
use driftline_operators::wake::Wake;

use crate::sources::columns::{Sound, check_time};
use crate::sources::one_partition::{Came, OnePartition, Place, Reader, Records};
use crate::sources::own::{EventSource, Next, OwnEvents};
use crate::sources::stored_columns::StoredColumns;
use crate::sources::stream::{Future, Partition, StreamSpec};
use crate::sources::{SourceError, failed};
use crate::text::without_prefixes;

/// What messages and dead letters call the partition of such events.
const NAME: &str = "events";

/// Own events as a stream of a job.
pub struct OwnStream {
    pub partition: Partition,
    pub columns: StoredColumns,
    events: OwnEvents,
    future: Option<Future>,
}

impl OwnStream {
    /// # Errors
    /// If there is no column of event time.
    pub fn open(events: &OwnEvents, spec: &StreamSpec, stream: usize) -> Result<Self, SourceError> {
        let (time, key) = (&spec.time, &spec.time_key);
        let stored = events.schema().as_ref().clone();
        let field = stored.field_with_name(time).map_err(|_| {
            let names: Vec<&str> =
                events.schema().fields().iter().map(|field| field.name().as_str()).collect();
            failed(NAME, format!("no column {time:?} ({key}); there are {}", names.join(", ")))
        })?;
        check_time(field.data_type(), spec.time_unit)
            .map_err(|error| failed(NAME, format!("column {time:?} ({key}): {error}")))?;
        let columns = StoredColumns::new(&stored, spec.uses())
            .map_err(|error| failed(NAME, without_prefixes(&error.to_string())))?;
        let partition = Partition { stream, name: NAME.to_owned(), floor: i64::MIN };
        let (events, future) = (events.clone(), spec.future.clone());
        Ok(OwnStream { partition, columns, events, future })
    }

    /// Begins to read; events are read once.
    ///
    /// # Errors
    /// If the column of event time was left out, or the events have been read already.
    pub fn feed(
        &self,
        partition: u32,
        limit: Option<u64>,
        chunk_rows_max: usize,
        idle_timeout: Option<Duration>,
    ) -> Result<OnePartition<OwnReader>, SourceError> {
        let source =
            self.events.take().ok_or_else(|| failed(NAME, "they have been read by another run"))?;
        let place = Place {
            name: NAME.to_owned(),
            stream: self.partition.stream,
            partition,
            time_column: self.columns.time_column().map_err(|error| failed(NAME, error))?,
            future: self
                .future
                .as_ref()
                .map(|future| future.in_columns(self.columns.schema()))
                .transpose()
                .map_err(|error| failed(NAME, error))?,
        };
        let reader = OwnReader {
            source,
            declared: self.events.schema().clone(),
            is_arranged: self.events.is_arranged(),
            columns: self.columns.clone(),
            chunk_rows_max,
            left: limit.unwrap_or(u64::MAX),
            rest: None,
            read: 0,
            is_exhausted: false,
        };
        Ok(OnePartition::new(place, reader, idle_timeout, Instant::now()))
    }
}

/// Brings own events into the form of the stream, in chunks.
pub struct OwnReader {
    source: Box<dyn EventSource>,
    declared: SchemaRef,
    is_arranged: bool,
    columns: StoredColumns,
    chunk_rows_max: usize,
    /// Rows that may still be read.
    left: u64,
    /// What of the last batch was too much for a chunk.
    rest: Option<RecordBatch>,
    read: u64,
    /// Whether the source was asked until it had nothing.
    is_exhausted: bool,
}

impl OwnReader {
    fn check(&self, batch: &RecordBatch) -> Result<(), SourceError> {
        let given: &Schema = batch.schema_ref();
        for field in self.declared.fields() {
            let found = given.field_with_name(field.name()).ok().map(|found| found.data_type());
            if found != Some(field.data_type()) {
                let (name, wanted) = (field.name(), field.data_type());
                let found = found.map_or("absent".to_owned(), |found| format!("of {found}"));
                let message = format!("column {name:?} of a batch is {found}, not of {wanted}");
                return Err(failed(NAME, message));
            }
        }
        Ok(())
    }

    fn chunk(&mut self, batch: &RecordBatch) -> Result<Records, SourceError> {
        let rows = batch.num_rows().min(self.chunk_rows_max).min(self.left as usize);
        let after = batch.num_rows() - rows;
        self.rest = (after > 0).then(|| batch.slice(rows, after));
        let first = self.read;
        self.read += rows as u64;
        self.left -= rows as u64;
        let stored = batch.slice(0, rows);
        let offsets = UInt64Array::from_iter_values(first..self.read);
        let arranged = match self.is_arranged {
            true => self.columns.of_arranged(&stored),
            false => self.columns.arrange(&stored),
        };
        let sound = arranged.and_then(|all| all.sound(&stored, offsets));
        let Sound { rows, offsets, undecoded } = sound.map_err(|error| failed(NAME, error))?;
        Ok(Records {
            rows,
            offsets,
            raw: None,
            envelopes: None,
            deleted: None,
            undecoded,
            sent: None,
        })
    }
}

impl Reader for OwnReader {
    fn read(&mut self) -> Result<Came, SourceError> {
        if self.left == 0 {
            return Ok(Came::End);
        }
        if let Some(rest) = self.rest.take() {
            return self.chunk(&rest).map(|records| Came::Records(Box::new(records)));
        }
        let next = self.source.next().map_err(|error| failed(NAME, error))?;
        self.is_exhausted = matches!(next, Next::Nothing);
        match next {
            Next::Events(batch) if batch.num_rows() == 0 => Ok(Came::Nothing),
            Next::Events(batch) => {
                if !self.is_arranged {
                    self.check(&batch)?;
                }
                self.chunk(&batch).map(|records| Came::Records(Box::new(records)))
            }
            Next::Nothing => Ok(Came::Nothing),
            Next::End => Ok(Came::End),
        }
    }

    fn none(&self) -> Records {
        Records {
            rows: RecordBatch::new_empty(self.columns.schema().clone()),
            offsets: UInt64Array::from_iter_values([]),
            raw: None,
            envelopes: None,
            deleted: None,
            sent: None,
            undecoded: Vec::new(),
        }
    }

    fn wake_with(&mut self, wake: Wake) {
        self.source.wake_with(wake);
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        (!self.source.wakes() || !self.is_exhausted).then_some(now)
    }
}

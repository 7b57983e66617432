//! Records that could not be processed, as rows: nothing is dropped silently.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringBuilder, TimestampMillisecondBuilder,
    UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};

use crate::beside::bytes_at;
use crate::chunk::{Chunk, Undecoded};
use crate::layout::{ENVELOPE, EventLayout, OFFSET, PARTITION};
use crate::partition_names::PartitionNames;

/// Why a record is a dead letter. The names appear in the `reason` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are not an event of the expected schema.
    DecodeFailed,
    /// The record has no event time.
    NoEventTime,
    /// The record is late and the job says so.
    Late,
    /// The record is older than `late_horizon_ms`.
    TooLate,
    /// The event time is more than `future_horizon_ms` beyond the time of the record's own message.
    TooEarly,
    /// A feature the model needs is null and has no default.
    MissingFeature,
    /// A value of a feature, or the row, fails a rule of the job.
    ValidationFailed,
    /// The model refused the row.
    ScoringFailed,
    /// It had waited for too long when a model could have scored it.
    TimedOut,
    /// It names a model that the job has not.
    UnknownModel,
    /// No route takes the row, and somebody waits for what becomes of it.
    NoRoute,
    /// A row of a table has no key or no time.
    TableRow,
    /// The prediction is larger than its topic takes.
    MessageTooLarge,
    /// The topic refuses the prediction for another cause.
    MessageRefused,
}

impl Reason {
    pub const ALL: [Reason; 14] = [
        Reason::DecodeFailed,
        Reason::NoEventTime,
        Reason::Late,
        Reason::TooLate,
        Reason::TooEarly,
        Reason::MissingFeature,
        Reason::ValidationFailed,
        Reason::ScoringFailed,
        Reason::TimedOut,
        Reason::UnknownModel,
        Reason::NoRoute,
        Reason::TableRow,
        Reason::MessageTooLarge,
        Reason::MessageRefused,
    ];
    /// What is not in the list is in no account.
    const _IN_ORDER: () = {
        let mut at = 0;
        while at < Self::ALL.len() {
            assert!(Self::ALL[at] as usize == at);
            at += 1;
        }
        assert!(Reason::MessageRefused as usize + 1 == at);
    };

    /// The reason that is called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Reason::DecodeFailed => "decode_failed",
            Reason::NoEventTime => "no_event_time",
            Reason::Late => "late",
            Reason::TooLate => "too_late",
            Reason::TooEarly => "too_early",
            Reason::MissingFeature => "missing_feature",
            Reason::ValidationFailed => "validation_failed",
            Reason::ScoringFailed => "scoring_failed",
            Reason::TimedOut => "timed_out",
            Reason::UnknownModel => "unknown_model",
            Reason::NoRoute => "no_route",
            Reason::TableRow => "table_row",
            Reason::MessageTooLarge => "message_too_large",
            Reason::MessageRefused => "message_refused",
        }
    }
}

/// Columns of a dead letter.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("event_id", true),
        Field::new(
            "event_time",
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            true,
        ),
        text("reason", false),
        text("detail", false),
        text("partition", false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("payload", DataType::Binary, true),
        // For sinks.
        Field::new(PARTITION, DataType::UInt32, false),
        Field::new(OFFSET, DataType::UInt64, false),
        Field::new(ENVELOPE, DataType::Binary, true),
    ]))
});

/// Room for letters that is made with the first of them.
const LETTERS: usize = 16;
/// Bytes of texts and payloads that they have room for.
const BYTES: usize = 1_024;

/// No letters.
static NONE: LazyLock<RecordBatch> = LazyLock::new(|| RecordBatch::new_empty(SCHEMA.clone()));

/// Collects dead letters into a batch of [`SCHEMA`]. Nearly always there are none: until there is one,
/// there are no columns.
pub struct DeadLetters {
    partition_names: PartitionNames,
    columns: Option<Box<Columns>>,
}

/// Columns of [`SCHEMA`] that grow.
struct Columns {
    event_id: StringBuilder,
    event_time: TimestampMillisecondBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    partition: StringBuilder,
    offset: UInt64Builder,
    payload: BinaryBuilder,
    number: UInt32Builder,
    envelope: BinaryBuilder,
}

impl Columns {
    fn new() -> Self {
        let text = || StringBuilder::with_capacity(LETTERS, BYTES);
        let bytes = || BinaryBuilder::with_capacity(LETTERS, BYTES);
        Columns {
            event_id: text(),
            event_time: TimestampMillisecondBuilder::with_capacity(LETTERS).with_timezone("UTC"),
            reason: text(),
            detail: text(),
            partition: text(),
            offset: UInt64Builder::with_capacity(LETTERS),
            payload: bytes(),
            number: UInt32Builder::with_capacity(LETTERS),
            envelope: bytes(),
        }
    }

    fn finish(mut self) -> RecordBatch {
        let offsets: ArrayRef = Arc::new(self.offset.finish());
        RecordBatch::try_new(
            SCHEMA.clone(),
            vec![
                Arc::new(self.event_id.finish()),
                Arc::new(self.event_time.finish()),
                Arc::new(self.reason.finish()),
                Arc::new(self.detail.finish()),
                Arc::new(self.partition.finish()),
                offsets.clone(),
                Arc::new(self.payload.finish()),
                Arc::new(self.number.finish()),
                offsets,
                Arc::new(self.envelope.finish()),
            ],
        )
        .expect("the builders are those of the schema")
    }
}

/// Where a record came from, and what it came as.
struct Record<'a> {
    /// Where it was decoded.
    event: Option<Event>,
    partition: u32,
    offset: u64,
    payload: Option<&'a [u8]>,
    envelope: Option<&'a [u8]>,
}

/// What is known of a record that was decoded.
struct Event {
    id: String,
    time: Option<i64>,
}

impl DeadLetters {
    /// `partition_names`: what partition `i` is called (a path, a topic and its partition).
    pub fn new(partition_names: PartitionNames) -> Self {
        DeadLetters { partition_names, columns: None }
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_none()
    }

    /// A record that was never decoded.
    pub fn undecoded(&mut self, partition: u32, record: &Undecoded) {
        let Undecoded { offset, why, bytes, envelope } = record;
        let record = Record {
            event: None,
            partition,
            offset: *offset,
            payload: bytes.as_deref(),
            envelope: envelope.as_deref(),
        };
        self.push(Reason::DecodeFailed, why, record);
    }

    /// Row `row` of a batch of admitted events; its payload is the bytes it came as, or, for a row
    /// that came as columns, its columns as one JSON object.
    ///
    /// # Errors
    /// If a column has no JSON form.
    pub fn row(
        &mut self,
        reason: Reason,
        detail: &str,
        batch: &RecordBatch,
        layout: &EventLayout,
        row: usize,
    ) -> Result<(), ArrowError> {
        let (partition, offset) =
            (layout.partitions(batch).value(row), layout.offsets(batch).value(row));
        let json;
        let payload = match layout.raw {
            Some(raw) => bytes_at(batch.column(raw), row).unwrap_or_default(),
            None => {
                json = row_as_json(&batch.slice(row, 1), layout.event_columns)?;
                &json
            }
        };
        let envelope = layout.envelope.and_then(|at| bytes_at(batch.column(at), row));
        let event = Event {
            id: layout.request_id(batch, row),
            time: (reason != Reason::NoEventTime).then(|| layout.times(batch).value(row)),
        };
        let record =
            Record { event: Some(event), partition, offset, payload: Some(payload), envelope };
        self.push(reason, detail, record);
        Ok(())
    }

    /// Row `row` of a chunk of a table; its payload is the bytes it came as, or its columns as one
    /// JSON object.
    ///
    /// # Errors
    /// If a column has no JSON form.
    pub fn table_row(&mut self, chunk: &Chunk, detail: &str, row: usize) -> Result<(), ArrowError> {
        let json;
        let payload = match &chunk.raw {
            Some(raw) => raw.as_binary::<i32>().value(row),
            None => {
                json = row_as_json(&chunk.rows.slice(row, 1), chunk.rows.num_columns())?;
                &json
            }
        };
        let (partition, offset) = (chunk.partition, chunk.offsets.value(row));
        let envelope = chunk.envelopes.as_ref().and_then(|column| bytes_at(column, row));
        self.push(
            Reason::TableRow,
            detail,
            Record { event: None, partition, offset, payload: Some(payload), envelope },
        );
        Ok(())
    }

    fn push(&mut self, reason: Reason, detail: &str, record: Record) {
        let Record { event, partition, offset, payload, envelope } = record;
        let columns = self.columns.get_or_insert_with(|| Box::new(Columns::new()));
        let (id, time) = event.map_or((None, None), |event| (Some(event.id), event.time));
        columns.event_id.append_option(id);
        columns.event_time.append_option(time);
        columns.reason.append_value(reason.name());
        columns.detail.append_value(detail);
        columns.partition.append_value(self.partition_names.get(partition).unwrap_or_default());
        columns.offset.append_value(offset);
        columns.payload.append_option(payload);
        columns.number.append_value(partition);
        columns.envelope.append_option(envelope);
    }

    /// The letters so far, `[letters]`; the builder starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        self.finish_some().unwrap_or_else(|| NONE.clone())
    }

    /// The letters so far, if there are any; the builder starts anew.
    pub fn finish_some(&mut self) -> Option<RecordBatch> {
        self.columns.take().map(|columns| columns.finish())
    }
}

/// The first `columns` columns of a one-row batch as a JSON object, nulls included.
///
/// # Errors
/// If a column has no JSON form.
pub fn row_as_json(row: &RecordBatch, columns: usize) -> Result<Vec<u8>, ArrowError> {
    let own = row.project(&(0..columns).collect::<Vec<_>>())?;
    let mut writer =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&own)?;
    writer.finish()?;
    let mut json = writer.into_inner();
    while json.last() == Some(&b'\n') {
        json.pop();
    }
    Ok(json)
}

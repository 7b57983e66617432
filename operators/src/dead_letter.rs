//! Records that could not be processed, as rows: nothing is dropped silently.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};

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
    /// The model refused the row.
    ScoringFailed,
    /// A row of a table has no key or no time.
    TableRow,
    /// The prediction is larger than its topic takes.
    MessageTooLarge,
    /// The topic refuses the prediction for another cause.
    MessageRefused,
}

impl Reason {
    pub const ALL: [Reason; 10] = [
        Reason::DecodeFailed,
        Reason::NoEventTime,
        Reason::Late,
        Reason::TooLate,
        Reason::TooEarly,
        Reason::MissingFeature,
        Reason::ScoringFailed,
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
            Reason::ScoringFailed => "scoring_failed",
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

/// Collects dead letters into a batch of [`SCHEMA`].
pub struct DeadLetters {
    partition_names: PartitionNames,
    event_id: StringBuilder,
    event_time: TimestampMillisecondBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    partition: StringBuilder,
    offset: UInt64Builder,
    payload: BinaryBuilder,
    number: UInt32Builder,
    envelope: BinaryBuilder,
    rows: usize,
}

/// Where a record came from, and what it came as.
struct Record<'a> {
    partition: u32,
    offset: u64,
    payload: Option<&'a [u8]>,
    envelope: Option<&'a [u8]>,
}

impl DeadLetters {
    /// `partition_names`: what partition `i` is called (a path, a topic and its partition).
    pub fn new(partition_names: PartitionNames) -> Self {
        DeadLetters {
            partition_names,
            event_id: StringBuilder::new(),
            event_time: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            partition: StringBuilder::new(),
            offset: UInt64Builder::new(),
            payload: BinaryBuilder::new(),
            number: UInt32Builder::new(),
            envelope: BinaryBuilder::new(),
            rows: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A record that was never decoded.
    pub fn undecoded(&mut self, partition: u32, record: &Undecoded) {
        self.event_id.append_null();
        self.event_time.append_null();
        let Undecoded { offset, why, bytes, envelope } = record;
        let record = Record {
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
        self.event_id.append_value(layout.request_id(batch, row));
        match reason {
            Reason::NoEventTime => self.event_time.append_null(),
            _ => self.event_time.append_value(layout.times(batch).value(row)),
        }
        let (partition, offset) =
            (layout.partitions(batch).value(row), layout.offsets(batch).value(row));
        let json;
        let payload = match layout.raw {
            Some(raw) => batch.column(raw).as_binary::<i32>().value(row),
            None => {
                json = row_as_json(&batch.slice(row, 1), layout.event_columns)?;
                &json
            }
        };
        let envelope = layout.envelope.and_then(|at| bytes_at(batch.column(at), row));
        self.push(reason, detail, Record { partition, offset, payload: Some(payload), envelope });
        Ok(())
    }

    /// Row `row` of a chunk of a table; its payload is the bytes it came as, or its columns as one
    /// JSON object.
    ///
    /// # Errors
    /// If a column has no JSON form.
    pub fn table_row(&mut self, chunk: &Chunk, detail: &str, row: usize) -> Result<(), ArrowError> {
        self.event_id.append_null();
        self.event_time.append_null();
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
            Record { partition, offset, payload: Some(payload), envelope },
        );
        Ok(())
    }

    fn push(&mut self, reason: Reason, detail: &str, record: Record) {
        let Record { partition, offset, payload, envelope } = record;
        self.reason.append_value(reason.name());
        self.detail.append_value(detail);
        self.partition.append_value(self.partition_names.get(partition).unwrap_or_default());
        self.offset.append_value(offset);
        self.payload.append_option(payload);
        self.number.append_value(partition);
        self.envelope.append_option(envelope);
        self.rows += 1;
    }

    /// The letters so far, `[letters]`; the builder starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
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

fn bytes_at(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    let column = column.as_binary::<i32>();
    column.is_valid(row).then(|| column.value(row))
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

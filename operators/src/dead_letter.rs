//! Records that could not be processed, as rows: nothing is dropped silently.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    AsArray, BinaryBuilder, RecordBatch, StringBuilder, TimestampMillisecondBuilder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};

use crate::chunk::Chunk;
use crate::layout::EventLayout;

/// Why a record is a dead letter. The names appear in the `reason` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bytes are not an event of the expected schema.
    DecodeFailed,
    /// The record has no event time.
    NoEventTime,
    /// The record is late and the job says so.
    Late,
    /// The record is older than `late_horizon_ms`.
    TooLate,
    /// A feature the model needs is null and has no default.
    MissingFeature,
    /// The model refused the row.
    ScoringFailed,
    /// A row of a table has no key or no time.
    TableRow,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::DecodeFailed => "decode_failed",
            Reason::NoEventTime => "no_event_time",
            Reason::Late => "late",
            Reason::TooLate => "too_late",
            Reason::MissingFeature => "missing_feature",
            Reason::ScoringFailed => "scoring_failed",
            Reason::TableRow => "table_row",
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
    ]))
});

/// Collects dead letters into a batch of [`SCHEMA`].
pub struct DeadLetters {
    partition_names: Arc<[String]>,
    event_id: StringBuilder,
    event_time: TimestampMillisecondBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    partition: StringBuilder,
    offset: UInt64Builder,
    payload: BinaryBuilder,
    rows: usize,
}

impl DeadLetters {
    /// `partition_names`: what partition `i` is called (a path, a topic and its partition).
    pub fn new(partition_names: Arc<[String]>) -> Self {
        DeadLetters {
            partition_names,
            event_id: StringBuilder::new(),
            event_time: TimestampMillisecondBuilder::new().with_timezone("UTC"),
            reason: StringBuilder::new(),
            detail: StringBuilder::new(),
            partition: StringBuilder::new(),
            offset: UInt64Builder::new(),
            payload: BinaryBuilder::new(),
            rows: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A record that was never decoded.
    pub fn undecoded(&mut self, partition: u32, offset: u64, detail: &str, payload: &[u8]) {
        self.event_id.append_null();
        self.event_time.append_null();
        self.push(Reason::DecodeFailed, detail, partition, offset, Some(payload));
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
        self.push(reason, detail, partition, offset, Some(payload));
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
        let offset = chunk.offsets.value(row);
        self.push(Reason::TableRow, detail, chunk.partition, offset, Some(payload));
        Ok(())
    }

    fn push(
        &mut self,
        reason: Reason,
        detail: &str,
        partition: u32,
        offset: u64,
        payload: Option<&[u8]>,
    ) {
        self.reason.append_value(reason.name());
        self.detail.append_value(detail);
        let name = self.partition_names.get(partition as usize).map_or("", String::as_str);
        self.partition.append_value(name);
        self.offset.append_value(offset);
        self.payload.append_option(payload);
        self.rows += 1;
    }

    /// The letters so far, `[letters]`; the builder starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        RecordBatch::try_new(
            SCHEMA.clone(),
            vec![
                Arc::new(self.event_id.finish()),
                Arc::new(self.event_time.finish()),
                Arc::new(self.reason.finish()),
                Arc::new(self.detail.finish()),
                Arc::new(self.partition.finish()),
                Arc::new(self.offset.finish()),
                Arc::new(self.payload.finish()),
            ],
        )
        .expect("the builders are those of the schema")
    }
}

/// The first `columns` columns of a one-row batch as a JSON object, nulls included.
fn row_as_json(row: &RecordBatch, columns: usize) -> Result<Vec<u8>, ArrowError> {
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

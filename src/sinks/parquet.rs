//! Results as Parquet: one file a worker, under a temporary name until the run is complete.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use driftline_operators::layout::{Published, published_schema};
use driftline_operators::sinks::{Sink, SinkError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::failed;

/// Rows of a row group.
const GROUP_ROWS_MAX: usize = 131_072;

/// What a footer says that is known only when the file ends.
pub type Footnotes = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// What goes into the footers of files.
#[derive(Clone, Default)]
pub struct Footer {
    pub pairs: Vec<(String, String)>,
    pub footnotes: Option<Footnotes>,
}

/// Writes one file. It is durable, and its rows count, when it is finished.
pub struct ParquetSink {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    published: Published,
    footnotes: Option<Footnotes>,
    written: u64,
    durable: u64,
}

impl ParquetSink {
    /// `metadata` goes into the footer. The values of `unique` columns, by path, hardly occur twice: they
    /// are written without dictionary, times as differences.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(
        path: PathBuf,
        schema: SchemaRef,
        metadata: &[(String, String)],
        unique: &[&str],
    ) -> Result<Self, SinkError> {
        let error = |error: &dyn std::fmt::Display| failed(path.display(), error);
        let pairs = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
            .set_data_page_row_count_limit(GROUP_ROWS_MAX)
            .set_key_value_metadata(Some(pairs.collect()));
        for &path in unique {
            let column = ColumnPath::new(path.split('.').map(str::to_owned).collect());
            properties = properties.set_column_dictionary_enabled(column.clone(), false);
            if schema.field_with_name(path).is_ok_and(|field| field.data_type().is_temporal()) {
                properties = properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
            }
        }
        let file = File::create(&path).map_err(|e| error(&e))?;
        let writer =
            ArrowWriter::try_new(file, published_schema(&schema), Some(properties.build()));
        let writer = writer.map_err(|e| error(&e))?;
        Ok(ParquetSink {
            path,
            writer: Some(writer),
            published: Published::default(),
            footnotes: None,
            written: 0,
            durable: 0,
        })
    }

    /// The same with what `footnotes` say at its end.
    #[must_use]
    pub fn with(self, footnotes: Option<Footnotes>) -> Self {
        ParquetSink { footnotes, ..self }
    }

    fn error(&self, error: impl std::fmt::Display) -> SinkError {
        failed(self.path.display(), error)
    }
}

impl Sink for ParquetSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let Some(writer) = self.writer.as_mut() else {
            return Err(self.error("the file is finished already"));
        };
        let wrote = writer.write(&self.published.of(batch));
        wrote.map_err(|error| self.error(error))?;
        self.written += batch.num_rows() as u64;
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        for (key, value) in self.footnotes.as_ref().map(|say| say()).unwrap_or_default() {
            writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        let file = writer.into_inner().map_err(|error| self.error(error))?;
        file.sync_all().map_err(|error| self.error(error))?;
        self.durable += std::mem::take(&mut self.written);
        Ok(())
    }
}

//! Baselines as files.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::drift::baseline::{Baseline, schema};

use super::prepare::read_parquet;
use super::scoring::digest;
use crate::sinks::parquet::ParquetSink;

/// Reads the baseline at `path`, and the id that figures against it carry.
///
/// # Errors
/// If it is missing or no baseline.
pub fn read(path: &Path) -> Result<(Baseline, String)> {
    if !path.is_file() {
        anyhow::bail!(
            "{}: there is no such baseline (drift.baseline); make it with `driftline baseline`",
            path.display()
        );
    }
    let baseline = Baseline::from_batches(&[read_parquet(path)?]);
    Ok((baseline.with_context(|| path.display().to_string())?, digest(path)?))
}

/// What the workers of a baseline run have found, in memory.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<RecordBatch>>>);

impl Collected {
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(self.clone())
    }

    /// The references of `columns`, each of `rows` scored rows.
    ///
    /// # Errors
    /// If a column does not hold all rows.
    pub fn baseline(&self, columns: &[String], rows: u64) -> Result<Baseline> {
        let batches = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let baseline = Baseline::from_batches(&batches)?;
        for column in columns {
            let reference = baseline.references.get(column);
            let held = reference.map_or(0, |found| found.moments.n + found.null_count);
            anyhow::ensure!(
                held == rows,
                "the account of the baseline does not balance, and nothing was written: {column:?} holds {held} rows, but {rows} were scored"
            );
        }
        Ok(baseline)
    }
}

impl Sink for Collected {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(batch.clone());
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        0
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A sink that counts rows and keeps none.
struct Counting(u64);

pub fn counting() -> Box<dyn Sink> {
    Box::new(Counting(0))
}

impl Sink for Counting {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.0 += batch.num_rows() as u64;
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Writes a baseline under a temporary name and moves it to `path`. The same references give the
/// same bytes, whichever worker found them.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, baseline: &Baseline, metadata: &[(String, String)]) -> Result<()> {
    let name = || path.display().to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(name)?;
    }
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let written = (|| -> Result<()> {
        let mut sink = ParquetSink::create(temporary.clone(), schema(), metadata, &["value"])?;
        for (feature, reference) in &baseline.references {
            sink.write(&driftline_operators::drift::baseline::to_batch(
                feature,
                &reference.runs,
                reference.null_count,
            ))?;
        }
        sink.finish()?;
        std::fs::rename(&temporary, path).with_context(name)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

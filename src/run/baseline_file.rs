//! Baselines as files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use driftline_operators::drift::baseline::{
    Baseline, Reference, ReferenceKind, References, Together, schema, to_batch,
};
use driftline_operators::drift::thinning::seed_of;
use driftline_operators::sinks::{Sink, SinkError};

use super::loading::digest;
use super::outputs::MODEL_DIGEST_KEY;
use super::prepare::{parquet_batches, read_parquet};
use crate::sinks::parquet::ParquetSink;
use crate::sources::parquet::guard;

/// A baseline, and what its file says of it.
pub struct BaselineFile {
    pub baseline: Baseline,
    pub kind: ReferenceKind,
    /// Rows that the baseline was made from, and rows that it holds.
    pub rows: u64,
    pub rows_held: u64,
    /// What figures against it carry to identify it.
    pub id: String,
}

/// What a baseline's file says of it.
pub struct BaselineAbout {
    pub kind: ReferenceKind,
    pub rows: u64,
    pub rows_held: u64,
    pub id: String,
    /// XXH3-64 of the model that made its predictions, where that is said.
    pub model_digest: Option<String>,
}

/// In the footer: whether all rows are there, and of how many.
const KIND: &str = "driftline.reference";
const ROWS: &str = "driftline.reference_rows";

impl BaselineFile {
    /// The baseline of `rows` rows, of which at most `sample_max` are kept.
    pub fn new(mut full: Baseline, rows: u64, sample_max: Option<u64>) -> Self {
        let rows_held = sample_max.map_or(rows, |most| most.min(rows));
        for (name, reference) in &mut full.references {
            *reference = reference.thinned(rows_held, seed_of(name));
        }
        let kind = if rows_held < rows { ReferenceKind::Sample } else { ReferenceKind::Full };
        BaselineFile { baseline: full, kind, rows, rows_held, id: String::new() }
    }

    /// Reads the baseline at `path`.
    ///
    /// # Errors
    /// If it is missing or no baseline.
    pub fn read(path: &Path) -> Result<Self> {
        let (references, about) = read_each(path, |_, reference| reference)?;
        let BaselineAbout { kind, rows, rows_held, id, .. } = about;
        Ok(BaselineFile { baseline: Baseline { references }, kind, rows, rows_held, id })
    }

    /// Writes the baseline under a temporary name and moves it to `path`. The same references give
    /// the same bytes, whichever worker found them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path, mut metadata: Vec<(String, String)>) -> Result<()> {
        let name = || path.display().to_string();
        metadata.push((KIND.to_owned(), self.kind.name().to_owned()));
        metadata.push((ROWS.to_owned(), self.rows.to_string()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(name)?;
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{file}.tmp-{}", std::process::id()));
        let written = (|| -> Result<()> {
            let mut sink = ParquetSink::create(temporary.clone(), schema(), &metadata, &["value"])?;
            for (feature, reference) in &self.baseline.references {
                sink.write(&to_batch(feature, &reference.runs, reference.null_count))?;
            }
            sink.finish()?;
            std::fs::rename(&temporary, path).with_context(name)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

/// Reads the baseline at `path`, and what is `made` of each of its references: one of them is in memory
/// at a time, unless the rows of a feature stand apart.
///
/// # Errors
/// If it is missing or no baseline.
pub fn read_each<T>(
    path: &Path,
    made: impl Fn(&str, Reference) -> T,
) -> Result<(BTreeMap<String, T>, BaselineAbout)> {
    let name = || path.display().to_string();
    if !path.is_file() {
        bail!(
            "{}: there is no such baseline (drift.baseline); make it with `driftline baseline`",
            path.display()
        );
    }
    let (mut all, mut rows_held) = (BTreeMap::new(), 0);
    let mut take = |feature: &str, reference: Reference| {
        rows_held = rows_held.max(reference.moments.n + reference.null_count);
        all.insert(feature.to_owned(), made(feature, reference));
    };
    if read_in_order(path, &mut take)? == Together::No {
        let whole = Baseline::from_batches(&[read_parquet(path)?]).with_context(name)?;
        whole.references.into_iter().for_each(|(feature, reference)| take(&feature, reference));
    }
    let about = about(path, rows_held)?;
    Ok((all, about))
}

/// Gives out references while the rows of a feature stand together.
fn read_in_order(path: &Path, given: &mut impl FnMut(&str, Reference)) -> Result<Together> {
    let name = || path.display().to_string();
    let mut references = References::default();
    for batch in parquet_batches(path)? {
        if references.add(&batch?, given).with_context(name)? == Together::No {
            return Ok(Together::No);
        }
    }
    references.give(given).with_context(name)?;
    Ok(Together::Yes)
}

/// What the footer says; the baseline holds `rows_held` rows.
fn about(path: &Path, rows_held: u64) -> Result<BaselineAbout> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(name)?;
    let footer = guard::footer(&file).with_context(name)?;
    let pairs = footer.metadata().file_metadata().key_value_metadata();
    let value = |key: &str| {
        let pair = pairs.into_iter().flatten().find(|pair| pair.key == key)?;
        pair.value.as_deref()
    };
    let kind = match value(KIND) {
        // Files without the key are older than sampling.
        Some("full") | None => ReferenceKind::Full,
        Some("sample") => ReferenceKind::Sample,
        Some(other) => bail!("{}: {KIND} is {other:?}, not full or sample", path.display()),
    };
    let rows = match value(ROWS) {
        Some(rows) => rows
            .parse()
            .with_context(|| format!("{}: {ROWS} is {rows:?}, not a number", path.display()))?,
        None => rows_held,
    };
    let model_digest = value(MODEL_DIGEST_KEY).map(str::to_owned);
    Ok(BaselineAbout { kind, rows, rows_held, id: digest(path)?, model_digest })
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
        anyhow::ensure!(
            rows > 0,
            "no event was scored, so there is nothing to compare with and no baseline was written; see --from, --to and event.filter"
        );
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

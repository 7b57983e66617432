//! What a row of an ensemble of trees takes, compiled and by ONNX Runtime on one thread, by the rows of
//! a batch: the flights models over their year, and those of bench/trees/models.py.
//! `scripts/bench.sh trees`
//!
//! Both score the same batches in turn; each figure is the least of several turns, as other programs
//! only ever add to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use driftline::models::onnx::{self, ModelSpec};
use driftline::models::runtime;
use driftline::run::prepare::read_parquet;
use driftline::{Job, Pipeline};
use driftline_operators::model::Model;
use indexmap::IndexMap;

/// As the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a batch.
const SIZES: [usize; 4] = [1, 16, 256, 1_024];
/// Rows that are scored in a turn, in batches of one and in others.
const ROWS: [usize; 2] = [1_024, 8_192];
const TURNS: usize = 7;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = std::env::args_os().skip(1).filter(|arg| arg != "--bench").map(PathBuf::from);
    println!("| model | rows a batch | compiled, ns a row | ONNX Runtime, ns a row | ratio |");
    println!("| --- | --- | --- | --- | --- |");
    let flights = flights(root)?;
    for model in ["trees", "forest", "regression"] {
        measure(&root.join(format!("data/flights/models/{model}.onnx")), &flights)?;
    }
    for folder in folders {
        let mut models = std::fs::read_dir(&folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        models.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        models.sort();
        let rows = floats(&read_parquet(&folder.join("rows.parquet"))?, None)?;
        models.iter().try_for_each(|model| measure(model, &rows))?;
    }
    Ok(())
}

/// What the flights models are given.
fn flights(root: &Path) -> Result<RecordBatch> {
    let folder = tempfile::tempdir()?;
    let (job, exported) =
        (Job::load(&root.join("jobs/flights.toml"))?, folder.path().join("features"));
    let names = job.model.as_ref().context("the flights job has a model")?.features.clone();
    Pipeline::new(job).out(folder.path().join("results")).export(&exported)?;
    floats(&read_parquet(&exported.join("part-00000.parquet"))?, Some(&names))
}

/// Rows of a turn as the engine has them, spread over all; of the columns those that are named.
fn floats(rows: &RecordBatch, names: Option<&[String]>) -> Result<RecordBatch> {
    let all = rows.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let names = names.unwrap_or(&all);
    let first = rows.num_rows().saturating_sub(ROWS[1]) / 2;
    let column = |name: &String| {
        let column = rows.column_by_name(name).with_context(|| format!("no column {name}"))?;
        Ok(cast(&column.slice(first, ROWS[1].min(rows.num_rows())), &DataType::Float64)?)
    };
    let columns = names.iter().map(column).collect::<Result<Vec<_>>>()?;
    let fields = names.iter().map(|name| Field::new(name, DataType::Float64, true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}

fn measure(path: &Path, rows: &RecordBatch) -> Result<()> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let fields: Vec<Field> =
        rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let load = |compile_trees| {
        let (features, inputs) = (fields.as_slice(), &IndexMap::new());
        let spec = ModelSpec {
            path,
            features,
            inputs,
            output: None,
            task: None,
            compile_trees,
            keep_input: false,
            may_be_null: &[],
        };
        onnx::load(&runtime::load()?, &spec).map_err(anyhow::Error::from)
    };
    let (mut ours, mut theirs) = (load(true)?, load(false)?);
    if let Some(why) = ours.why_not_compiled {
        println!("| {name} | | {why} | | |");
        return Ok(());
    }
    for size in SIZES {
        let count = ROWS[usize::from(size > 1)].min(rows.num_rows()) / size * size;
        let mut least = [f64::INFINITY; 2];
        for _ in 0..TURNS {
            for (least, model) in least.iter_mut().zip([&mut ours.model, &mut theirs.model]) {
                *least = least.min(turn(model.as_mut(), rows, count, size)?);
            }
        }
        let [ours, theirs] = least;
        println!("| {name} | {size} | {ours:.0} | {theirs:.0} | {:.1} |", theirs / ours);
    }
    Ok(())
}

/// Scores so many rows in batches; ns a row.
fn turn(model: &mut dyn Model, rows: &RecordBatch, count: usize, size: usize) -> Result<f64> {
    let started = Instant::now();
    for first in (0..count).step_by(size) {
        model.score(&rows.slice(first, size))?;
    }
    Ok(started.elapsed().as_nanos() as f64 / count as f64)
}

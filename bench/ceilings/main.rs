//! What the engine costs: the flights year through a straight line of the same parts in one thread,
//! through the engine, through the engine with a model that does nothing, and its feature rows through
//! ONNX Runtime alone at its best batch. `cargo bench --bench ceilings`

mod straight;
mod versions;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use driftline::model::{Model, ModelError, Scores, Task};
use driftline::models::runtime;
use driftline::run::prepare::read_parquet;
use driftline::{Job, Pipeline};
use ort::session::Session;
use ort::value::TensorRef;

const RUNS: usize = 5;
const BATCHES: [usize; 4] = [64, 256, 1_024, 4_096];

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    println!("| model | what | events/s | of the engine |");
    println!("| --- | --- | --- | --- |");
    for model in ["trees", "logistic"] {
        let job = || job(model, folder.path());
        let features = features(&job()?, folder.path())?;
        let rows = features.len() / job()?.model.context("a model")?.features.len();
        let (alone, batch) = alone(model, &features, rows)?;
        // In turn, so that a slow minute of the machine falls on all of them alike.
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            rates[0].push(timed(rows, || engine(job()?, folder.path(), false))?);
            rates[1].push(timed(rows, || engine(job()?, folder.path(), true))?);
            rates[2].push(timed(rows, || straight::run(&Arc::new(job()?), folder.path()))?);
        }
        let [engine, empty, straight] = rates.map(median);
        let alone_name = format!("ONNX Runtime alone, batches of {batch}");
        for (what, rate) in [
            ("the engine", engine),
            ("the engine with an empty model", empty),
            ("a straight line of its parts", straight),
            (alone_name.as_str(), alone),
        ] {
            println!("| {model} | {what} | {rate:.0} | {:.2} |", rate / engine);
        }
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn job(model: &str, folder: &Path) -> Result<Job> {
    let mut job = Job::load(&root().join("jobs/flights.toml"))?;
    let data = root().join("data/flights");
    job.model.as_mut().context("a model")?.path = data.join(format!("models/{model}.onnx"));
    job.drift.as_mut().context("drift")?.baseline = data.join(format!("baseline-{model}.parquet"));
    job.outputs = job.outputs.below(folder);
    Ok(job)
}

/// Events a second.
fn timed(rows: usize, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    run()?;
    Ok(rows as f64 / started.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Gives every row the same.
struct Empty;

impl Model for Empty {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        Ok(Scores { predictions: vec![0.5; 2 * features.num_rows()], input: None })
    }

    fn width(&self) -> usize {
        2
    }

    fn task(&self) -> Task {
        Task::Binary
    }
}

fn engine(job: Job, folder: &Path, empty: bool) -> Result<()> {
    let mut pipeline = Pipeline::new(job).out(folder.join("results"));
    if empty {
        pipeline = pipeline.model(|_features| Ok(Box::new(Empty)));
    }
    pipeline.run()?;
    Ok(())
}

/// The model's inputs of all rows, `[rows, inputs]`.
fn features(job: &Job, folder: &Path) -> Result<Vec<f32>> {
    let exported: PathBuf = folder.join("features");
    Pipeline::new(job.clone()).out(folder).export(&exported)?;
    let rows = read_parquet(&exported.join("part-00000.parquet"))?;
    let names = &job.model.as_ref().context("a model")?.features;
    let column = |name: &String| {
        let column = rows.column_by_name(name).context("a column")?;
        Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    };
    let columns = names.iter().map(column).collect::<Result<Vec<_>>>()?;
    let values = (0..rows.num_rows())
        .flat_map(|row| columns.iter().map(move |column| column.value(row) as f32));
    Ok(values.collect())
}

/// The best rate of ONNX Runtime, and the rows of its batches.
fn alone(model: &str, features: &[f32], rows: usize) -> Result<(f64, usize)> {
    let environment = runtime::load()?;
    let path = root().join(format!("data/flights/models/{model}.onnx"));
    let mut session = Session::builder(&environment)?
        .with_intra_threads(1)
        .map_err(|error| anyhow::anyhow!(error.to_string()))?
        .commit_from_file(path)?;
    let width = features.len() / rows;
    let mut best = (0.0, 0);
    for batch in BATCHES {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            rates.push(timed(rows, || {
                for part in features.chunks(batch * width) {
                    let input = TensorRef::from_array_view(([part.len() / width, width], part))?;
                    session.run(ort::inputs![input])?;
                }
                Ok(())
            })?);
        }
        let rate = median(rates);
        if rate > best.0 {
            best = (rate, batch);
        }
    }
    Ok(best)
}

//! ONNX Runtime alone: the feature rows of the year through a session, at its best batch.

use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use driftline::models::runtime;
use driftline::run::prepare::read_parquet;
use driftline::{Job, Pipeline};
use ort::session::Session;
use ort::value::TensorRef;

use crate::case::{Figures, peak_mib, timed};
use crate::root;

const BATCHES: [usize; 4] = [64, 256, 1_024, 4_096];

/// The fastest of the batches.
pub fn measure(job: &Job, model: &str, folder: &Path) -> Result<Figures> {
    let features = features(job, folder)?;
    let width = job.model.as_ref().context("a model")?.features.len();
    let environment = runtime::load()?;
    let mut session = Session::builder(&environment)?
        .with_intra_threads(1)
        .map_err(|error| anyhow::anyhow!(error.to_string()))?
        .commit_from_file(root().join(format!("data/flights/models/{model}.onnx")))?;
    let mut best = Figures { wall_s: f64::INFINITY, ..Figures::default() };
    for batch in BATCHES {
        let measured = timed(|figures| {
            figures.rows = (features.len() / width) as f64;
            figures.batch_rows = batch as f64;
            for part in features.chunks(batch * width) {
                let input = TensorRef::from_array_view(([part.len() / width, width], part))?;
                session.run(ort::inputs![input])?;
            }
            Ok(())
        })?;
        if measured.wall_s < best.wall_s {
            best = measured;
        }
    }
    best.peak_mib = peak_mib()?;
    Ok(best)
}

/// The model's inputs of all rows, `[rows, inputs]`.
fn features(job: &Job, folder: &Path) -> Result<Vec<f32>> {
    let exported = folder.join("features");
    Pipeline::new(job.clone()).out(folder.join("results")).export(&exported)?;
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

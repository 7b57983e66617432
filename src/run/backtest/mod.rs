//! Candidates that score the same rows in one pass, and what each of them says.

mod drift;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use driftline_operators::accounting::{Counters, LaneFigures, Mean, ModelBatches, Moments};
use driftline_operators::dead_letter::Reason;
use driftline_operators::model::ModelIdentity;
use driftline_operators::routes::table::Scores;
use driftline_operators::sinks::{Sink, SinkError};

use self::drift::PredictionDrift;
use super::options::RunOptions;
use super::replay::replay_with;
use super::summary::Summary;
use crate::config::Job;
use crate::config::job::ModelFile;
use crate::config::routing::{DeclaredRoute, Pick, Routing};
use crate::sinks::function::FunctionSink;
use crate::sinks::own::{OwnSinks, SinkFactory};

/// How a backtest is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A table to be read.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What candidates say of the same rows.
pub struct Backtest {
    pub candidates: Vec<Candidate>,
    pub summary: Summary,
}

/// What one of them says.
pub struct Candidate {
    /// As it was asked for.
    pub name: String,
    pub model: ModelIdentity,
    /// Rows that it has scored, and that it has failed on.
    pub rows: u64,
    pub failed: u64,
    pub mean_score: Option<f64>,
    /// Of classifiers.
    pub mean_confidence: Option<f64>,
    /// What a row takes in the model, and a micro-batch at p99.
    pub us_per_row: f64,
    pub batch_p99_us: f64,
    /// Beside the first one, of rows that both have scored; the first one itself has none.
    pub beside_first: Option<BesideFirst>,
    /// Where the job watches drift.
    pub drift: Option<PredictionDrift>,
}

pub struct BesideFirst {
    pub rows: u64,
    /// Of which it is for another class.
    pub other_decisions: u64,
    pub mean_distance: f64,
    pub largest_distance: f64,
}

/// Scores the events of a job by candidates: names of its `[models]`, or `NAME=FILE` and files that take the
/// features of its `[model]`. The first one is what the others are compared with.
///
/// # Errors
/// If one is not there or does not fit, and as [`replay`](super::replay()).
pub fn backtest(job: &Arc<Job>, models: &[String], options: &RunOptions) -> Result<Backtest> {
    let candidates = candidates(job, models)?;
    let names: Vec<String> = candidates.iter().map(|(name, _)| name.clone()).collect();
    let job = Arc::new(with_candidates(job, candidates));
    let drift = drift::Collected::default();
    let options = RunOptions {
        sinks: OwnSinks {
            predictions: Some(nowhere()),
            dead_letters: Some(nowhere()),
            drift: Some(drift.sink()),
        },
        ..options.clone()
    };
    let (summary, counters, identities) = replay_with(&job, &options, |parts, counters| {
        let identities: Vec<ModelIdentity> =
            parts.all().map(|model| model.identity.clone()).collect();
        (counters.clone(), identities)
    })
    .map(|(summary, (counters, identities))| (summary, counters, identities))?;
    let candidates = figures(&names, &identities, &counters, &drift);
    Ok(Backtest { candidates, summary })
}

/// The models that are asked for, by name.
fn candidates(job: &Job, models: &[String]) -> Result<Vec<(String, ModelFile)>> {
    let of_job = job.routing.iter().flat_map(|routing| &routing.models);
    let known: Vec<&(String, ModelFile)> = of_job.collect();
    let mut found: Vec<(String, ModelFile)> = Vec::new();
    for asked in models {
        let candidate = match known.iter().find(|(name, _)| name == asked) {
            Some((name, file)) => (name.clone(), file.clone()),
            None => of_file(job, asked, &known)?,
        };
        if found.iter().any(|(name, _)| *name == candidate.0) {
            bail!("--models: {:?} is there twice; NAME=FILE tells files apart", candidate.0);
        }
        found.push(candidate);
    }
    Ok(found)
}

/// A file that takes the features of the job's model.
fn of_file(job: &Job, asked: &str, known: &[&(String, ModelFile)]) -> Result<(String, ModelFile)> {
    let (name, path) = match asked.split_once('=') {
        Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(asked);
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, path)
        }
    };
    if !path.exists() {
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        let known = match names.as_slice() {
            [] => "the job has no [models.NAME]".to_owned(),
            names => format!("the job's models are {}", names.join(", ")),
        };
        bail!("--models: {asked:?} is no file, and {known}");
    }
    if !known.is_empty() {
        bail!(
            "--models: {asked:?} is a file, and which features it takes is not known where a job has several models: give it a section [models.NAME]"
        );
    }
    let own = job.model.as_ref().context("the job has no section [model]")?;
    let file = ModelFile { name: name.clone(), path, registered: None, ..own.clone() };
    Ok((name, file))
}

/// The job, in which the first candidate scores all rows and the others do beside it.
fn with_candidates(job: &Job, models: Vec<(String, ModelFile)>) -> Job {
    let shadow = (1..models.len()).map(Scores::Model).collect();
    let route = DeclaredRoute {
        name: "backtest".to_owned(),
        when: None,
        pick: Pick::One(Scores::Model(0)),
        fallback: Vec::new(),
        shadow,
    };
    let first = models[0].1.clone();
    let routing =
        Routing { models, ensembles: Vec::new(), cascades: Vec::new(), routes: vec![route] };
    Job { model: Some(first), routing: Some(routing), ..job.clone() }
}

fn figures(
    names: &[String],
    identities: &[ModelIdentity],
    counters: &Counters,
    drift: &drift::Collected,
) -> Vec<Candidate> {
    let lane: LaneFigures = counters.lanes().remove(&0).unwrap_or_default();
    let batches = counters.batches_by_model();
    let letters = counters.dead_letters();
    let unscored = letters.rows_of(Reason::MissingFeature) + letters.rows_of(Reason::ScoringFailed);
    let mean = |of: &Mean| (of.count > 0).then(|| of.mean());
    let mean_of_lane = |of: &Moments| (of.count > 0).then(|| of.mean());
    let candidate = |(at, (name, model)): (usize, (&String, &ModelIdentity))| {
        let ran = batches.iter().find(|(known, _)| known == model).map(|(_, ran)| ran);
        let said = lane.shadows.get(&Scores::Model(at)).cloned().unwrap_or_default();
        let is_first = at == 0;
        let beside_first = BesideFirst {
            rows: said.compared,
            other_decisions: said.different,
            mean_distance: mean(&said.distance).unwrap_or_default(),
            largest_distance: said.largest_distance,
        };
        // Rows that lack a feature of a model are among those that it fails on.
        let (rows, failed, mean_score, mean_confidence) = match is_first {
            true => {
                let (scores, confidences) = (&lane.scores, &lane.confidences);
                (lane.rows, unscored, mean_of_lane(scores), mean_of_lane(confidences))
            }
            false => (said.rows, said.failed, mean(&said.scores), mean(&said.confidences)),
        };
        Candidate {
            name: name.clone(),
            model: model.clone(),
            rows,
            failed,
            mean_score,
            mean_confidence,
            us_per_row: ran.map_or(0.0, us_per_row),
            batch_p99_us: ran.map_or(0.0, |ran| {
                let [_, (_, inference)] = &ran.stages;
                inference.figures().p99.as_secs_f64() * 1e6
            }),
            beside_first: (!is_first).then_some(beside_first),
            drift: drift.of(model),
        }
    };
    names.iter().zip(identities).enumerate().map(candidate).collect()
}

fn us_per_row(ran: &ModelBatches) -> f64 {
    ran.inference_time.as_secs_f64() * 1e6 / ran.rows.max(1) as f64
}

/// A sink whose rows are counted and no more.
fn nowhere() -> SinkFactory {
    Arc::new(|_worker, _schema| {
        let sink = FunctionSink::new("nowhere", |_rows| Ok(()));
        Ok::<Box<dyn Sink>, SinkError>(Box::new(sink))
    })
}

impl Backtest {
    /// As it is asked for.
    pub fn text(&self, form: Form) -> String {
        match form {
            Form::Text => table::text(&self.candidates),
            Form::Json => format!("{:#}\n", table::json(&self.candidates)),
        }
    }

    /// Writes `backtest.parquet` and `backtest.json` into a folder.
    ///
    /// # Errors
    /// If they cannot be written, or are there and not to be replaced.
    pub fn write(&self, folder: &Path, overwrite: bool) -> Result<()> {
        let files = ["backtest.parquet", "backtest.json"].map(|name| folder.join(name));
        if let Some(there) = files.iter().find(|file| file.exists() && !overwrite) {
            bail!("{}: it is there; --overwrite replaces it", there.display());
        }
        let in_folder = || folder.display().to_string();
        std::fs::create_dir_all(folder).with_context(in_folder)?;
        let rows = table::batch(&self.candidates)?;
        let file = std::fs::File::create(&files[0]).with_context(in_folder)?;
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, rows.schema(), None)?;
        writer.write(&rows)?;
        writer.close()?;
        std::fs::write(&files[1], self.text(Form::Json)).with_context(in_folder)
    }
}

//! What predictions of each version of a model are compared with: a baseline beside the model's file, or
//! the job's, where that was made with this version.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use driftline_operators::drift::baseline::Reference;
use driftline_operators::drift::versions::KnownReference;
use driftline_operators::watched::PREDICTION;

use super::baseline_file::read_each;
use crate::config::job::DriftMode;

/// What stands in the place of `.onnx` in the name of a baseline.
const BESIDE: &str = "baseline.parquet";

/// The baseline beside a model: `risk.baseline.parquet` beside `risk.onnx`.
pub fn beside(model: &Path) -> PathBuf {
    model.with_extension(BESIDE)
}

/// The job's baseline, as far as predictions go.
pub struct JobBaseline {
    pub of_predictions: KnownReference,
    /// XXH3-64 of the model that it was made with, where that is known.
    pub model_digest: Option<String>,
    /// Whether it holds for the version that the run begins with, whichever made it.
    pub is_of_first: bool,
}

#[derive(Default)]
pub struct PredictionReferences {
    /// How drift is watched; `None` if it is not.
    mode: Option<DriftMode>,
    job: OnceLock<JobBaseline>,
}

impl PredictionReferences {
    pub fn new(mode: Option<DriftMode>) -> Self {
        PredictionReferences { mode, job: OnceLock::new() }
    }

    /// Whether the job's baseline is known: drift is watched.
    pub fn is_ready(&self) -> bool {
        self.job.get().is_some()
    }

    /// Once for each run.
    pub fn set_job_baseline(&self, baseline: JobBaseline) {
        let _ = self.job.set(baseline);
    }

    /// What is beside a model, if there is something and drift is watched.
    ///
    /// # Errors
    /// If that is no baseline, or has no predictions.
    pub fn of_file(&self, model: &Path) -> Result<Option<KnownReference>> {
        let Some(mode) = self.mode else { return Ok(None) };
        let path = beside(model);
        if !path.is_file() {
            return Ok(None);
        }
        let made =
            |name: &str, reference| (name == PREDICTION).then(|| mode.comparison(&reference));
        let (mut found, about) = read_each(&path, made)?;
        let comparison = found
            .remove(PREDICTION)
            .flatten()
            .with_context(|| format!("{}: the baseline has no {PREDICTION:?}", path.display()))?;
        Ok(Some(KnownReference { comparison, kind: about.kind, id: about.id.into() }))
    }

    /// What predictions of a version are compared with: its own reference, or the job's.
    pub fn of(
        &self,
        own: Option<&KnownReference>,
        digest: Option<&String>,
        is_first: bool,
    ) -> Option<KnownReference> {
        let holds = |job: &&JobBaseline| {
            let is_same = digest.is_some() && job.model_digest.as_ref() == digest;
            is_same || (is_first && job.is_of_first)
        };
        let job = || self.job.get().filter(holds).map(|job| job.of_predictions.clone());
        own.cloned().or_else(job)
    }

    /// One without values, in the way that drift is watched.
    pub fn none(&self) -> KnownReference {
        let mode = self.mode.unwrap_or(DriftMode::Exact);
        KnownReference::none(mode.comparison(&Reference::none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_has_the_name_of_its_model() {
        for (model, baseline) in [
            ("models/risk.onnx", "models/risk.baseline.parquet"),
            ("a.b.onnx", "a.b.baseline.parquet"),
        ] {
            assert_eq!(beside(Path::new(model)), Path::new(baseline));
        }
    }

    #[test]
    fn the_job_s_baseline_holds_for_the_model_that_made_it() {
        let references = PredictionReferences::new(Some(DriftMode::Exact));
        let known = |id: &str| KnownReference { id: id.into(), ..references.none() };
        references.set_job_baseline(JobBaseline {
            of_predictions: known("job"),
            model_digest: Some("a".to_owned()),
            is_of_first: false,
        });
        let [a, b] = ["a", "b"].map(str::to_owned);
        let id = |own: Option<&KnownReference>, digest: Option<&String>, is_first| {
            references.of(own, digest, is_first).map(|known| known.id.to_string())
        };
        assert_eq!(id(None, Some(&a), false).as_deref(), Some("job"));
        assert_eq!(id(None, Some(&b), true), None);
        assert_eq!(id(None, None, true), None);
        assert_eq!(id(Some(&known("own")), Some(&a), true).as_deref(), Some("own"));
        assert_eq!(references.none().comparison.rows(), 0);
    }
}

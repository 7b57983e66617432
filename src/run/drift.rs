//! A job's drift section with its baseline, and whether the windows hold what was scored.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use driftline_operators::accounting::Counters;
use driftline_operators::drift::baseline::Reference;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::coverage::Coverage;
use driftline_operators::drift::figures::Comparison;
use driftline_operators::drift::finals::FinalWindows;
use driftline_operators::drift::snapshot::SnapshotFormat;
use driftline_operators::drift::versions::{KnownReference, Versions};
use driftline_operators::drift::windows::Schedule;

use super::baseline_file::read_each;
use super::drift_tally::DriftTally;
use super::prediction_references::JobBaseline;
use super::scoring::ScoringParts;
use crate::config::Job;
use crate::config::job::DriftMode;

impl DriftMode {
    /// A reference, made ready for figures in this mode.
    pub fn comparison(self, reference: &Reference) -> Arc<Comparison> {
        Arc::new(match self {
            DriftMode::Exact => Comparison::exact(reference),
            DriftMode::Profile { bins } => Comparison::profile(reference, bins),
        })
    }
}

/// Read once for all workers.
pub struct PreparedDrift {
    pub schedule: Schedule,
    pub format: SnapshotFormat,
}

impl PreparedDrift {
    /// `None` if the job has no drift section. Windows that `coverage` does not hold are partial.
    ///
    /// # Errors
    /// If the baseline cannot be read, or lacks a column.
    pub fn new(job: &Job, parts: &ScoringParts, coverage: Coverage) -> Result<Option<Self>> {
        let Some(drift) = &job.drift else { return Ok(None) };
        if !drift.baseline.is_file() {
            bail!(
                "{}: there is no such baseline (drift.baseline); make it with `driftline baseline {}`",
                drift.baseline.display(),
                job.path.display()
            );
        }
        let names = parts.watched.names.clone();
        let watched: HashSet<&String> = names.iter().collect();
        let (found, about) = read_each(&drift.baseline, |name, reference| {
            let is_watched = watched.contains(&name.to_owned());
            is_watched.then(|| drift.mode.comparison(&reference))
        })?;
        let comparison = |name: &String| {
            found.get(name).cloned().flatten().ok_or_else(|| {
                anyhow!(
                    "{}: the baseline has no {name:?}; make it anew with `driftline baseline`",
                    drift.baseline.display()
                )
            })
        };
        let mut comparisons = names.iter().map(comparison).collect::<Result<Vec<_>>>()?;
        let models = parts.models();
        let baseline = JobBaseline {
            of_predictions: KnownReference {
                comparison: comparisons.last().cloned().context("predictions are watched")?,
                kind: about.kind,
                id: about.id.as_str().into(),
            },
            // Which version of a registered model a run begins with is not the job's to say.
            is_of_first: about.model_digest.is_none() || parts.versions[0].is_none(),
            model_digest: about.model_digest,
        };
        let files = parts.all().map(|model| model.digest.as_ref().map(|_| model.file.path.clone()));
        models.set_job_baseline(baseline, &files.collect::<Vec<_>>())?;
        // How predictions of the first version are counted is as its reference has it.
        if let Some(of_predictions) = comparisons.last_mut() {
            *of_predictions = models.reference(0).comparison;
        }
        let lengths = drift.windows.iter().map(|(length, _)| *length).collect();
        Ok(Some(PreparedDrift {
            schedule: Schedule { lengths, revisions: drift.revisions },
            format: SnapshotFormat {
                models: models.clone(),
                versions: Some(models),
                labels: drift.windows.clone(),
                names,
                comparisons,
                thresholds: drift.thresholds,
                reference_kind: about.kind,
                reference_id: about.id.into(),
                coverage,
                finals: FinalWindows::default(),
            },
        }))
    }

    /// The same, without rows of windows that have a final one.
    #[must_use]
    pub fn without(mut self, finals: FinalWindows) -> Self {
        self.format.finals = finals;
        self
    }

    /// Each length, and how it is written.
    pub fn windows(&self) -> &[(WindowLength, String)] {
        &self.format.labels
    }

    /// Whether every scored row is in the drift windows, but for late ones that came too late for
    /// theirs.
    ///
    /// # Errors
    /// What does not balance.
    pub fn check(&self, counters: &Counters, tally: &DriftTally) -> Result<()> {
        let (scored, late) = (counters.account().predictions, counters.late_for_drift());
        let checked = tally.check(scored, &late, self.windows(), &self.format.names);
        let checked = checked.map_err(|problem| anyhow!(problem));
        checked.context("the account of drift does not balance, and nothing was written")
    }
}

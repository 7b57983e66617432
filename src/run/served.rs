//! How a version of a model is served: what it says of that itself, and what holds where the job says it, too.

use driftline_operators::preprocess::Change;

use super::loading::LoadedModel;
use crate::config::job::Realtime;
use crate::models::card::{DEPLOYMENT, DeploymentConfig, INFERENCE, ModelCard, Signed};

/// A figure that a job and a version may set: the job's counts.
pub struct Figure {
    pub value: u64,
    /// What the job or the default has taken the place of.
    pub version_says: Option<u64>,
    pub by: By,
}

/// Who has set a figure that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Job,
    Version,
    Default,
}

impl By {
    pub fn name(self) -> &'static str {
        match self {
            By::Job => "job",
            By::Version => "version",
            By::Default => "default",
        }
    }
}

/// The most rows of a micro-batch.
pub fn batch_size(realtime: &Realtime, card: &ModelCard) -> Figure {
    let said = card.inference().and_then(|config| config.batch_size);
    match said {
        Some(said) if !realtime.has_batch_size => {
            Figure { value: said as u64, version_says: None, by: By::Version }
        }
        said => Figure {
            value: realtime.bounds.max_rows as u64,
            version_says: said.map(|rows| rows as u64),
            by: if realtime.has_batch_size { By::Job } else { By::Default },
        },
    }
}

/// The latency (ms) that a run is measured against, if it is.
pub fn max_latency_ms(realtime: &Realtime, card: &ModelCard) -> Option<Figure> {
    let said = card.inference().and_then(|config| config.max_latency_ms);
    match (realtime.max_latency_ms, said) {
        (Some(value), version_says) => Some(Figure { value, version_says, by: By::Job }),
        (None, Some(value)) => Some(Figure { value, version_says: None, by: By::Version }),
        (None, None) => None,
    }
}

/// What of it is said by a version, what it is about first. Nothing is said of a file alone.
pub fn lines(realtime: &Realtime, model: &LoadedModel) -> Vec<(&'static str, String)> {
    let card = &model.file.card;
    let mut lines = Vec::new();
    match &card.signature {
        Signed::Yes(signature) => lines.push(("signature", signature.to_string())),
        Signed::No => lines.push(("signature", "none; inputs are the model's own".to_owned())),
        Signed::NoMlmodel => {}
    }
    lines.extend(inference(realtime, card));
    if let Some(said) = &card.deployment {
        let DeploymentConfig { cpu_request, memory_request, .. } = &said.value;
        let replicas = said.value.replicas().map(|wanted| format!("{wanted} replicas"));
        let cpu = cpu_request.as_ref().map(|cpu| format!("cpu {cpu}"));
        let memory = memory_request.as_ref().map(|memory| format!("memory {memory}"));
        let all: Vec<String> = [replicas, cpu, memory].into_iter().flatten().collect();
        lines.push(("deployment", format!("{} ({DEPLOYMENT}: {})", all.join(", "), said.place)));
    }
    lines
}

/// What a version says in its `inference_config`, and what of it holds.
pub fn inference(realtime: &Realtime, card: &ModelCard) -> Vec<(&'static str, String)> {
    let Some(said) = &card.inference else { return Vec::new() };
    let config = &said.value;
    let mut lines = vec![("served by", format!("{INFERENCE} ({})", said.place))];
    let mut figure = |name, key: &str, unit: &str, figure: &Figure| {
        let Figure { value, version_says, by } = figure;
        let of = match (by, version_says) {
            (By::Version, _) => "as the version says".to_owned(),
            (_, Some(said)) => {
                format!("as the job says (realtime_ml); the version says {key} = {said}")
            }
            (_, None) => return,
        };
        lines.push((name, format!("{value} {unit}, {of}")));
    };
    figure("batch size", "batch_size", "rows", &batch_size(realtime, card));
    if let Some(target) = max_latency_ms(realtime, card) {
        figure("target", "max_latency_ms", "ms", &target);
    }
    if config.feature_names.is_some() {
        lines.push(("features", "feature_names are model.features".to_owned()));
    }
    lines.extend(config.output_type.map(|of| ("output type", of.name().to_owned())));
    let steps = config.preprocessing.0.iter().map(|(name, change)| match change {
        Change::Normalize { from, by } => format!("{name} = ({name} - {from}) / {by}"),
        Change::Encode { codes, unseen } => {
            let unseen = match unseen {
                Some(code) => format!("others are {code}"),
                None => "a row with another one is a dead letter".to_owned(),
            };
            format!("{name} = the code of one of {} categories, {unseen}", codes.len())
        }
    });
    lines.extend(steps.map(|step| ("first", step)));
    lines
}

/// What a version wants that so many workers are not, if it wants anything.
pub fn doubt(card: &ModelCard, of: &str, workers: usize) -> Option<String> {
    let wanted = card.deployment().filter(|wanted| !wanted.allows(workers))?.replicas()?;
    let running =
        if workers == 1 { "1 worker runs".to_owned() } else { format!("{workers} workers run") };
    Some(format!("{of} wants {wanted} replicas ({DEPLOYMENT}), and {running}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use driftline_operators::micro_batch::BatchBounds;

    use super::*;

    fn realtime(batch_size: Option<usize>, max_latency_ms: Option<u64>) -> Realtime {
        let bounds = BatchBounds { max_rows: batch_size.unwrap_or(32), timeout: Duration::ZERO };
        Realtime {
            bounds,
            has_batch_size: batch_size.is_some(),
            max_latency_ms,
            request_timeout: None,
            throughput_target_per_second: None,
            model_refresh_interval: Duration::ZERO,
            model_cache_size: 0,
            model_warm_up_samples: 0,
            shadow_lag_max: 0,
        }
    }

    fn card(name: &str, said: &str) -> ModelCard {
        let folder = tempfile::tempdir().unwrap();
        ModelCard::read(folder.path(), &[(name.to_owned(), said.to_owned())]).unwrap()
    }

    #[test]
    fn the_job_counts_before_the_version_and_the_version_before_the_default() {
        let (none, some) = (ModelCard::default(), card(INFERENCE, r#"{"batch_size": 7}"#));
        let found = |job, card| {
            let Figure { value, version_says, by } = batch_size(&realtime(job, None), card);
            (value, version_says, by)
        };
        assert_eq!(found(None, &none), (32, None, By::Default));
        assert_eq!(found(None, &some), (7, None, By::Version));
        assert_eq!(found(Some(64), &some), (64, Some(7), By::Job));
        assert_eq!(found(Some(64), &none), (64, None, By::Job));
        let some = card(INFERENCE, r#"{"max_latency_ms": 9}"#);
        let target =
            |job, card| max_latency_ms(&realtime(None, job), card).map(|it| (it.value, it.by));
        assert_eq!(target(None, &none), None);
        assert_eq!(target(None, &some), Some((9, By::Version)));
        assert_eq!(target(Some(5), &some), Some((5, By::Job)));
    }

    #[test]
    fn workers_beyond_what_a_version_wants_are_doubted() {
        let wants = card(DEPLOYMENT, r#"{"min_replicas": 2, "max_replicas": 3}"#);
        assert_eq!([2, 3].map(|workers| doubt(&wants, "it", workers)), [None, None]);
        let wanted = "it wants 2 to 3 replicas (deployment_config), and 1 worker runs";
        assert_eq!(doubt(&wants, "it", 1).as_deref(), Some(wanted));
        assert!(doubt(&wants, "it", 4).unwrap().ends_with("4 workers run"));
        assert_eq!(doubt(&ModelCard::default(), "it", 1), None);
    }
}

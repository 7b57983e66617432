//! How a version is to be served and deployed.

use std::num::NonZero;

use driftline_operators::model::Task;
use driftline_operators::preprocess::{Change, Preprocessing};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Number;

/// `inference_config`: how a version is served.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "RawInference")]
pub struct InferenceConfig {
    /// The most rows that the model is given at once.
    pub batch_size: Option<usize>,
    /// The latency (ms) that a run is measured against.
    pub max_latency_ms: Option<u64>,
    /// The features that it was trained with, in order.
    pub feature_names: Option<Vec<String>>,
    pub output_type: Option<OutputType>,
    /// What is done to features before they are its tensors.
    pub preprocessing: Preprocessing,
}

/// What a prediction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// Of two classes or more.
    Probability,
    /// A number.
    Regression,
}

impl OutputType {
    pub fn name(self) -> &'static str {
        match self {
            OutputType::Probability => "probability",
            OutputType::Regression => "regression",
        }
    }

    /// Whether predictions of a task are that.
    pub fn fits(self, task: Task) -> bool {
        (self == OutputType::Regression) == (task == Task::Regression)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInference {
    batch_size: Option<NonZero<usize>>,
    max_latency_ms: Option<u64>,
    feature_names: Option<Vec<String>>,
    output_type: Option<OutputType>,
    #[serde(default)]
    preprocessing_steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a step with its features, such as {\"type\": \"normalize\", \"features\": {\"age\": {\"mean\": 40, \"std\": 12}}}"
)]
struct RawStep {
    #[serde(rename = "type")]
    kind: StepKind,
    features: IndexMap<String, RawChange>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepKind {
    Normalize,
    EncodeCategorical,
}

/// What a step says of a feature.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChange {
    mean: Option<f64>,
    std: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    mapping: Option<IndexMap<String, f64>>,
    unseen: Option<f64>,
}

impl TryFrom<RawInference> for InferenceConfig {
    type Error = String;

    fn try_from(raw: RawInference) -> Result<Self, String> {
        let mut changes = Vec::new();
        for RawStep { kind, features } in raw.preprocessing_steps {
            for (name, change) in features {
                let change = change.check(kind).map_err(|why| {
                    let step = match kind {
                        StepKind::Normalize => "normalize",
                        StepKind::EncodeCategorical => "encode_categorical",
                    };
                    format!("preprocessing_steps: {step} of {name:?} {why}")
                })?;
                changes.push((name, change));
            }
        }
        Ok(InferenceConfig {
            batch_size: raw.batch_size.map(NonZero::get),
            max_latency_ms: raw.max_latency_ms,
            feature_names: raw.feature_names,
            output_type: raw.output_type,
            preprocessing: Preprocessing(changes),
        })
    }
}

impl RawChange {
    fn check(self, kind: StepKind) -> Result<Change, String> {
        let RawChange { mean, std, min, max, mapping, unseen } = self;
        match (kind, mean.zip(std), min.zip(max), mapping) {
            (StepKind::Normalize, Some((mean, std)), None, None)
                if min.is_none() && max.is_none() && unseen.is_none() =>
            {
                match std > 0.0 {
                    true => Ok(Change::Normalize { from: mean, by: std }),
                    false => Err(format!("has std = {std}; it must be over 0")),
                }
            }
            (StepKind::Normalize, None, Some((min, max)), None)
                if mean.is_none() && std.is_none() && unseen.is_none() =>
            {
                match max > min && (max - min).is_finite() {
                    true => Ok(Change::Normalize { from: min, by: max - min }),
                    false => {
                        Err(format!("has min = {min} and max = {max}; max must be the greater"))
                    }
                }
            }
            (StepKind::Normalize, ..) => Err("takes mean and std, or min and max".to_owned()),
            (StepKind::EncodeCategorical, None, None, Some(mapping))
                if [mean, std, min, max].iter().all(Option::is_none) =>
            {
                match mapping.is_empty() {
                    false => Ok(Change::Encode { codes: mapping.into_iter().collect(), unseen }),
                    true => Err("has no category in mapping".to_owned()),
                }
            }
            (StepKind::EncodeCategorical, ..) => {
                Err("takes mapping (category to code), and unseen".to_owned())
            }
        }
    }
}

/// `deployment_config`: how a version is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawDeployment")]
pub struct DeploymentConfig {
    pub min_replicas: Option<u32>,
    pub max_replicas: Option<u32>,
    /// Quantities as Kubernetes has them, such as `500m` and `512Mi`.
    pub cpu_request: Option<String>,
    pub memory_request: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDeployment {
    min_replicas: Option<u32>,
    max_replicas: Option<u32>,
    cpu_request: Option<Quantity>,
    memory_request: Option<Quantity>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a quantity, such as \"500m\" or \"512Mi\"")]
enum Quantity {
    Number(Number),
    Text(String),
}

impl TryFrom<RawDeployment> for DeploymentConfig {
    type Error = String;

    fn try_from(raw: RawDeployment) -> Result<Self, String> {
        let RawDeployment { min_replicas, max_replicas, .. } = raw;
        if max_replicas == Some(0) {
            return Err("max_replicas: must be at least 1".to_owned());
        }
        if let Some((min, max)) = min_replicas.zip(max_replicas).filter(|(min, max)| min > max) {
            return Err(format!("min_replicas ({min}) is over max_replicas ({max})"));
        }
        let quantity = |key: &str, raw: Option<Quantity>| {
            let text = raw.map(|raw| match raw {
                Quantity::Number(number) => number.to_string(),
                Quantity::Text(text) => text,
            });
            match &text {
                Some(wrong) if !is_quantity(wrong) => {
                    Err(format!("{key}: {wrong:?} is no quantity, such as \"500m\" or \"512Mi\""))
                }
                _ => Ok(text),
            }
        };
        Ok(DeploymentConfig {
            min_replicas,
            max_replicas,
            cpu_request: quantity("cpu_request", raw.cpu_request)?,
            memory_request: quantity("memory_request", raw.memory_request)?,
        })
    }
}

/// Whether it is a quantity of Kubernetes: a decimal number, and what it counts.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 15] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit())
        && number.parse::<f64>().is_ok()
        && SUFFIXES.contains(&suffix)
}

impl DeploymentConfig {
    /// Whether so many replicas are within its bounds.
    pub fn allows(&self, replicas: usize) -> bool {
        let replicas = replicas as u64;
        self.min_replicas.is_none_or(|min| replicas >= u64::from(min))
            && self.max_replicas.is_none_or(|max| replicas <= u64::from(max))
    }

    /// How many replicas it wants, in words, if it says so.
    pub fn replicas(&self) -> Option<String> {
        Some(match (self.min_replicas, self.max_replicas) {
            (None, None) => return None,
            (Some(min), Some(max)) if min == max => min.to_string(),
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inference(text: &str) -> Result<InferenceConfig, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_become_changes_in_their_order() {
        let text = r#"{"preprocessing_steps": [
            {"type": "encode_categorical", "features": {"plan": {"mapping": {"pro": 1}, "unseen": -1}}},
            {"type": "normalize", "features": {
                "age": {"mean": 40, "std": 12.5}, "plan": {"min": -1, "max": 1}}}]}"#;
        let found = inference(text).unwrap().preprocessing.0;
        let codes = [("pro".to_owned(), 1.0)].into_iter().collect();
        let wanted = [
            ("plan", Change::Encode { codes, unseen: Some(-1.0) }),
            ("age", Change::Normalize { from: 40.0, by: 12.5 }),
            ("plan", Change::Normalize { from: -1.0, by: 2.0 }),
        ];
        assert_eq!(found, wanted.map(|(name, change)| (name.to_owned(), change)));
    }

    #[test]
    fn a_step_without_what_it_takes_is_refused() {
        let step = |kind: &str, feature: &str| {
            let step = format!(r#"{{"type": "{kind}", "features": {{"x": {feature}}}}}"#);
            inference(&format!(r#"{{"preprocessing_steps": [{step}]}}"#)).unwrap_err()
        };
        for (kind, feature, wanted) in [
            ("normalize", "{}", "normalize of \"x\" takes mean and std, or min and max"),
            ("normalize", r#"{"mean": 1}"#, "takes mean and std"),
            ("normalize", r#"{"mean": 1, "std": 0}"#, "std = 0; it must be over 0"),
            ("normalize", r#"{"mean": 1, "std": 2, "max": 3}"#, "takes mean and std"),
            ("normalize", r#"{"min": 1, "max": 1}"#, "max must be the greater"),
            ("encode_categorical", "{}", "takes mapping"),
            ("encode_categorical", r#"{"mapping": {}}"#, "no category"),
            ("encode_categorical", r#"{"mapping": {"a": 1}, "std": 1}"#, "takes mapping"),
            ("hash", "{}", "unknown variant `hash`"),
            ("normalize", r#"{"median": 1}"#, "unknown field `median`"),
        ] {
            let error = step(kind, feature);
            assert!(error.contains(wanted), "{kind} {feature}: {error}");
        }
        let error = inference(r#"{"preprocessing_steps": ["normalize"]}"#).unwrap_err();
        assert!(error.contains("a step with its features, such as"), "{error}");
        assert!(inference(r#"{"batch_size": 0}"#).is_err());
    }

    #[test]
    fn replicas_are_within_bounds_and_quantities_are_those_of_kubernetes() {
        let deployment = |text: &str| {
            serde_json::from_str::<DeploymentConfig>(text).map_err(|error| error.to_string())
        };
        let found = deployment(
            r#"{"min_replicas": 2, "max_replicas": 4, "cpu_request": 0.5, "memory_request": "512Mi"}"#,
        );
        let found = found.unwrap();
        assert_eq!([1, 2, 4, 5].map(|n| found.allows(n)), [false, true, true, false]);
        assert_eq!(found.replicas().unwrap(), "2 to 4");
        assert_eq!(found.cpu_request.as_deref(), Some("0.5"));
        for wrong in [
            r#"{"min_replicas": 3, "max_replicas": 2}"#,
            r#"{"max_replicas": 0}"#,
            r#"{"cpu_request": "half"}"#,
            r#"{"memory_request": "1.2.3Gi"}"#,
            r#"{"memory_request": "Gi"}"#,
            r#"{"gpu": 1}"#,
        ] {
            assert!(deployment(wrong).is_err(), "{wrong}");
        }
        assert!(deployment("{}").unwrap().allows(0));
    }
}

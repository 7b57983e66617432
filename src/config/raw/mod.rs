//! The job file as it is typed. Names, words, defaults and limits stand here, in one place; the
//! descriptions are those of the job file's JSON Schema. `check` sees to the rest.

mod alerts;
mod drift;
mod event;
mod features;
mod job;
mod kafka;
pub mod model;
pub mod parity;
mod realtime;
mod routes;
mod service;
mod tables;
pub mod words;

pub use alerts::AlertsSection;
pub use drift::{DriftSection, PROFILE_BINS, REVISION_INTERVAL_MS};
pub use event::EventSection;
pub use features::{
    CheckSection, EncodeSection, FeatureSection, LookupSection, ValidSection, WindowSection,
};
pub use job::JobSection;
pub use kafka::KafkaSection;
pub use model::{ModelSection, OneOrMore};
pub use parity::ParitySection;
pub use realtime::{MAX_BATCH_SIZE, RealtimeSection};
pub use routes::{CascadeSection, EnsembleSection, RouteSection, VariantSection};
pub use service::ServiceSection;
pub use tables::{SinkSection, SinksSection, SourceSection, TableSection};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

/// A Driftline job: streams of events in, predictions and drift out. Paths are relative to the job
/// file. Any key can be set from the environment: `STREAMING_REALTIME_ML__MAX_BATCH_SIZE=64` is
/// `realtime_ml.max_batch_size`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Driftline job")]
pub struct RawJob {
    /// What the job is called, in which order rows reach windows and tables, and what bounds a run.
    pub job: JobSection,
    /// Which columns of an event are its time, id and key; which rows are kept; what late means.
    pub event: EventSection,
    /// The Kafka cluster of topics that the job names.
    #[serde(default)]
    pub kafka: KafkaSection,
    /// Where events come from: one section `[sources.NAME]`, unless the command line or a program
    /// says so.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 1))]
    pub sources: IndexMap<String, SourceSection>,
    /// Tables that features look up, `[tables.NAME]`. One with a `time` changes, and is looked up
    /// as of each event's time; others have one row a key.
    #[serde(default)]
    pub tables: IndexMap<String, TableSection>,
    /// Features, `[features.NAME]`, in the order in which they are computed: one may use those
    /// above it.
    #[schemars(extend("minProperties" = 1))]
    pub features: IndexMap<String, FeatureSection>,
    /// Rules over whole rows, `[checks.NAME]`, seen to when all features are there.
    #[serde(default)]
    pub checks: IndexMap<String, CheckSection>,
    /// The model that scores events. Without it the job can only export features.
    pub model: Option<ModelSection>,
    /// Several models by name, `[models.NAME]`, in place of `[model]`; routes say which scores a row. Each is
    /// called by its name in predictions, unless it has another `name` or is a registry's.
    #[serde(default)]
    pub models: IndexMap<String, ModelSection>,
    /// Models that score together, `[ensembles.NAME]`.
    #[serde(default)]
    pub ensembles: IndexMap<String, EnsembleSection>,
    /// Models of which the second scores again what the first is unsure of, `[cascades.NAME]`.
    #[serde(default)]
    pub cascades: IndexMap<String, CascadeSection>,
    /// Which of several models scores a row, `[routes.NAME]`: the first whose `when` is true.
    #[serde(default)]
    pub routes: IndexMap<String, RouteSection>,
    /// Batching, and the targets that a run is measured against.
    #[serde(default)]
    pub realtime_ml: RealtimeSection,
    /// What the model's inputs and its predictions are compared with, over which windows, and what
    /// counts as drift.
    pub drift: Option<DriftSection>,
    /// What a live run tells in the topic of `sinks.alerts`.
    #[serde(default)]
    pub alerts: AlertsSection,
    /// What a live run answers over HTTP.
    #[serde(default)]
    pub service: ServiceSection,
    /// Where results go. What is not named goes to `out/JOB/` beside the job file, as Parquet.
    #[serde(default)]
    pub sinks: SinksSection,
}

//! Where the results of a run go.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::datatypes::SchemaRef;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::prediction::UNIQUE;
use driftline_operators::sinks::Sink;

use super::options::RunOptions;
use super::prepare::Prepared;
use super::scoring::ScoringParts;
use super::switching::{ModelSwitched, RouteChanged};
use crate::config::Job;
use crate::config::job::{Format, Output};
use crate::sinks::apart::apart;
use crate::sinks::csv::CsvSink;
use crate::sinks::folder::Publication;
use crate::sinks::json_lines::JsonLinesSink;
use crate::sinks::kafka::alerts::Alerts;
use crate::sinks::kafka::dead_letters::DeadLetters;
use crate::sinks::kafka::predictions::Predictions;
use crate::sinks::kafka::sender::Sender;
use crate::sinks::kafka::{KafkaSink, Messages, Values};
use crate::sinks::own::{OwnSinks, SinkFactory};
use crate::sinks::parquet::{Footer, ParquetSink};
use crate::sinks::rolling;
use crate::sinks::some_columns;
use crate::sinks::standard_output::Reader;
use crate::sinks::text_file::TextFile;

/// In the footers of files: the name of the job.
pub const JOB_KEY: &str = "driftline.job";
/// And the digest of the model that it begins with.
pub const MODEL_DIGEST_KEY: &str = "driftline.model_xxh3";
/// In the footers of files: which versions have taken the place of the model, since when, as JSON.
const SWITCHES_KEY: &str = "driftline.model_switches";
/// What has been changed of routes while a run went on.
const ROUTE_CHANGES_KEY: &str = "driftline.route_changes";

/// Where one of the outputs goes.
#[derive(Clone)]
pub enum Target {
    Files(Output),
    /// Of whoever reads it.
    StandardOutput(Reader),
    StandardError,
    Own(SinkFactory),
    Topic(String),
}

impl Target {
    /// The files, if that is where it goes.
    pub fn files(&self) -> Option<&Output> {
        match self {
            Target::Files(output) => Some(output),
            _ => None,
        }
    }
}

/// Where the outputs of a replay go.
#[derive(Clone)]
pub struct Targets {
    pub predictions: Target,
    pub dead_letters: Target,
    /// None if nobody is to see drift.
    pub drift: Option<Target>,
}

impl Targets {
    pub fn new(job: &Job, options: &RunOptions) -> Self {
        let files = options.outputs(job);
        let OwnSinks { predictions, dead_letters, drift } = options.sinks.clone();
        let piped = options.to_standard_output();
        let or = |own: Option<SinkFactory>, otherwise| own.map_or(otherwise, Target::Own);
        let otherwise = |output, stream| if piped { stream } else { Target::Files(output) };
        Targets {
            predictions: or(
                predictions,
                otherwise(files.predictions, Target::StandardOutput(Reader::default())),
            ),
            dead_letters: or(dead_letters, otherwise(files.dead_letters, Target::StandardError)),
            drift: match drift {
                _ if options.without_drift => None,
                Some(own) => Some(Target::Own(own)),
                None => (!piped).then_some(Target::Files(files.drift)),
            },
        }
    }

    /// Whoever reads standard output, if predictions go there.
    pub fn reader(&self) -> Option<&Reader> {
        match &self.predictions {
            Target::StandardOutput(reader) => Some(reader),
            _ => None,
        }
    }

    /// The folders that are written, drift's only `with_drift`.
    pub fn folders(&self, with_drift: bool) -> Vec<&Path> {
        let drift = self.drift.as_ref().filter(|_| with_drift);
        let targets = [&self.predictions, &self.dead_letters].into_iter().chain(drift);
        targets.filter_map(|target| Some(target.files()?.path.as_path())).collect()
    }
}

/// Makes the sinks of a run.
pub struct Sinks {
    publication: Publication,
    footer: Footer,
}

impl Sinks {
    pub fn new(publication: &Publication, footer: Footer) -> Self {
        Sinks { publication: publication.clone(), footer }
    }

    /// One worker's sink for predictions, without the columns that the job leaves out: who reads them
    /// by a function of their own has all.
    ///
    /// # Errors
    /// As [`Sinks::sink`].
    pub fn predictions(
        &self,
        job: &Job,
        target: &Target,
        worker: usize,
        schema: SchemaRef,
    ) -> Result<Box<dyn Sink>> {
        let make = |schema| self.sink(target, worker, schema, UNIQUE);
        match target {
            Target::Own(_) => make(schema),
            _ => some_columns::without(&job.left_out_of_predictions, schema, make),
        }
    }

    /// One worker's sink for an output; the values of `unique` columns hardly occur twice.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn sink(
        &self,
        target: &Target,
        worker: usize,
        schema: SchemaRef,
        unique: &[&str],
    ) -> Result<Box<dyn Sink>> {
        let output = match target {
            Target::Files(output) => output,
            Target::StandardOutput(reader) => {
                let file = TextFile::standard_output(reader, None)?;
                return Ok(Box::new(JsonLinesSink::to(file)));
            }
            Target::StandardError => return Ok(Box::new(JsonLinesSink::standard_error())),
            Target::Own(make) => return Ok(make(worker, &schema)?),
            Target::Topic(topic) => bail!("only a live run writes to topics, such as {topic}"),
        };
        let name = format!("part-{worker:05}.{}", output.ending());
        let file = self.publication.file(&output.path, &name);
        Ok(match output.format {
            Format::Parquet => {
                let Footer { pairs, footnotes } = &self.footer;
                let sink = ParquetSink::create(file, schema, pairs, unique)?;
                apart(sink.with(footnotes.clone()))
            }
            Format::Json => apart(JsonLinesSink::create(file, output.compression)?),
            Format::Csv => apart(CsvSink::create(file, &schema, output.compression)?),
        })
    }
}

/// Makes the sinks of a live run.
pub struct LiveSinks {
    pub sender: Sender,
    /// Of files.
    pub writer: rolling::Writer,
    pub job: String,
    /// Whether messages of predictions have headers.
    pub prediction_headers: bool,
    /// The type and the source of predictions as events.
    pub prediction_type: String,
    pub prediction_source: String,
    /// The columns of predictions that are not in values.
    pub left_out_of_predictions: Arc<[String]>,
    /// By number.
    pub partition_names: PartitionNames,
    pub footer: Footer,
    /// What the names of files begin with.
    pub file_name: String,
}

impl LiveSinks {
    /// # Errors
    /// If predictions or dead letters go nowhere.
    pub fn predictions(&self, targets: &Targets) -> Result<Box<dyn Sink>> {
        Ok(self.sink(Predictions {
            topic: topic(&targets.predictions)?,
            dead_letters: topic(&targets.dead_letters)?,
            kind: self.prediction_type.clone(),
            source: self.prediction_source.clone(),
            has_headers: self.prediction_headers,
            partition_names: self.partition_names.clone(),
            values: Values::without(self.left_out_of_predictions.clone()),
        }))
    }

    /// # Errors
    /// If dead letters go nowhere.
    pub fn dead_letters(&self, targets: &Targets) -> Result<Box<dyn Sink>> {
        Ok(self.sink(DeadLetters { topic: topic(&targets.dead_letters)? }))
    }

    /// Where alerts go, if the job says so.
    pub fn alerts(&self, topic: &str) -> Box<dyn Sink> {
        self.sink(Alerts {
            topic: topic.to_owned(),
            source: self.job.clone(),
            values: Values::default(),
        })
    }

    fn sink(&self, messages: impl Messages + 'static) -> Box<dyn Sink> {
        Box::new(KafkaSink::new(Arc::new(messages), self.sender.clone()))
    }

    /// # Errors
    /// If the folder cannot be made.
    pub fn drift(
        &self,
        output: &Output,
        worker: usize,
        schema: SchemaRef,
    ) -> Result<Box<dyn Sink>> {
        let name = format!("{}-{worker:05}", self.file_name);
        Ok(Box::new(self.writer.sink(&output.path, name, schema, &self.footer)?))
    }
}

fn topic(target: &Target) -> Result<String> {
    match target {
        Target::Topic(topic) => Ok(topic.clone()),
        _ => bail!("a live run writes to topics"),
    }
}

/// The footers of the results of a run that scores: at their end they say, too, which versions have taken the
/// place of the model by then.
pub fn footer(prepared: &Prepared, parts: &ScoringParts) -> Footer {
    let models = parts.models();
    let footnotes = move || {
        let switched = models.switched();
        let said = switched.iter().map(ModelSwitched::json).collect::<Vec<_>>();
        let changed = models.routes_changed();
        let changed = changed.iter().map(RouteChanged::json).collect::<Vec<_>>();
        let all = [(SWITCHES_KEY, said), (ROUTE_CHANGES_KEY, changed)];
        let all = all.into_iter().filter(|(_, said)| !said.is_empty());
        all.map(|(key, said)| (key.to_owned(), serde_json::Value::Array(said).to_string()))
            .collect()
    };
    let pairs = file_metadata(prepared, Some(parts));
    Footer { pairs, footnotes: Some(Arc::new(footnotes)) }
}

/// What is written into the footer of every file; the model is that which the run begins with.
pub fn file_metadata(prepared: &Prepared, parts: Option<&ScoringParts>) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("driftline.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (JOB_KEY.to_owned(), prepared.job.name.clone()),
    ];
    if let Some(parts) = parts {
        pairs.push(("driftline.model_name".to_owned(), parts.model.identity.name.clone()));
        pairs.push(("driftline.model_version".to_owned(), parts.model.identity.version.clone()));
        let digest = parts.model.digest.clone();
        pairs.extend(digest.map(|digest| (MODEL_DIGEST_KEY.to_owned(), digest)));
    }
    pairs
}

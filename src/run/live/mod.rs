//! The main job on topics: the graph of a replay, in and out of Kafka, until it is told to stop.

mod committer;
mod finals;
mod held_back;
mod hints;
mod holds;
mod model_watcher;
mod open;
mod places;
mod refresher;
mod watcher;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use driftline_jobs::graph::Events;
use driftline_jobs::scoring::{Outputs, scoring as scoring_graph};
use driftline_operators::accounting::Counters;
use driftline_operators::alert::AlertRules;
use driftline_operators::breaker::BreakerLimits;
use driftline_operators::drift::coverage::Coverage;
use driftline_operators::drift::snapshot;
use driftline_operators::gate::Order;
use driftline_operators::reports::Reports;
use driftline_operators::run::Run;
use driftline_operators::score::Scoring;
use driftline_operators::settled::Beginning;
use driftline_operators::watermark::Span;
use timely::dataflow::{ProbeHandle, Scope};

pub use self::committer::CommitFailures;
use self::committer::Committer;
use self::finals::{Of, final_windows};
use self::held_back::say_what_is_held_back;
pub use self::hints::Hints;
pub use self::holds::Holds;
use self::holds::{Advice, HoldWatcher, HoldWatching};
use self::model_watcher::ModelWatcher;
use self::places::Places;
pub use self::refresher::Refreshes;
use self::refresher::{Refresher, Refreshing};
use self::watcher::{Watcher, Watching};
use super::drift::PreparedDrift;
use super::drift_tally::DriftTally;
use super::engine::{Ended, Engine};
use super::loading::LoadedModel;
use super::numbers::thousands;
use super::options::{RunOptions, TopicUse};
use super::outputs::{LiveSinks, Target, Targets, footer};
use super::prepare::Prepared;
use super::scoring::ScoringParts;
use super::served;
use super::summary::Summary;
use crate::config::job::Alerts;
use crate::config::{Job, Problem};
use crate::service::{DriftMetrics, Lags, Metrics, PredictionCounts, Service, Steering};
use crate::sinks::kafka::Producer;
use crate::sinks::kafka::sender::Sender;
use crate::sinks::rolling;
use crate::sources::kafka::begin::Place;

/// What is left at least of the time to stop for the last offsets to be committed.
const COMMIT_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// What a live run is asked for beyond its job file.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveOptions {
    /// The run ends when it has read everything and nothing has come for so long.
    pub until_quiet_for: Option<Duration>,
}

/// Runs the job on its topics until it is told to stop: predictions, drift and dead letters.
///
/// # Errors
/// Whatever ends the run otherwise.
pub fn run_live(job: &Arc<Job>, options: &RunOptions, live: LiveOptions) -> Result<Summary> {
    let targets = targets(job)?;
    let open::Opened { topics: open, complete_from } = open::topics(job, options, live)?;
    let reading = open.reading.clone();
    let tables: Vec<Place> = open.tables.iter().flatten().flatten().cloned().collect();
    let options = RunOptions {
        topics: TopicUse::Read(Arc::new(open)),
        drain: Some(job.kafka.shutdown_timeout),
        ..options.clone()
    };
    let prepared = Arc::new(Prepared::new(job, &options)?);
    let lags = Lags::with_limit(job.realtime.shadow_lag_max);
    let mut parts = ScoringParts::load(&prepared, &options)?;
    parts.shed = parts.routes.is_some().then(|| lags.is_far());
    let parts = Arc::new(parts);
    parts.all().for_each(LoadedModel::warn);
    let drift = prepared_drift(job, &parts, &targets, complete_from)?;
    let rules = || Arc::new(alert_rules(job, drift.as_deref()));
    let rules = job.kafka.alerts.clone().map(|topic| (rules(), topic));

    let mut engine = Engine::new(prepared.clone(), &options);
    let places = prepared.inputs.event_places();
    let firsts = places.iter().map(|(number, place)| (*number, place.first)).collect();
    engine.run.beginning = Beginning { highest: complete_from.saturating_sub(1), firsts };
    engine.run.reports = Reports::of(options.workers.max(1));
    engine.run.holding.watch();
    let producer = Producer::new(&reading.cluster)?;
    let known = Places::new(places.iter().cloned(), prepared.inputs.partitions().len());
    let (interval, commit_failures) = (job.kafka.commit_interval, CommitFailures::default());
    let failures = commit_failures.clone();
    let committer = Committer::start(&reading, interval, &known, &engine.run.reports, failures)?;
    let _watcher = Watcher::start(Watching {
        topics: reading.clone(),
        places: known.clone(),
        names: prepared.partition_names.clone(),
        reports: engine.run.reports.clone(),
        lags: lags.clone(),
        refresh_interval: job.kafka.refresh_interval,
    })?;
    let (holds, streams) = (Holds::default(), prepared.inputs.partitions().into_iter());
    let _hold_watcher = (job.order == Order::EventTime).then(|| {
        HoldWatcher::start(HoldWatching {
            run: engine.run.clone(),
            live: reading.live.clone(),
            holds: holds.clone(),
            names: prepared.partition_names.clone(),
            advice: Advice::new(job, streams.map(|partition| partition.stream).collect()),
        })
    });
    let _model_watcher = match parts.routes {
        Some(_) => {
            let counters = engine.run.counters.clone();
            Some(ModelWatcher::start(breakers(job), parts.models(), counters)?)
        }
        None => None,
    };
    let refreshes = Refreshes::default();
    let refreshers = refreshers(job, &parts, &options, &refreshes)?;
    let (drift_metrics, prediction_counts) = (DriftMetrics::default(), PredictionCounts::default());
    let service = Service::start(
        job.listen,
        Metrics {
            run: engine.run.clone(),
            models: parts.models(),
            predictions: prediction_counts.clone(),
            latencies: parts.latencies.clone(),
            lags,
            commit_failures,
            live: reading.live.clone(),
            holds,
            producer: producer.clone(),
            drift: drift_metrics.clone(),
            refreshes,
            rules: prepared.plan.rules.clone(),
        },
        Steering {
            hints: refreshers.iter().map(|refresher| refresher.hints.clone()).collect(),
            models: options.models.clone(),
        },
    )?;
    let tally = DriftTally::new(parts.watched.names.len());
    let sinks = LiveSinks {
        sender: Sender::start(producer),
        writer: rolling::Writer::start(),
        job: job.name.clone(),
        prediction_headers: job.kafka.prediction_headers,
        prediction_type: job.kafka.prediction_type.clone(),
        prediction_source: job.kafka.prediction_source.clone(),
        left_out_of_predictions: job.left_out_of_predictions.clone(),
        partition_names: prepared.partition_names.clone(),
        footer: footer(&prepared, &parts),
        file_name: format!("part-{}", started_ms()),
    };
    let scoring = parts;
    let parts = LiveParts {
        prepared,
        scoring,
        drift,
        rules,
        targets,
        sinks,
        tally,
        drift_metrics,
        prediction_counts,
    };
    let (parts, run) = (Arc::new(parts), engine.run.clone());
    let build = {
        let parts = parts.clone();
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let outputs = parts.outputs(worker, &run)?;
            scoring_graph(scope, events, outputs, probe);
            Ok(())
        }
    };
    let (count, servers) = (places.len(), reading.cluster.servers());
    say!("running: {count} partitions of {} at {servers}", described(job));
    parts.scoring.all().for_each(|model| say_of(model, options.workers.max(1)));
    say!("metrics: http://{}/metrics", service.address);
    let ended = engine.start(build)?;
    let stopping_for = options.interrupt.since().map_or(Duration::ZERO, |since| since.elapsed());
    let left = job.kafka.shutdown_timeout.saturating_sub(stopping_for).max(COMMIT_TIMEOUT_MIN);
    let committed = committer.stop(left);
    if let Some(failure) = &ended.failure {
        bail!("{failure}");
    }
    check_account(&engine.run.counters)?;
    if live.until_quiet_for.is_some() && !ended.interrupted {
        say_what_is_held_back(&reading, known.all().iter().chain(&tables));
    }
    committed
        .context("the last offsets could not be committed; what came after them is read again")?;
    // A run without end is not judged by where somebody stopped it.
    let share_max = options.max_dead_letter_share(job).filter(|_| live.until_quiet_for.is_some());
    let names = &parts.prepared.partition_names;
    let summary = parts.summary(job, &engine.run.counters, &ended);
    Ok(summary.with_letters(&engine.run.counters, names, share_max))
}

/// What all workers make their ends of the graph of.
struct LiveParts {
    prepared: Arc<Prepared>,
    scoring: Arc<ScoringParts>,
    drift: Option<Arc<PreparedDrift>>,
    /// And the topic of alerts.
    rules: Option<(Arc<AlertRules>, String)>,
    targets: Targets,
    sinks: LiveSinks,
    tally: DriftTally,
    drift_metrics: DriftMetrics,
    prediction_counts: PredictionCounts,
}

impl LiveParts {
    /// One worker's parts behind the features.
    fn outputs(&self, worker: usize, run: &Run) -> Result<Outputs> {
        let files = self.targets.drift.as_ref().and_then(Target::files);
        let drift = match self.drift.as_ref().zip(files) {
            Some((drift, output)) => {
                let sink = self.sinks.drift(output, worker, snapshot::schema())?;
                let sink = self.drift_metrics.watch_snapshots(self.tally.watch(sink));
                Some((drift.schedule.clone(), drift.format.clone(), sink))
            }
            None => None,
        };
        let rules = self.rules.as_ref();
        let scoring = self.scoring.worker(&self.prepared, run)?;
        Ok(Outputs {
            scoring: Scoring { alerts: rules.map(|(rules, _)| rules.clone()), ..scoring },
            alerts: rules
                .map(|(_, topic)| self.drift_metrics.watch_alerts(self.sinks.alerts(topic))),
            watched: self.scoring.watched.clone(),
            drift,
            predictions: self.prediction_counts.watch(self.sinks.predictions(&self.targets)?),
            dead_letters: self.sinks.dead_letters(&self.targets)?,
            latencies: self.scoring.latencies.clone(),
        })
    }

    fn summary(&self, job: &Job, counters: &Counters, ended: &Ended) -> Summary {
        let summary = Summary::of_replay(job, &self.scoring, counters, ended, &self.targets);
        let mut notes = self.prepared.notes();
        let left_out = self.drift.as_ref().map_or(0, |drift| drift.format.finals.left_out());
        if left_out > 0 {
            let rows = thousands(left_out);
            notes.push(format!(
                "{rows} rows of drift left out: earlier runs made their windows final"
            ));
        }
        let mut summary = summary.with_notes(notes);
        if let Some(drift) = &self.drift {
            summary.drift = self.tally.lines(drift.windows());
        }
        summary
    }
}

/// What is to be said of a model that a run begins with.
fn say_of(model: &LoadedModel, workers: usize) {
    let of = format!("model {} version {}", model.identity.name, model.identity.version);
    if let Some(doubt) = served::doubt(&model.file.card, &of, workers) {
        say!("warning: {doubt}");
    }
    if let Some(why) = &model.why_not_compiled {
        say!("model: run by {why}");
    }
    if let Some(parity) = &model.parity {
        say!("parity: {parity}");
    }
}

/// By place, the models that rows are kept from when they fail.
fn breakers(job: &Job) -> Vec<(usize, BreakerLimits)> {
    let models = job.routing.iter().flat_map(|routing| routing.models.iter().enumerate());
    models.filter_map(|(place, (_, file))| Some((place, file.breaker?))).collect()
}

/// What asks the registries that models come from.
fn refreshers(
    job: &Job,
    parts: &ScoringParts,
    options: &RunOptions,
    refreshes: &Refreshes,
) -> Result<Vec<Refresher>> {
    let workers = options.workers.max(1);
    let mut refreshers = Vec::new();
    for ((name, file), version) in job.models().into_iter().zip(&parts.versions) {
        let Some((registered, version)) = file.registered.as_ref().zip(version.clone()) else {
            continue;
        };
        let (interval, models) = (job.realtime.model_refresh_interval, options.models.clone());
        let refreshing =
            Refreshing::new(registered, version, interval, models, workers, refreshes.clone())?;
        refreshers.push(refreshing.of_model(name.map(str::to_owned)).start()?);
    }
    Ok(refreshers)
}

/// What the job watches drift with, if it does; windows that are final in the files of earlier runs get
/// no other row.
fn prepared_drift(
    job: &Job,
    parts: &ScoringParts,
    targets: &Targets,
    complete_from: i64,
) -> Result<Option<Arc<PreparedDrift>>> {
    let Some(drift) = PreparedDrift::new(job, parts, coverage(complete_from))? else {
        return Ok(None);
    };
    let folder = targets.drift.as_ref().and_then(Target::files).map(|output| &output.path);
    let model = &parts.model.identity;
    let of = if parts.versions[0].is_some() { Of::Model(&model.name) } else { Of::Version(model) };
    let finals = folder.map(|folder| final_windows(folder, &job.name, of)).transpose()?;
    Ok(Some(Arc::new(drift.without(finals.unwrap_or_default()))))
}

/// Events with times before `complete_from` (ms) came before the run began; [`i64::MIN`] for none.
fn coverage(complete_from: i64) -> Coverage {
    let before = match complete_from {
        i64::MIN => Span::NONE,
        from => Span { first: from - 1, last: from - 1 },
    };
    Coverage { scored: (complete_from, i64::MAX), known: before }
}

/// Whether every record that was read is accounted for; those that wait in the order gate are pending.
fn check_account(counters: &Counters) -> Result<()> {
    let account = counters.account();
    if account.missing() != 0 {
        let (read, missing) = (account.read, account.missing());
        bail!("the account does not balance: of {read} records read {missing} are missing");
    }
    Ok(())
}

/// When alerts are raised; where drift is watched, with the reference that it is measured against.
fn alert_rules(job: &Job, drift: Option<&PreparedDrift>) -> AlertRules {
    let columns = |drift: &PreparedDrift| {
        let moments = drift.format.comparisons.iter().map(|comparison| comparison.moments.unit());
        drift.format.names.iter().cloned().zip(moments).collect()
    };
    let Alerts { score_over, z_over, ks_p_under } = job.alerts;
    AlertRules {
        score_over,
        z_over,
        ks_p_under,
        columns: drift.map(columns).unwrap_or_default(),
        versions: drift.and_then(|drift| drift.format.versions.clone()),
    }
}

fn described(job: &Job) -> String {
    let topics = job.source.as_ref().and_then(|source| source.topics.as_ref());
    topics.map_or_else(String::new, |topics| topics.names.join(", "))
}

fn targets(job: &Job) -> Result<Targets> {
    let topic = |name: &str, topic: &Option<String>| match topic {
        Some(topic) => Ok(Target::Topic(topic.clone())),
        None => {
            let message = "a live run needs to know where to: topic = \"...\"";
            let problem = Problem::at(format!("sinks.{name}.topic"), message);
            Err(anyhow::Error::from(job.origin.place(problem)))
        }
    };
    Ok(Targets {
        predictions: topic("predictions", &job.kafka.predictions)?,
        dead_letters: topic("dead_letters", &job.kafka.dead_letters)?,
        drift: job.drift.is_some().then(|| Target::Files(job.outputs.drift.clone())),
    })
}

/// When the run began, in ms since 1970: files of runs have names of their own.
fn started_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

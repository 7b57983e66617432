//! From what is typed to what is meant.

mod drift;
mod features;
mod kafka;
mod model;
mod names;
mod parity;
pub mod problem;
mod routes;
mod sinks;
mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::datatypes::TimeUnit;
use driftline_operators::admit::LatePolicy;
use driftline_operators::gate::Order;
use driftline_operators::ingest::FlowBounds;
use driftline_operators::micro_batch::BatchBounds;

use self::drift::check_drift;
use self::features::{check_checks, check_features};
use self::kafka::{check_kafka, check_source};
use self::model::check_model;
use self::names::check_names;
use self::problem::{Problem, at_least};
use self::routes::{RawRouting, check_routing};
use self::sinks::{check_sinks, left_out_of_predictions};
use self::tables::check_tables;
use super::job::{Alerts, Event, Format, Job, Realtime, ShardBy};
use super::origin::Origin;
use super::raw::{AlertsSection, MAX_BATCH_SIZE, RawJob};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check(raw: RawJob, path: &Path, folder: &Path) -> Result<Job, Problem> {
    check_names(&raw)?;
    let name = raw.job.name;
    if name.is_empty() || name.contains(['/', '\\']) {
        return Err(Problem::at("job.name", "it must be a name that a folder can have"));
    }
    let mut warnings: Vec<String> = raw
        .realtime_ml
        .without_effect()
        .iter()
        .map(|knob| format!("realtime_ml.{knob} has no effect in this version"))
        .collect();
    let has_topic = raw.sources.values().any(|source| source.topic.is_some());
    if raw.job.partition_skew_max_ms.is_some() && !has_topic {
        warnings.push("job.partition_skew_max_ms has no effect on files".to_owned());
    }
    let late = LatePolicy::from(raw.event.late);
    at_least("event.allowed_lateness_ms", raw.event.allowed_lateness_ms, 0)?;
    at_least("event.late_horizon_ms", raw.event.late_horizon_ms, raw.event.allowed_lateness_ms)?;
    at_least("event.future_horizon_ms", raw.event.future_horizon_ms.unwrap_or(0), 0)?;
    at_least("job.epoch_rows_max", raw.job.epoch_rows_max as i64, 1)?;
    let refresh = raw.realtime_ml.model_refresh_interval_seconds;
    at_least("realtime_ml.model_refresh_interval_seconds", refresh as i64, 1)?;
    at_least("job.epochs_in_flight_max", raw.job.epochs_in_flight_max as i64, 1)?;
    if raw.job.max_dead_letter_share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(Problem::at("job.max_dead_letter_share", "must be from 0 to 1"));
    }
    at_least("job.gate_rows_max", raw.job.gate_rows_max as i64, 1)?;
    at_least("job.gate_bytes_max", raw.job.gate_bytes_max as i64, 1)?;
    at_least("job.bytes_in_flight_max", raw.job.bytes_in_flight_max as i64, 1)?;
    at_least("job.partition_skew_max_ms", raw.job.partition_skew_max_ms.unwrap_or(0), 0)?;
    let timeout = raw.realtime_ml.request_timeout_ms;
    at_least("realtime_ml.request_timeout_ms", timeout.map_or(1, |ms| ms as i64), 1)?;
    let max_batch_size = raw.realtime_ml.max_batch_size;
    at_least("realtime_ml.max_batch_size", max_batch_size.map_or(1, |rows| rows as i64), 1)?;

    let mut sources = raw.sources.into_iter();
    let (source, None) = (sources.next(), sources.next()) else {
        let message = "a job has at most one section [sources.NAME]; several files are a folder";
        return Err(Problem::at("sources", message));
    };
    let source = source.map(|(source, section)| check_source(source, section, folder, &name));
    let source = source.transpose()?;

    let id_of = raw.event.key.clone().or(raw.event.id.clone());
    let event = Event {
        time: raw.event.time,
        time_unit: raw.event.time_unit.map(TimeUnit::from),
        id: raw.event.id,
        key: raw.event.key,
        filter: raw.event.filter,
        allowed_lateness_ms: raw.event.allowed_lateness_ms,
        late,
        late_horizon_ms: raw.event.late_horizon_ms,
        idle_timeout_ms: raw.event.idle_timeout_ms,
        future_horizon_ms: raw.event.future_horizon_ms,
        columns: raw.event.columns,
    };
    let mut tables = check_tables(raw.tables, folder)?;
    let features = check_features(raw.features, &tables, folder)?;
    let checks = check_checks(raw.checks, &features)?;
    // Events would wait for a table that nobody asks.
    tables.retain(|name, _| {
        let is_used = features.iter().any(|(_, feature)| feature.kind.table() == Some(name));
        if !is_used {
            warnings.push(format!("tables.{name} is not read: no feature looks it up"));
        }
        is_used
    });
    let cache_size = raw.realtime_ml.model_cache_size;
    let routing = RawRouting {
        models: raw.models,
        ensembles: raw.ensembles,
        cascades: raw.cascades,
        routes: raw.routes,
    };
    let routing =
        check_routing(routing, raw.model.is_some(), &id_of, &features, folder, cache_size)?;
    let model =
        raw.model.map(|model| check_model(model, &features, folder, cache_size)).transpose()?;
    let first = routing.as_ref().map(|routing| routing.models[0].1.clone());
    let model = model.or(first);
    let drift = raw.drift.map(|drift| check_drift(drift, folder, &mut warnings)).transpose()?;
    if drift.as_ref().is_some_and(|drift| drift.revisions.horizon_ms > 0)
        && late != LatePolicy::Score
    {
        warnings.push(format!(
            "drift.revision_horizon_ms has no effect: late rows are not scored (event.late is {:?})",
            raw.event.late.as_typed()
        ));
    }
    if drift.is_some() && model.is_none() {
        warnings.push("[drift] has no effect without a [model]".to_owned());
    }
    let kafka = check_kafka(raw.kafka, &raw.sinks, &name)?;
    let left_out_of_predictions = left_out_of_predictions(&raw.sinks, routing.is_some())?;
    let outputs = check_sinks(raw.sinks, folder, &name)?;
    let has_topics = source.as_ref().is_some_and(|source| source.topics.is_some());
    if drift.is_some() && has_topics && outputs.drift.format != Format::Parquet {
        warnings
            .push("sinks.drift.format is that of a replay: a live run writes Parquet".to_owned());
    }
    let is_batched = raw.realtime_ml.batch_inference;
    let max_rows = if is_batched { max_batch_size.unwrap_or(MAX_BATCH_SIZE) } else { 1 };
    Ok(Job {
        path: path.to_owned(),
        origin: Origin::default(),
        order: Order::from(raw.job.order),
        shard_by: match raw.job.shard_by.as_str() {
            "key" => ShardBy::Key,
            "id" => ShardBy::Id,
            column => ShardBy::Column(column.to_owned()),
        },
        name,
        epoch_rows_max: raw.job.epoch_rows_max,
        bounds: FlowBounds {
            epochs_in_flight_max: raw.job.epochs_in_flight_max,
            // One more epoch is read when there are no more rows.
            rows_in_flight_max: (raw.job.epochs_in_flight_max - 1)
                .saturating_mul(raw.job.epoch_rows_max as u64),
            gate_rows_max: raw.job.gate_rows_max,
            gate_bytes_max: raw.job.gate_bytes_max,
            bytes_in_flight_max: raw.job.bytes_in_flight_max,
            partition_skew_max_ms: raw.job.partition_skew_max_ms,
            gather_for: None,
        },
        event,
        source,
        tables,
        features,
        checks,
        model,
        routing,
        realtime: Realtime {
            bounds: BatchBounds {
                max_rows,
                timeout: Duration::from_millis(raw.realtime_ml.batch_timeout_ms),
            },
            has_batch_size: !is_batched || max_batch_size.is_some(),
            max_latency_ms: raw.realtime_ml.max_latency_ms,
            request_timeout: raw.realtime_ml.request_timeout_ms.map(Duration::from_millis),
            throughput_target_per_second: raw.realtime_ml.throughput_target_per_second,
            model_refresh_interval: Duration::from_secs(
                raw.realtime_ml.model_refresh_interval_seconds,
            ),
            model_cache_size: raw.realtime_ml.model_cache_size,
            model_warm_up_samples: raw.realtime_ml.model_warm_up_samples,
            shadow_lag_max: raw.realtime_ml.shadow_lag_max,
        },
        drift,
        outputs,
        left_out_of_predictions,
        max_dead_letter_share: raw.job.max_dead_letter_share,
        kafka,
        alerts: check_alerts(&raw.alerts)?,
        listen: check_listen(&raw.service.listen)?,
        warnings,
    })
}

fn check_alerts(raw: &AlertsSection) -> Result<Alerts, Problem> {
    let AlertsSection { score_over, z_over, ks_p_under } = *raw;
    if !(z_over >= 0.0 && z_over.is_finite()) {
        return Err(Problem::at("alerts.z_over", "it must be a number of standard deviations"));
    }
    if !(0.0..=1.0).contains(&ks_p_under) {
        return Err(Problem::at("alerts.ks_p_under", "it must be a p-value, from 0 to 1"));
    }
    Ok(Alerts { score_over, z_over, ks_p_under })
}

fn check_listen(text: &str) -> Result<SocketAddr, Problem> {
    let message = "it must be an address and a port, such as 127.0.0.1:9464";
    text.parse().map_err(|_| Problem::at("service.listen", message))
}

/// `-` is standard input; any other path is relative to the job file.
fn resolve(folder: &Path, path: &str) -> PathBuf {
    if path == "-" { PathBuf::from("-") } else { folder.join(path) }
}

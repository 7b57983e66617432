//! Sections [sources.NAME] and [kafka], and the topics of [sinks.NAME].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::problem::{Problem, at_least};
use super::resolve;
use super::sinks::check_others_lack;
use crate::config::duration::instant_ms;
use crate::config::job::{Input, Kafka, Source, Start, Topics};
use crate::config::raw::{KafkaSection, SinkSection, SinksSection, SourceSection};

/// The type of a prediction as an event, where the job does not say.
const PREDICTION_TYPE: &str = "driftline.prediction";

/// A run that is asked to stop hears of it after so long at the latest.
const POLL_INTERVAL_MAX_MS: u64 = 1_000;

/// The most characters of a topic's name.
const TOPIC_NAME_MAX: usize = 249;

pub(super) fn check_source(
    name: String,
    raw: SourceSection,
    folder: &Path,
    job: &str,
) -> Result<Source, Problem> {
    let key = |key: &str| format!("sources.{name}.{key}");
    let input = raw.path.map(|path| Input { path: resolve(folder, &path), format: raw.format });
    let Some(topic) = raw.topic else {
        if input.is_none() {
            let message =
                "say where events are: path = \"...\" for a replay, topic = \"...\" for a live run";
            return Err(Problem::at(format!("sources.{name}"), message));
        }
        if raw.group.is_some() {
            return Err(Problem::at(
                key("group"),
                format!("has no effect without {}", key("topic")),
            ));
        }
        if !raw.start_offsets.is_empty() {
            let message = format!("has no effect without {}", key("topic"));
            return Err(Problem::at(key("start_offsets"), message));
        }
        return Ok(Source { name, input, topics: None });
    };
    let names = topic.into_list();
    if names.is_empty() {
        return Err(Problem::at(key("topic"), "name at least one"));
    }
    for (at, topic) in names.iter().enumerate() {
        check_topic(&key("topic"), topic)?;
        if names[..at].contains(topic) {
            return Err(Problem::at(key("topic"), format!("{topic:?} is there twice")));
        }
    }
    let start = match raw.start.as_str() {
        "committed" => Start::Committed,
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        instant => Start::Instant(instant_ms(instant).map_err(|_| {
            let message = format!(
                "{instant:?} is none of committed, earliest, latest, and no instant such as 2013-06-15T12:00:00Z"
            );
            Problem::at(key("start"), message)
        })?),
    };
    let mut start_offsets = BTreeMap::new();
    for (partition, offset) in raw.start_offsets {
        let place = place(&partition, &names).map_err(|message| {
            Problem::at(format!("{}.{partition}", key("start_offsets")), message)
        })?;
        start_offsets.insert(place, offset);
    }
    let group = raw.group.unwrap_or_else(|| job.to_owned());
    let topics = Topics { names, group, start, start_offsets };
    Ok(Source { name, input, topics: Some(topics) })
}

/// The topic and partition of `"3"` or `"topic/3"`.
fn place(text: &str, topics: &[String]) -> Result<(String, i32), String> {
    let (topic, number) = match (text.rsplit_once('/'), topics) {
        (Some((topic, number)), _) => (topic, number),
        (None, [only]) => (only.as_str(), text),
        (None, _) => return Err("write \"topic/partition\": there are several topics".to_owned()),
    };
    if !topics.iter().any(|known| known == topic) {
        return Err(format!("{topic:?} is no topic of the source"));
    }
    let number: Option<i32> = number.parse().ok().filter(|number| *number >= 0);
    let number = number.ok_or("the number of a partition is missing, such as \"3\"")?;
    Ok((topic.to_owned(), number))
}

fn check_topic(key: &str, topic: &str) -> Result<(), Problem> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_sound = (1..=TOPIC_NAME_MAX).contains(&topic.len())
        && topic.chars().all(is_allowed)
        && ![".", ".."].contains(&topic);
    if is_sound {
        return Ok(());
    }
    let message = format!(
        "{topic:?} cannot be a topic: letters, digits, \".\", \"_\" and \"-\", at most {TOPIC_NAME_MAX} of them"
    );
    Err(Problem::at(key, message))
}

/// What messages of predictions say of themselves as events, if the job says so.
fn event_attribute(
    sinks: &SinksSection,
    key: &str,
    of: impl Fn(&SinkSection) -> Option<&String>,
) -> Result<Option<String>, Problem> {
    let message = "only messages of predictions say so";
    check_others_lack(sinks, key, |sink| of(sink).is_some(), message)?;
    let Some(text) = sinks.predictions.as_ref().and_then(&of) else { return Ok(None) };
    let at = |message: &str| Err(Problem::at(format!("sinks.predictions.{key}"), message));
    let predictions = sinks.predictions.as_ref();
    if predictions.is_some_and(|sink| sink.topic.is_none()) {
        return at("files have no headers; it goes with topic");
    }
    if predictions.is_some_and(|sink| sink.headers == Some(false)) {
        return at("has no effect where headers = false");
    }
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return at("must be a word or a URI: at least one sign, and no spaces");
    }
    Ok(Some(text.clone()))
}

pub(super) fn check_kafka(
    raw: KafkaSection,
    sinks: &SinksSection,
    job: &str,
) -> Result<Kafka, Problem> {
    if raw.poll_interval_ms > POLL_INTERVAL_MAX_MS {
        let message = format!(
            "{} is too large; it must be at most {POLL_INTERVAL_MAX_MS}",
            raw.poll_interval_ms
        );
        return Err(Problem::at("kafka.poll_interval_ms", message));
    }
    at_least("kafka.commit_interval_ms", raw.commit_interval_ms as i64, 1)?;
    at_least("kafka.refresh_interval_ms", raw.refresh_interval_ms as i64, 1)?;
    if raw.bootstrap_servers.trim().is_empty() {
        return Err(Problem::at("kafka.bootstrap_servers", "name at least one broker, host:port"));
    }
    let topic = |name: &str, sink: &Option<SinkSection>| {
        let topic = sink.as_ref().and_then(|sink| sink.topic.clone());
        if let Some(topic) = &topic {
            check_topic(&format!("sinks.{name}.topic"), topic)?;
        }
        Ok::<_, Problem>(topic)
    };
    if sinks.drift.as_ref().is_some_and(|sink| sink.topic.is_some()) {
        return Err(Problem::at("sinks.drift.topic", "drift goes to files; set path"));
    }
    if sinks.alerts.as_ref().is_some_and(|sink| sink.path.is_some()) {
        return Err(Problem::at("sinks.alerts.path", "alerts go to a topic; set topic"));
    }
    let message = "only messages of predictions can do without headers";
    check_others_lack(sinks, "headers", |sink| sink.headers.is_some(), message)?;
    let headers = sinks.predictions.as_ref().and_then(|sink| sink.headers);
    let has_topic = sinks.predictions.as_ref().is_some_and(|sink| sink.topic.is_some());
    if headers.is_some() && !has_topic {
        let message = "files have no headers; it goes with topic";
        return Err(Problem::at("sinks.predictions.headers", message));
    }
    let event_type = event_attribute(sinks, "event_type", |sink| sink.event_type.as_ref())?;
    let event_source = event_attribute(sinks, "event_source", |sink| sink.event_source.as_ref())?;
    Ok(Kafka {
        bootstrap_servers: raw.bootstrap_servers,
        poll_interval: Duration::from_millis(raw.poll_interval_ms),
        commit_interval: Duration::from_millis(raw.commit_interval_ms),
        refresh_interval: Duration::from_millis(raw.refresh_interval_ms),
        shutdown_timeout: Duration::from_millis(raw.shutdown_timeout_ms),
        properties: raw.properties,
        predictions: topic("predictions", &sinks.predictions)?,
        prediction_headers: headers.unwrap_or(true),
        prediction_type: event_type.unwrap_or_else(|| PREDICTION_TYPE.to_owned()),
        prediction_source: event_source.unwrap_or_else(|| job.to_owned()),
        dead_letters: topic("dead_letters", &sinks.dead_letters)?,
        alerts: topic("alerts", &sinks.alerts)?,
    })
}

//! The model of a run is switched while it goes on.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use driftline::{EventSource, Job, ModelControl, Next, OwnEvents, Pipeline, Since};

use crate::support::{
    ROWS, Scored, assert_as_replayed, collecting, departures, flights, replayed, root, scores,
};

fn file(model: &str) -> PathBuf {
    root().join(format!("data/flights/models/{model}.onnx"))
}

fn without_drift() -> Job {
    let mut job = flights();
    job.drift = None;
    job
}

/// What the flights' other model gives for each departure.
fn by_the_other() -> Scored {
    let mut job = without_drift();
    job.model.as_mut().unwrap().path = file("logistic");
    let events = OwnEvents::batches(departures().schema(), [departures()]);
    let (pipeline, predictions, ..) = collecting(Pipeline::new(job).events(events));
    pipeline.run().unwrap();
    scores(&predictions.all())
}

/// Gives some events every few ms.
struct Steady {
    from: usize,
    is_over: Arc<AtomicBool>,
}

impl EventSource for Steady {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        let rows = 100.min(ROWS - self.from);
        if rows == 0 {
            self.is_over.store(true, Release);
            return Ok(Next::End);
        }
        std::thread::sleep(Duration::from_millis(6));
        let batch = departures().slice(self.from, rows);
        self.from += rows;
        Ok(Next::Events(batch))
    }
}

/// Switches between the two models until the run is over, and to what cannot be now and then.
fn switch_until(models: &ModelControl, is_over: &AtomicBool) -> usize {
    let mut switches = 0;
    while !is_over.load(Acquire) {
        let model = if switches % 2 == 0 { "logistic" } else { "trees" };
        match models.switch(&format!("{model} {switches}"), file(model)) {
            Ok(()) => switches += 1,
            Err(error) => assert!(format!("{error:#}").contains("no run"), "{error:#}"),
        }
        if switches % 5 == 0 {
            for unfit in ["multiclass", "regression", "absent"] {
                assert!(models.switch("unfit", file(unfit)).is_err(), "{unfit}");
            }
        }
    }
    switches
}

/// Event id, event time and version of each prediction.
fn versions(predictions: &RecordBatch) -> Vec<(String, i64, String)> {
    let text = |name| predictions.column_by_name(name).unwrap().as_string::<i32>();
    let (ids, versions) = (text("event_id"), text("model_version"));
    let times = predictions.column_by_name("event_time").unwrap();
    let times = times.as_primitive::<TimestampMillisecondType>().values();
    let row = |row: usize| (ids.value(row).to_owned(), times[row], versions.value(row).to_owned());
    (0..predictions.num_rows()).map(row).collect()
}

#[test]
fn each_event_is_scored_once_by_the_version_that_holds_for_it() {
    let other = by_the_other();
    for workers in [1, 2] {
        let is_over = Arc::new(AtomicBool::new(false));
        let source = Steady { from: 0, is_over: is_over.clone() };
        let events = OwnEvents::new(departures().schema(), source);
        let pipeline = Pipeline::new(without_drift()).workers(workers).events(events);
        let (pipeline, predictions, ..) = collecting(pipeline);
        let models = pipeline.models();
        assert!(models.switch("1", file("trees")).is_err(), "before the run");
        let (summary, asked) = std::thread::scope(|scope| {
            let switching = scope.spawn(|| switch_until(&models, &is_over));
            let summary = pipeline.run().unwrap();
            (summary, switching.join().unwrap())
        });
        let account = summary.account;
        assert_eq!((account.read, account.predictions), (ROWS as u64, ROWS as u64));
        let switched = models.switched();
        // Those that were asked for at the very end nobody has told any more.
        assert!(switched.len() > 10 && switched.len() <= asked, "{} of {asked}", switched.len());
        let shown = summary.to_string();
        assert!(
            shown.contains(&format!("to version {} from ", switched[0].model.version)),
            "{shown}"
        );
        let all = predictions.all();
        let (found, mut seen) = (scores(&all), BTreeSet::new());
        assert_eq!(found.len(), ROWS);
        for (id, time, version) in versions(&all) {
            let holds = switched.iter().rev().find(|to| match to.since {
                Since::EventTime(since) => since <= time,
                Since::Epoch(_) => panic!("in order of event time"),
            });
            let wanted = holds.map_or("1", |to| to.model.version.as_str());
            assert_eq!(version, wanted, "{workers} workers: {id} at {time}");
            let by = if version.starts_with("logistic") { &other } else { replayed() };
            assert_eq!(found[&id], by[&id], "{workers} workers: {id} by {version}");
            seen.insert(version);
        }
        assert!(seen.len() > 5, "{seen:?}");
    }
}

/// The first event of February on.
const FEBRUARY: i64 = 1_359_676_800_000;

#[test]
fn what_was_recorded_can_be_replayed_whatever_the_workers() {
    let other = by_the_other();
    let events = OwnEvents::batches(departures().schema(), [departures()]);
    let (pipeline, predictions, ..) = collecting(Pipeline::new(without_drift()).events(events));
    pipeline.run().unwrap();
    let all = predictions.all();
    assert_as_replayed(&scores(&all), "the job's model alone");
    let times = versions(&all).into_iter().map(|(id, time, _)| (id, time));
    let expected = times.map(|(id, time)| {
        let by = if time < FEBRUARY { replayed() } else { &other };
        let score = by[&id].clone();
        (id, score)
    });
    let expected: Scored = expected.collect();
    for workers in [1, 3] {
        let events = OwnEvents::batches(departures().schema(), [departures()]);
        let pipeline = Pipeline::new(without_drift()).workers(workers).events(events);
        let pipeline = pipeline.model_since(FEBRUARY, "2", file("logistic"));
        let (pipeline, predictions, ..) = collecting(pipeline);
        let summary = pipeline.run().unwrap();
        assert!(
            summary.to_string().contains("to version 2 from 2013-02-01T00:00:00Z on"),
            "{summary}"
        );
        let found = scores(&predictions.all());
        let differing = expected.iter().filter(|(id, score)| found.get(*id) != Some(score)).count();
        assert_eq!((found.len(), differing), (ROWS, 0), "{workers} workers");
    }
}

#[test]
fn a_schedule_by_event_time_takes_that_order() {
    let mut job = without_drift();
    job.order = driftline_operators::gate::Order::Epoch;
    let events = OwnEvents::batches(departures().schema(), [departures().slice(0, 10)]);
    let pipeline = Pipeline::new(job).events(events).model_since(0, "2", file("logistic"));
    let error = format!("{:#}", collecting(pipeline).0.run().err().unwrap());
    assert!(error.contains("job.order = \"event_time\", and it is \"epoch\""), "{error}");
}

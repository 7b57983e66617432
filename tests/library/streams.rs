//! A program's own events and sinks.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use driftline::run::options::RunOptions;
use driftline::run::replay;
use driftline::sinks::own::{OwnSinks, SinkFactory};
use driftline::{EventSource, FunctionSink, Next, OwnEvents, Pipeline, Wake};

use crate::support::{
    Collected, ROWS, assert_as_replayed, collecting, departures, flights, ids, scores,
};

/// Batches of uneven sizes.
fn batches() -> Vec<RecordBatch> {
    let all = departures();
    let (mut from, mut size) = (0, 1);
    let mut batches = Vec::new();
    while from < ROWS {
        let rows = size.min(ROWS - from);
        batches.push(all.slice(from, rows));
        from += rows;
        size = size * 3 % 20_011 + 1;
    }
    batches
}

#[test]
fn own_events_and_sinks_give_what_files_give_with_any_workers() {
    for workers in [1, 2, 4] {
        let events = OwnEvents::batches(departures().schema(), batches());
        let pipeline = Pipeline::new(flights()).workers(workers).events(events);
        let (pipeline, predictions, letters, drift) = collecting(pipeline);
        let summary = pipeline.run().unwrap();
        assert_eq!(summary.account.read, ROWS as u64);
        assert_eq!(summary.account.predictions, ROWS as u64);
        assert_eq!(summary.latency.map(|latency| latency.rows), Some(ROWS as u64));
        assert!(letters.is_empty() || letters.all().num_rows() == 0);
        assert!(drift.all().num_rows() > 0);
        assert_as_replayed(&scores(&predictions.all()), &format!("{workers} workers"));
    }
}

/// Gives a batch only when it has been woken by another thread.
struct Woken {
    batches: std::vec::IntoIter<RecordBatch>,
    ready: Arc<std::sync::atomic::AtomicBool>,
}

impl EventSource for Woken {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        if !self.ready.swap(false, std::sync::atomic::Ordering::AcqRel) {
            return Ok(Next::Nothing);
        }
        Ok(self.batches.next().map_or(Next::End, Next::Events))
    }

    fn wake_with(&mut self, wake: Wake) {
        let ready = self.ready.clone();
        std::thread::spawn(move || {
            // As long as the source is there.
            while Arc::strong_count(&ready) > 1 {
                ready.store(true, std::sync::atomic::Ordering::Release);
                wake();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    }
}

#[test]
fn a_source_may_have_nothing_for_a_while() {
    let source = Woken { batches: batches().into_iter(), ready: Arc::default() };
    let events = OwnEvents::new(departures().schema(), source);
    let (pipeline, predictions, ..) = collecting(Pipeline::new(flights()).events(events));
    pipeline.run().unwrap();
    assert_as_replayed(&scores(&predictions.all()), "woken");
}

#[test]
fn events_that_are_not_what_was_declared_end_the_run_with_an_error() {
    let other = departures().project(&[0, 1]).unwrap();
    let events = OwnEvents::batches(departures().schema(), [departures().slice(0, 5), other]);
    let (pipeline, ..) = collecting(Pipeline::new(flights()).events(events));
    let error = pipeline.run().err().unwrap().to_string();
    assert!(error.starts_with("events: column "), "{error}");
    assert!(error.contains("of a batch is absent"), "{error}");

    let without_time = departures().project(&[0]).unwrap();
    let events = OwnEvents::batches(without_time.schema(), [without_time]);
    let (pipeline, ..) = collecting(Pipeline::new(flights()).events(events));
    let error = format!("{:#}", pipeline.run().err().unwrap());
    assert!(error.contains("no column \"event_time\" (event.time)"), "{error}");
}

#[test]
fn a_source_and_a_sink_that_fail_end_the_run_with_their_error() {
    struct Failing;
    impl EventSource for Failing {
        fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
            Err("the well is dry".into())
        }
    }
    let events = OwnEvents::new(departures().schema(), Failing);
    let (pipeline, ..) = collecting(Pipeline::new(flights()).events(events));
    assert_eq!(pipeline.run().err().unwrap().to_string(), "events: the well is dry");

    let events = OwnEvents::batches(departures().schema(), batches());
    let (pipeline, ..) = collecting(Pipeline::new(flights()).events(events));
    let pipeline = pipeline.predictions(|_worker, _schema| {
        let sink = driftline::FunctionSink::new("my sink", |_batch| Err("it is full".into()));
        Ok(Box::new(sink))
    });
    assert_eq!(pipeline.run().err().unwrap().to_string(), "my sink: it is full");
}

#[test]
fn events_are_read_once() {
    let events = OwnEvents::batches(departures().schema(), [departures().slice(0, 5)]);
    let (pipeline, ..) = collecting(Pipeline::new(flights()).events(events));
    pipeline.run().unwrap();
    let error = pipeline.run().err().unwrap().to_string();
    assert!(error.contains("they have been read by another run"), "{error}");
}

/// Makes sinks that collect.
fn into(collected: &Collected) -> SinkFactory {
    let collected = collected.clone();
    Arc::new(move |_worker, _schema| {
        let collected = collected.clone();
        let take = move |batch| {
            collected.take(batch);
            Ok(())
        };
        Ok(Box::new(FunctionSink::new("collected", take)))
    })
}

#[test]
fn a_limit_counts_over_batches_and_chunks() {
    let (mut job, events, limit) = (flights(), departures(), 1_234);
    job.epoch_rows_max = 100;
    let (predictions, letters) = (Collected::default(), Collected::default());
    let options = RunOptions {
        workers: 1,
        events: Some(OwnEvents::batches(events.schema(), batches())),
        sinks: OwnSinks {
            predictions: Some(into(&predictions)),
            dead_letters: Some(into(&letters)),
            drift: None,
        },
        without_drift: true,
        limit: Some(limit as u64),
        ..RunOptions::default()
    };
    let summary = replay(&Arc::new(job), &options).unwrap();
    assert_eq!(summary.account.read, limit as u64);
    let found: BTreeSet<String> = ids(&predictions.all()).into_iter().collect();
    assert_eq!(found, ids(&events.slice(0, limit)).into_iter().collect());
}

//! Each part of the core alone.

use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use driftline::sinks::json_lines::JsonLinesSink;
use driftline::sinks::parquet::ParquetSink;
use driftline_operators::core::requests::{TripSchemas, build_request};
use driftline_operators::exchange::{Route, shares};
use driftline_operators::features::trip::Errand;
use driftline_operators::gate::{Order, OrderGate};
use driftline_operators::sinks::Sink;

use crate::pass::{Worker, job};
use crate::{Measured, Turns};

const TURNS: usize = 2_000;
const ROWS_MAX: usize = 100_000;
/// Workers that rows are dealt to.
const WORKERS: usize = 4;

pub fn measure(rows: usize, measured: &mut Measured) -> Result<()> {
    let mut worker = Worker::new(job("trees")?)?;
    let events = worker.read(ROWS_MAX)?;
    let turns = TURNS.min(events.num_rows() / rows);
    let mut batches = Vec::new();
    for turn in 0..turns {
        let chunk = Worker::chunk(events.slice(turn * rows, rows), (turn * rows) as u64);
        batches.push(worker.intake.events.admit(chunk, i64::MIN, Duration::ZERO)?.rows);
    }
    gate(&worker, &batches, rows, measured)?;
    owner(&mut worker, &batches, rows, measured)?;
    exchange(&worker, &batches, rows, measured)?;
    sinks(&batches, rows, measured)
}

/// In and out of the gate, each batch as an epoch.
fn gate(
    worker: &Worker,
    batches: &[RecordBatch],
    rows: usize,
    measured: &mut Measured,
) -> Result<()> {
    let layout = &worker.core.features.layout;
    let mut gate = OrderGate::new(Order::Epoch, layout.order_columns(), layout.schema.clone());
    let mut turns = Turns::default();
    for batch in batches {
        turns.time(|| {
            gate.insert(std::slice::from_ref(batch))?;
            gate.release(i64::MAX)
        })?;
    }
    measured.insert(("gate", rows), turns.median());
    Ok(())
}

/// Windows, lookups, and the features made of their answers.
fn owner(
    worker: &mut Worker,
    batches: &[RecordBatch],
    rows: usize,
    measured: &mut Measured,
) -> Result<()> {
    let core = &mut worker.core;
    let (plan, layout) = (core.features.plan.clone(), core.features.layout.clone());
    let enriched = core.features.enriched.clone();
    let (mut windows, mut lookups, mut features) =
        (Turns::default(), Turns::default(), Turns::default());
    for batch in batches {
        let mut answers: Vec<ArrayRef> = Vec::new();
        for (is_window, turns) in [(true, &mut windows), (false, &mut lookups)] {
            turns.time(|| -> Result<()> {
                for (number, trip) in plan.trips.iter().enumerate() {
                    if matches!(trip.errand, Errand::Windows(_)) == is_window {
                        answers.extend(core.owner.ask_trip(number, trip, &layout, batch)?);
                    }
                }
                Ok(())
            })?;
        }
        // Windows come first among the trips of the flights.
        features.time(|| plan.append(batch, answers, &enriched))?;
    }
    measured.insert(("windows", rows), windows.median());
    measured.insert(("lookup", rows), lookups.median());
    measured.insert(("features", rows), features.median());
    Ok(())
}

/// Requests of the first trip, made and dealt to several owners.
fn exchange(
    worker: &Worker,
    batches: &[RecordBatch],
    rows: usize,
    measured: &mut Measured,
) -> Result<()> {
    let features = &worker.core.features;
    let trip = features.plan.trips.first().context("the flights ask owners")?;
    let schemas = TripSchemas::new(trip, &features.layout);
    let edge = schemas.to_owner();
    let mut turns = Turns::default();
    for batch in batches {
        turns.time(|| {
            let request = build_request(trip, &features.layout, &schemas.request, batch, 0, 0)?;
            shares(&edge.route, &request, WORKERS)
        })?;
    }
    measured.insert(("exchange, requests of a trip", rows), turns.median());
    let layout = &features.layout;
    let (partition, offset) = (layout.partition, layout.offset);
    let home = Route::KeyGroup { key: layout.id.context("an id")?, partition, offset };
    let mut turns = Turns::default();
    for batch in batches {
        turns.time(|| shares(&home, batch, WORKERS))?;
    }
    measured.insert(("exchange, rows to their homes", rows), turns.median());
    Ok(())
}

/// The rows themselves, as files.
fn sinks(batches: &[RecordBatch], rows: usize, measured: &mut Measured) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let schema = batches.first().context("there are rows")?.schema();
    let parquet = ParquetSink::create(folder.path().join("rows.parquet"), schema, &[], &[])?;
    let lines = JsonLinesSink::create(folder.path().join("rows.jsonl"), None)?;
    let sinks: [(&'static str, Box<dyn Sink>); 2] =
        [("sink, Parquet", Box::new(parquet)), ("sink, JSON lines", Box::new(lines))];
    for (case, mut sink) in sinks {
        let mut turns = Turns::default();
        for batch in batches {
            turns.time(|| sink.write(batch))?;
        }
        sink.finish()?;
        measured.insert((case, rows), turns.median());
    }
    Ok(())
}

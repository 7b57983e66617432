use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};

use super::*;
use crate::reports::Reports;

/// A sink that acknowledges and makes durable what it is told to.
#[derive(Clone, Default)]
struct Late(Rc<RefCell<LateState>>);

#[derive(Default)]
struct LateState {
    batches: usize,
    acknowledged: usize,
    rows: u64,
    /// That nobody has asked about.
    durable: u64,
    all_durable: u64,
    is_finished: bool,
}

impl Late {
    fn acknowledge(&self, batches: usize) {
        self.0.borrow_mut().acknowledged += batches;
    }

    fn make_durable(&self, rows: u64) {
        let mut state = self.0.borrow_mut();
        state.durable += rows;
        state.all_durable += rows;
    }
}

impl Sink for Late {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let mut state = self.0.borrow_mut();
        state.batches += 1;
        state.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.0.borrow_mut().durable)
    }

    fn unacknowledged(&mut self) -> usize {
        let state = self.0.borrow();
        state.batches - state.acknowledged
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let left = {
            let state = self.0.borrow();
            state.rows - state.all_durable
        };
        self.make_durable(left);
        self.0.borrow_mut().is_finished = true;
        Ok(())
    }
}

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn rows(count: u64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
    RecordBatch::try_from_iter([("n", numbers)]).unwrap()
}

fn run() -> Run {
    Run { reports: Reports::of(1), ..Run::new(Arc::new(Still)) }
}

fn outlets(outputs: &[Output], run: &Run) -> (Outlets, Vec<Late>) {
    let sinks: Vec<Late> = outputs.iter().map(|_| Late::default()).collect();
    let outlet = |(&output, sink): (&Output, &Late)| Outlet {
        output,
        schema: rows(0).schema(),
        sink: Box::new(sink.clone()),
        tally: match output {
            Output::Predictions => Tally::Rows(run.counters.clone()),
            _ => Tally::Nothing,
        },
    };
    (Outlets::new(outputs.iter().zip(&sinks).map(outlet).collect(), run), sinks)
}

#[test]
fn numbers_of_outputs_come_back() {
    for output in Output::ALL {
        assert_eq!(Output::try_from(u8::from(output)), Ok(output));
    }
    let behind = Output::ALL.len() as u8;
    assert_eq!(Output::try_from(behind), Err(behind));
}

#[test]
fn what_is_not_acknowledged_keeps_its_epoch_from_being_over_and_drift_does_not() {
    let run = run();
    let (mut outlets, sinks) = outlets(&[Output::Predictions, Output::Drift], &run);
    outlets.write(7, Output::Predictions, &rows(3)).unwrap();
    outlets.write(5, Output::Predictions, &rows(2)).unwrap();
    outlets.write(4, Output::Drift, &rows(9)).unwrap();
    sinks[1].acknowledge(1);
    outlets.tick().unwrap();
    assert_eq!(outlets.unacknowledged(), Some(5));
    sinks[0].make_durable(3);
    sinks[0].acknowledge(1);
    outlets.tick().unwrap();
    assert_eq!((outlets.unacknowledged(), run.counters.account().predictions), (Some(5), 3));
    sinks[0].make_durable(2);
    sinks[0].acknowledge(1);
    outlets.tick().unwrap();
    assert_eq!((outlets.unacknowledged(), run.counters.account().predictions), (None, 5));
    outlets.complete_before(Some(8));
    assert_eq!(outlets.durable_before(), 4);
    sinks[1].make_durable(8);
    outlets.tick().unwrap();
    assert_eq!(outlets.durable_before(), 4);
    sinks[1].make_durable(1);
    outlets.tick().unwrap();
    assert_eq!(outlets.durable_before(), 8);
}

#[test]
fn commits_of_a_job_without_drift_wait_for_no_epoch() {
    let run = run();
    let (mut outlets, _sinks) = outlets(&[Output::Predictions, Output::Alerts], &run);
    outlets.write(3, Output::Alerts, &rows(1)).unwrap();
    assert!(!outlets.hold_epochs() && outlets.holds_commits().is_none());
}

#[test]
fn an_output_that_nobody_wants_is_left_out() {
    let run = run();
    let (mut outlets, _sinks) = outlets(&[Output::Predictions], &run);
    outlets.write(3, Output::Alerts, &rows(1)).unwrap();
    assert_eq!((outlets.unacknowledged(), outlets.schema(Output::Alerts)), (None, None));
}

#[test]
fn the_end_makes_everything_durable_once() {
    let run = run();
    let (mut outlets, sinks) = outlets(&[Output::Predictions, Output::Drift], &run);
    outlets.write(3, Output::Predictions, &rows(5)).unwrap();
    outlets.write(3, Output::Drift, &rows(5)).unwrap();
    sinks.iter().for_each(|sink| sink.acknowledge(1));
    outlets.tick().unwrap();
    outlets.complete_before(None);
    assert_eq!((outlets.durable_before(), run.counters.account().predictions), (3, 0));
    outlets.finish().unwrap();
    assert!(sinks.iter().all(|sink| sink.0.borrow().is_finished));
    assert_eq!((outlets.durable_before(), run.counters.account().predictions), (u64::MAX, 5));
    outlets.finish().unwrap();
    outlets.tick().unwrap();
    assert_eq!(run.counters.account().predictions, 5);
}

/// What was written, batch by batch, beside what the outlets say.
struct Written {
    output: Output,
    epoch: u64,
    rows: u64,
    is_acknowledged: bool,
    durable: u64,
}

#[test]
fn as_a_list_of_all_batches_would_have_it() {
    const OUTPUTS: [Output; 4] =
        [Output::Predictions, Output::DeadLetters, Output::Alerts, Output::Drift];
    for seed in 0..100u64 {
        let mut state = seed;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let run = run();
        let (mut outlets, sinks) = outlets(&OUTPUTS, &run);
        let (mut written, mut complete): (Vec<Written>, u64) = (Vec::new(), 0);
        for step in 0..300 {
            let which = next(4) as usize;
            let output = OUTPUTS[which];
            match next(5) {
                0 | 1 => {
                    let (epoch, count) = (complete + next(5), next(4));
                    outlets.write(epoch, output, &rows(count)).unwrap();
                    let (is_acknowledged, durable) = (false, 0);
                    written.push(Written { output, epoch, rows: count, is_acknowledged, durable });
                }
                2 => {
                    let mut of = written.iter_mut().filter(|w| w.output == output);
                    if let Some(batch) = of.find(|w| !w.is_acknowledged) {
                        batch.is_acknowledged = true;
                        sinks[which].acknowledge(1);
                    }
                }
                3 => {
                    let mut left = next(6);
                    for batch in written.iter_mut().filter(|w| w.output == output) {
                        let more = left.min(batch.rows - batch.durable);
                        batch.durable += more;
                        left -= more;
                        sinks[which].make_durable(more);
                    }
                }
                _ => {
                    complete += next(3);
                    outlets.complete_before(Some(complete));
                }
            }
            outlets.tick().unwrap();
            let open = written.iter().filter(|w| !w.is_acknowledged);
            let lowest = open.map(|w| w.epoch).min();
            assert_eq!(outlets.unacknowledged(), lowest, "seed {seed}, step {step}");
            let holds = written.iter().filter(|w| match w.output {
                Output::Drift => w.durable < w.rows,
                output => output == Output::Alerts && !w.is_acknowledged,
            });
            let before = holds.map(|w| w.epoch).fold(complete, u64::min);
            assert_eq!(outlets.durable_before(), before, "seed {seed}, step {step}");
        }
    }
}

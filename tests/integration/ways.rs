//! The ways to run a graph that must all give the same, and running it.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use driftline_jobs::graph::{Behind, Outputs, outputs};
use driftline_operators::control::Turn;
use driftline_operators::core::finish::{Out, Work};
use driftline_operators::failure::Failure;
use driftline_operators::ingest::Source;
use driftline_operators::sinks::Output;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::worker::Worker;

use crate::record::{Recorded, record};
use crate::support::{Setting, layout};

/// A way to run a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One worker that does all in one operator.
    Fused,
    /// Workers in threads, with an operator for each part of the core.
    Threads(usize),
    /// The same, with bytes between the workers as between processes.
    Bytes(usize),
}

impl Way {
    pub fn is_split(self) -> bool {
        self != Way::Fused
    }

    pub fn workers(self) -> usize {
        match self {
            Way::Fused => 1,
            Way::Threads(workers) | Way::Bytes(workers) => workers,
        }
    }
}

/// Every way to run a job that must give the same.
pub fn ways() -> Vec<Way> {
    use Way::{Bytes, Fused, Threads};
    vec![Fused, Threads(1), Threads(2), Threads(3), Threads(4), Bytes(2), Bytes(4)]
}

pub fn config(way: Way) -> timely::Config {
    let communication = match way {
        Way::Fused => timely::CommunicationConfig::Process(1),
        Way::Threads(workers) => timely::CommunicationConfig::Process(workers),
        Way::Bytes(workers) => timely::CommunicationConfig::ProcessBinary(workers),
    };
    timely::Config { communication, worker: timely::WorkerConfig::default() }
}

/// Gives out enriched rows as they are.
pub struct PassOn;

impl Work for PassOn {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let Turn { epoch, .. } = turn;
        out.push(Out { epoch, output: Output::Features, rows });
        Ok(())
    }
}

/// Longer than any run of the tests takes, by far.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the graph up to the features into `recorded`, until it is done or has failed; `make_source`
/// gives each worker its share.
pub fn run_features(
    way: Way,
    setting: &Setting,
    recorded: &Recorded,
    name: &str,
    make_source: impl Fn(usize, usize) -> Box<dyn Source> + Send + Sync + 'static,
) {
    let (setting, recorded, name) = (setting.clone(), recorded.clone(), name.to_owned());
    let guards = timely::execute(config(way), move |worker| {
        let probe = ProbeHandle::new();
        let source = make_source(worker.index(), worker.peers());
        worker.dataflow::<u64, _, _>(|scope| {
            let schema = setting.plan().enriched_schema(&layout());
            let behind = Behind { work: Box::new(PassOn), drift: None, gathered: None };
            let events = setting.events(source, way, scope.index());
            let Outputs { rows, end } = outputs(scope, events, behind, probe.clone()).unwrap();
            end.without_sinks(&probe);
            for rows in rows {
                let wanted = vec![(Output::Features, schema.clone(), recorded.clone())];
                record(rows, wanted).probe_with(&probe);
            }
        });
        work(worker, &probe, &setting.failure, &name);
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
}

/// Works until the dataflow behind `probe` is done, or has failed.
pub fn work(worker: &mut Worker, probe: &ProbeHandle<u64>, failure: &Failure, name: &str) {
    let started = Instant::now();
    while !probe.done() && !failure.is_set() {
        worker.step_or_park(Some(Duration::from_millis(1)));
        assert!(started.elapsed() < PATIENCE, "{name}: it does not come to an end");
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

//! No operator keeps the others of its worker waiting for long.

use std::sync::Arc;
use std::time::Duration;

use driftline::run::options::RunOptions;
use driftline::run::replay;
use driftline_operators::clock::Clock;
use driftline_operators::turns::Turns;

use crate::support::{departures, flights, write_parquet};

/// The CPU time of the thread that asks: what else the machine does is not in it.
struct ThreadTime;

impl Clock for ThreadTime {
    fn now(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is written to a place of our own.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// What a turn may take.
const TURN_MAX: Duration = Duration::from_millis(5);

#[test]
fn turns_are_short() {
    let folder = tempfile::tempdir().unwrap();
    let parquet = folder.path().join("departures.parquet");
    write_parquet(&parquet, &departures());
    let lines = folder.path().join("departures.jsonl");
    let file = std::fs::File::create(&lines).unwrap();
    let mut writer = arrow::json::LineDelimitedWriter::new(file);
    writer.write(&departures()).unwrap();
    writer.finish().unwrap();
    for (input, workers) in [(&parquet, 1), (&parquet, 2), (&lines, 1), (&lines, 2)] {
        let turns = Turns::of(Arc::new(ThreadTime));
        let options = RunOptions {
            workers,
            input: Some(input.clone()),
            out: Some(folder.path().join("out")),
            overwrite: true,
            turns: Some(turns.clone()),
            ..RunOptions::default()
        };
        replay(&Arc::new(flights()), &options).unwrap();
        eprintln!("{} {workers}: {:?}", input.display(), turns.longest());
        for (operator, took) in turns.longest() {
            let name = format!("{}, {workers} workers", input.display());
            assert!(took <= 2 * TURN_MAX, "{name}: {operator:?} took {took:?}");
        }
    }
}

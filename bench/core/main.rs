//! What each part of a worker's core takes alone, over the flights job: in batches and for one row.
//! `scripts/bench.sh core`
//!
//! Each line is the median over many turns; a turn is a batch. With `--json` it is a JSON object of
//! ns a row by case, for programs.

mod parts;
mod pass;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

/// As the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a turn.
const SIZES: [usize; 2] = [1, 1_024];

/// The median duration of a turn in ns, by case and rows of a turn.
pub type Measured = BTreeMap<(&'static str, usize), f64>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let as_json = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--json"] => true,
        other => bail!("unknown: {other:?}; there is --json"),
    };
    let mut measured = Measured::new();
    for rows in SIZES {
        pass::measure(rows, &mut measured)?;
        parts::measure(rows, &mut measured)?;
    }
    if as_json {
        let named = measured
            .iter()
            .map(|((case, rows), ns)| (format!("{case}, {rows} rows"), ns / *rows as f64));
        println!("{}", serde_json::to_string(&named.collect::<BTreeMap<_, _>>())?);
        return Ok(());
    }
    println!("| case | rows a turn | µs a turn | ns a row |\n| --- | --- | --- | --- |");
    for ((case, rows), ns) in &measured {
        println!("| {case} | {rows} | {:.2} | {:.0} |", ns / 1e3, ns / *rows as f64);
    }
    Ok(())
}

/// The durations of turns in ns.
#[derive(Default)]
pub struct Turns(Vec<f64>);

impl Turns {
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.0.push(started.elapsed().as_nanos() as f64);
        done
    }

    /// Of the second half: the first warms up.
    pub fn median(mut self) -> f64 {
        let mut measured = self.0.split_off(self.0.len() / 2);
        measured.sort_unstable_by(f64::total_cmp);
        measured.get(measured.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

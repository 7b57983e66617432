//! Where time goes, by stage.

use std::time::{Duration, Instant};

/// A clock for each stage, or none at all.
pub struct Stages {
    on: bool,
    stages: Vec<(&'static str, Duration)>,
}

impl Stages {
    pub fn new(on: bool) -> Self {
        Stages { on, stages: Vec::new() }
    }

    /// Does the work, as a part of a stage.
    pub fn time<T>(&mut self, stage: &'static str, work: impl FnOnce() -> T) -> T {
        if !self.on {
            return work();
        }
        let started = Instant::now();
        let done = work();
        let took = started.elapsed();
        match self.stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += took,
            None => self.stages.push((stage, took)),
        }
        done
    }

    /// ns an event of each stage, of what is in none of them, and of all.
    pub fn per_event(&self, events: f64, wall_s: f64) -> Vec<(String, f64)> {
        if !self.on {
            return Vec::new();
        }
        let ns = |seconds: f64| seconds * 1e9 / events;
        let known = |(name, took): &(&str, Duration)| ((*name).to_owned(), ns(took.as_secs_f64()));
        let mut rows: Vec<(String, f64)> = self.stages.iter().map(known).collect();
        let others = ns(wall_s) - rows.iter().map(|(_, ns)| ns).sum::<f64>();
        rows.push(("start, end and what is between".to_owned(), others));
        rows.push(("all".to_owned(), ns(wall_s)));
        rows
    }
}

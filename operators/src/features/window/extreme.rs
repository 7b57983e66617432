//! The running minimum or maximum.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::room::trim_queue;

/// The least or greatest of the values inside, in total order ([`f64::total_cmp`]), so that −0.0 and
/// 0.0 do not depend on which came first.
///
/// A value is kept only until a later row has one as extreme or more, as it can then never be the
/// answer again: the values kept are in order of time, each less extreme than the one before. That
/// is the ascending minima algorithm (R. Harter, 2001). A row in order costs amortised O(1).
pub(super) struct Extreme {
    /// `Less` for a minimum, `Greater` for a maximum.
    wanted: Ordering,
    /// Time and value.
    candidates: VecDeque<(i64, f64)>,
}

impl Extreme {
    pub(super) fn least() -> Self {
        Extreme { wanted: Ordering::Less, candidates: VecDeque::new() }
    }

    pub(super) fn greatest() -> Self {
        Extreme { wanted: Ordering::Greater, candidates: VecDeque::new() }
    }

    /// Adds the value of a row at `time`, which may be behind the others.
    pub(super) fn add(&mut self, time: i64, value: f64) {
        let is_later = |&(last, _): &(i64, f64)| last > time;
        let mut at = match self.candidates.back() {
            Some(last) if is_later(last) => self.candidates.partition_point(|c| !is_later(c)),
            _ => self.candidates.len(),
        };
        if self.candidates.get(at).is_some_and(|&(_, later)| !self.beats(value, later)) {
            return;
        }
        let end = at;
        while at > 0 && !self.beats(self.candidates[at - 1].1, value) {
            at -= 1;
        }
        if end == self.candidates.len() {
            self.candidates.truncate(at);
            self.candidates.push_back((time, value));
        } else {
            self.candidates.drain(at..end);
            self.candidates.insert(at, (time, value));
        }
    }

    /// Takes out all values of rows at or before `time`.
    pub(super) fn remove_up_to(&mut self, time: i64) {
        while self.candidates.front().is_some_and(|&(first, _)| first <= time) {
            self.candidates.pop_front();
        }
        trim_queue(&mut self.candidates);
    }

    pub(super) fn value(&self) -> Option<f64> {
        self.candidates.front().map(|&(_, value)| value)
    }

    /// The most extreme of the given values.
    pub(super) fn scan(&self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(|best, value| if self.beats(value, best) { value } else { best })
    }

    fn beats(&self, a: f64, b: f64) -> bool {
        a.total_cmp(&b) == self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::window::naive::Random;

    #[test]
    fn equals_a_scan_whatever_the_order() {
        for seed in 1..=50 {
            let mut random = Random::new(seed);
            let (mut least, mut greatest) = (Extreme::least(), Extreme::greatest());
            let mut inside: Vec<(i64, f64)> = Vec::new();
            for step in 0..300 {
                let time = step / 3 - random.below(20) as i64;
                let start = step / 3 - 25;
                let value = [-0.0, 0.0, 1.0, -1.0][random.below(4) as usize] * (step % 5) as f64;
                inside.push((time, value));
                inside.retain(|&(time, _)| time > start);
                for extreme in [&mut least, &mut greatest] {
                    extreme.add(time, value);
                    extreme.remove_up_to(start);
                }
                let values = || inside.iter().map(|&(_, value)| value);
                let expected = [values().min_by(f64::total_cmp), values().max_by(f64::total_cmp)];
                let found = [least.value(), greatest.value()];
                assert_eq!(
                    found.map(|v| v.map(f64::to_bits)),
                    expected.map(|v| v.map(f64::to_bits)),
                    "seed {seed}, step {step}"
                );
            }
        }
    }

    #[test]
    fn what_can_never_be_the_answer_is_not_kept() {
        let mut greatest = Extreme::greatest();
        (0..1000).for_each(|time| greatest.add(time, time as f64));
        assert_eq!(greatest.candidates.len(), 1);
        (0..1000).for_each(|time| greatest.add(1000 + time, 500.0));
        assert_eq!(greatest.candidates.len(), 2);
    }
}

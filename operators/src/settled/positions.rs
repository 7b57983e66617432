//! How far a partition had been read by which epoch.

use std::collections::VecDeque;

/// Epochs of a partition that are told apart at most; with more of them neighbours become one.
const EPOCHS_MAX: usize = 1_024;

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset behind the last record before it.
    pub next: u64,
    /// The highest event time (ms) of the records before it; [`i64::MIN`] if there is none.
    pub highest: i64,
}

/// The places that a partition had been read to by the end of each epoch, the oldest of which are
/// forgotten as they are asked for.
#[derive(Debug)]
pub struct Positions {
    /// As of the last epoch that was asked for.
    reached: Position,
    /// Of later epochs, in order.
    later: VecDeque<(u64, Position)>,
}

impl Positions {
    pub fn new(first: Position) -> Self {
        Positions { reached: first, later: VecDeque::new() }
    }

    /// Records of `epoch` were read, and the partition with them to `position`.
    pub fn read(&mut self, epoch: u64, position: Position) {
        match self.later.back_mut() {
            Some((last, at)) if *last >= epoch => *at = position,
            _ => self.later.push_back((epoch, position)),
        }
        if self.later.len() >= 2 * EPOCHS_MAX {
            // Of two the later one stays: it says less than both, and nothing wrong.
            let mut is_later = true;
            self.later.retain(|_| {
                is_later = !is_later;
                is_later
            });
        }
    }

    /// What was read in the epochs from `from` on went on under `to`.
    pub fn together(&mut self, from: u64, to: u64) {
        let mut last = None;
        let inside = |(epoch, _): &mut (u64, Position)| (from..=to).contains(epoch);
        while let Some((_, position)) = self.later.pop_back_if(inside) {
            last.get_or_insert(position);
        }
        self.later.extend(last.map(|position| (to, position)));
    }

    /// The place as of the epochs before `epoch`, which never falls.
    pub fn before(&mut self, epoch: u64) -> Position {
        while let Some((_, position)) = self.later.pop_front_if(|(of, _)| *of < epoch) {
            self.reached = position;
        }
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: u64) -> Position {
        Position { next, highest: next as i64 * 10 }
    }

    #[test]
    fn what_went_together_is_of_the_last_epoch() {
        let mut positions = Positions::new(at(3));
        for (epoch, next) in [(4, 10), (6, 20), (7, 30), (9, 40)] {
            positions.read(epoch, at(next));
        }
        positions.together(6, 9);
        assert_eq!(positions.before(4), at(3));
        assert_eq!(positions.before(9), at(10));
        assert_eq!(positions.before(10), at(40));
    }

    /// All that was read: the epoch it went under, and the place behind it.
    #[test]
    fn as_a_list_of_all_reads_would_have_it() {
        for seed in 0..200u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let (mut positions, mut all) = (Positions::new(at(0)), vec![(0, at(0))]);
            let (mut epoch, mut read, mut asked) = (1, 0, 0);
            for step in 0..300 {
                let from = epoch;
                let first = all.len();
                for _ in 0..next(4) {
                    read += 1 + next(50);
                    positions.read(epoch, at(read));
                    all.push((epoch, at(read)));
                    epoch += 1 + next(3);
                }
                let to = all[all.len() - 1].0;
                if all.len() > first + 1 && next(2) == 0 {
                    positions.together(from, to);
                    all[first..].iter_mut().for_each(|(of, _)| *of = to);
                }
                asked = (asked + next(6)).min(epoch);
                let wanted = all.iter().rev().find(|(of, _)| *of < asked.max(1)).unwrap().1;
                assert_eq!(positions.before(asked), wanted, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn nothing_grows_while_nobody_asks_and_no_place_is_too_far() {
        let mut positions = Positions::new(at(0));
        for epoch in 1..50_000 {
            positions.read(epoch, at(epoch));
            assert!(positions.later.len() < 2 * EPOCHS_MAX);
        }
        for epoch in (1..50_000).step_by(97) {
            assert!(positions.before(epoch).next < epoch);
        }
        assert_eq!(positions.before(50_000), at(49_999));
    }
}

//! How many dead letters there are by reason, and the first of each.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};

use crate::dead_letter::Reason;
use crate::layout::{OFFSET, PARTITION};

/// Dead letters by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<Reason, OfReason>);

/// The dead letters of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfReason {
    pub rows: u64,
    /// The first by where it came from: the same, whoever saw it first.
    pub first: First,
}

/// A dead letter, and what was wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct First {
    pub partition: u32,
    pub offset: u64,
    pub detail: String,
}

impl Reasons {
    /// Of a batch of [`dead_letter::SCHEMA`](crate::dead_letter::SCHEMA); letters of a batch without a
    /// column of it are of no reason.
    pub fn of(letters: &RecordBatch) -> Self {
        let mut all = Reasons::default();
        let text = |name| letters.column_by_name(name)?.as_string_opt::<i32>();
        let partitions = letters.column_by_name(PARTITION);
        let partitions = partitions.and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let offsets = letters.column_by_name(OFFSET);
        let offsets = offsets.and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let (Some(reasons), Some(details)) = (text("reason"), text("detail")) else { return all };
        let (Some(partitions), Some(offsets)) = (partitions, offsets) else { return all };
        for row in 0..reasons.len() {
            let Some(reason) = Reason::named(reasons.value(row)) else { continue };
            all.count(reason, 1, (partitions.value(row), offsets.value(row)), details.value(row));
        }
        all
    }

    /// One more.
    pub fn add(&mut self, reason: Reason, first: First) {
        self.count(reason, 1, (first.partition, first.offset), &first.detail);
    }

    /// `rows` more, the first of which is at `place`.
    pub(crate) fn count(&mut self, reason: Reason, rows: u64, place: (u32, u64), detail: &str) {
        let first = || First { partition: place.0, offset: place.1, detail: detail.to_owned() };
        match self.0.entry(reason) {
            Entry::Vacant(none) => {
                none.insert(OfReason { rows, first: first() });
            }
            Entry::Occupied(mut some) => {
                let found = some.get_mut();
                found.rows += rows;
                let earliest =
                    (found.first.partition, found.first.offset, found.first.detail.as_str());
                if (place.0, place.1, detail) < earliest {
                    found.first = first();
                }
            }
        }
    }

    pub fn merge(&mut self, others: &Reasons) {
        for (reason, OfReason { rows, first }) in &others.0 {
            self.count(*reason, *rows, (first.partition, first.offset), &first.detail);
        }
    }

    /// Of all reasons.
    pub fn rows(&self) -> u64 {
        self.0.values().map(|of| of.rows).sum()
    }

    /// Of one.
    pub fn rows_of(&self, reason: Reason) -> u64 {
        self.0.get(&reason).map_or(0, |of| of.rows)
    }

    /// The most frequent first.
    pub fn by_rows(&self) -> Vec<(Reason, &OfReason)> {
        let mut all: Vec<_> = self.0.iter().map(|(reason, of)| (*reason, of)).collect();
        all.sort_by_key(|(reason, of)| (std::cmp::Reverse(of.rows), reason.name()));
        all
    }
}

/// Dead letters that were written and are not durable yet, in the order in which they were written.
#[derive(Debug, Default)]
pub struct Undurable {
    batches: VecDeque<(u64, Reasons)>,
    /// Rows of the first batch that are durable.
    durable: u64,
}

impl Undurable {
    pub fn write(&mut self, letters: Reasons) {
        self.batches.push_back((letters.rows(), letters));
    }

    /// `rows` more are durable. Those of batches that are so as a whole now.
    pub fn durable(&mut self, rows: u64) -> Reasons {
        self.durable += rows;
        let mut found = Reasons::default();
        while let Some((_, letters)) = self.batches.pop_front_if(|(rows, _)| *rows <= self.durable)
        {
            self.durable -= letters.rows();
            found.merge(&letters);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(partition: u32, offset: u64) -> First {
        First { partition, offset, detail: format!("{partition}/{offset}") }
    }

    fn letters(of: &[(Reason, u32, u64)]) -> Reasons {
        let mut all = Reasons::default();
        of.iter().for_each(|(reason, partition, at)| all.add(*reason, first(*partition, *at)));
        all
    }

    #[test]
    fn the_first_is_that_of_the_lowest_place_whoever_is_merged_first() {
        let one =
            letters(&[(Reason::TooLate, 1, 7), (Reason::TooLate, 1, 2), (Reason::Late, 0, 5)]);
        let other = letters(&[(Reason::TooLate, 0, 9)]);
        let mut ways = [one.clone(), other.clone()];
        ways[0].merge(&other);
        ways[1].merge(&one);
        assert_eq!(ways[0], ways[1]);
        let found: Vec<_> =
            ways[0].by_rows().into_iter().map(|(r, of)| (r, of.rows, of.first.clone())).collect();
        assert_eq!(found, [(Reason::TooLate, 3, first(0, 9)), (Reason::Late, 1, first(0, 5))]);
        assert_eq!((ways[0].rows(), ways[0].rows_of(Reason::DecodeFailed)), (4, 0));
    }

    #[test]
    fn letters_count_when_their_batch_is_durable() {
        let mut written = Undurable::default();
        written.write(letters(&[(Reason::Late, 0, 1), (Reason::TooLate, 0, 2)]));
        written.write(letters(&[(Reason::Late, 0, 3)]));
        assert_eq!(written.durable(1).rows(), 0);
        assert_eq!(written.durable(1), letters(&[(Reason::Late, 0, 1), (Reason::TooLate, 0, 2)]));
        assert_eq!(written.durable(1), letters(&[(Reason::Late, 0, 3)]));
        assert_eq!(written.durable(0).rows(), 0);
    }

    #[test]
    fn reasons_are_known_by_their_names() {
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.name()), Some(reason));
        }
        assert_eq!(Reason::named("boredom"), None);
    }
}

//! How many rows wait in the gate of a home, as other workers are told.

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::ingest::FlowBounds;
use crate::layout::EventLayout;
use crate::settled::reader_of;
use crate::warm_up::WarmUp;

/// Into how many steps a bound is divided, of all homes together: a home tells of a change of less than
/// its share of a step to nobody.
const STEPS: u64 = 8;

/// Rows that wait in the order gate of a home, for one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRows {
    /// All of them.
    pub rows: u64,
    /// Those that the worker has read, without what is in no account.
    pub yours: u64,
    /// Bytes of memory that all of them hold on to.
    pub bytes: u64,
}

/// The account that a home keeps of its gate for others.
///
/// They are told of changes that matter, which takes no notice at all where few rows wait: what they
/// know of all homes together is right to within an eighth of either bound, and to the row where there
/// is one worker or a bound is smaller than sixteen rows a home.
pub struct GateTally {
    workers: usize,
    rows: u64,
    bytes: u64,
    /// By the worker that has read them.
    by_reader: Vec<i64>,
    /// By worker.
    told: Vec<GateRows>,
    /// From which difference on a worker is told.
    step: GateRows,
}

impl GateTally {
    /// Of a home that is one of `workers`, each with these bounds.
    pub fn new(workers: usize, bounds: &FlowBounds) -> Self {
        let step = |bound: u64| match workers {
            // It tells itself.
            1 => 1,
            _ => (bound / (STEPS * workers as u64)).max(1),
        };
        GateTally {
            workers,
            rows: 0,
            bytes: 0,
            by_reader: vec![0; workers],
            told: vec![GateRows::default(); workers],
            step: GateRows {
                rows: step(bounds.gate_rows_max),
                yours: step(bounds.rows_in_flight_max),
                bytes: step(bounds.gate_bytes_max),
            },
        }
    }

    /// Rows wait from now on.
    pub fn add(&mut self, rows: &RecordBatch, warm_up: &WarmUp, layout: &EventLayout) {
        self.rows += rows.num_rows() as u64;
        self.count(rows, warm_up, layout, 1);
    }

    /// Rows wait no longer.
    pub fn remove(&mut self, rows: &RecordBatch, warm_up: &WarmUp, layout: &EventLayout) {
        self.rows -= rows.num_rows() as u64;
        self.count(rows, warm_up, layout, -1);
    }

    /// So many bytes of memory are held by the rows that wait.
    pub fn set_bytes(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    fn count(&mut self, rows: &RecordBatch, warm_up: &WarmUp, layout: &EventLayout, by: i64) {
        let scored = warm_up.scored(rows, layout);
        for (row, &partition) in layout.partitions(rows).values().iter().enumerate() {
            if scored.as_ref().is_none_or(|scored| scored.value(row)) {
                self.by_reader[reader_of(partition, self.workers)] += by;
            }
        }
    }

    /// What is to be told, by worker, and is taken to be told.
    pub fn news(&mut self) -> impl Iterator<Item = (usize, GateRows)> {
        let GateTally { rows, bytes, by_reader, told, step, .. } = self;
        let (rows, bytes, step) = (*rows, *bytes, *step);
        told.iter_mut().zip(by_reader).enumerate().filter_map(move |(worker, (told, yours))| {
            let now = GateRows { rows, yours: (*yours).max(0) as u64, bytes };
            let is_far = told.rows.abs_diff(now.rows) >= step.rows
                || told.yours.abs_diff(now.yours) >= step.yours
                || told.bytes.abs_diff(now.bytes) >= step.bytes;
            is_far.then(|| {
                *told = now;
                (worker, now)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::layout::CameAs;

    fn layout() -> EventLayout {
        let time = DataType::Int64;
        let schema = Schema::new(vec![Field::new("t", time, true)]);
        EventLayout::new(&schema, None, None, CameAs::Columns)
    }

    /// Rows of partitions, each at offset 10.
    fn rows(partitions: &[u32]) -> RecordBatch {
        let layout = layout();
        let columns = layout.schema.fields().iter().enumerate().map(|(at, field)| -> ArrayRef {
            let count = partitions.len();
            match at {
                _ if at == layout.partition => {
                    Arc::new(arrow::array::UInt32Array::from(partitions.to_vec()))
                }
                _ if at == layout.offset => Arc::new(UInt64Array::from_value(10, count)),
                _ if field.data_type() == &DataType::Boolean => {
                    Arc::new(arrow::array::BooleanArray::from(vec![false; count]))
                }
                _ => Arc::new(Int64Array::from_value(1, count)),
            }
        });
        RecordBatch::try_new(layout.schema.clone(), columns.collect()).unwrap()
    }

    fn bounds(gate_rows_max: u64, rows_in_flight_max: u64) -> FlowBounds {
        FlowBounds {
            epochs_in_flight_max: 1,
            rows_in_flight_max,
            gate_rows_max,
            gate_bytes_max: 800,
            bytes_in_flight_max: u64::MAX,
            partition_skew_max_ms: None,
            gather_for: None,
        }
    }

    fn told(rows: u64, yours: u64) -> GateRows {
        GateRows { rows, yours, bytes: 0 }
    }

    #[test]
    fn each_worker_hears_of_all_rows_and_of_those_it_has_read() {
        let mut tally = GateTally::new(2, &bounds(10, 10));
        let (layout, none) = (layout(), WarmUp::none());
        tally.add(&rows(&[0, 1, 2, 3, 4]), &none, &layout);
        assert_eq!(tally.news().collect::<Vec<_>>(), [(0, told(5, 3)), (1, told(5, 2))]);
        assert_eq!(tally.news().count(), 0);
        // Rows of partition 2 are in no account.
        let warm_up = WarmUp { first_offsets: vec![0, 0, 11].into(), ..WarmUp::none() };
        tally.add(&rows(&[2, 2]), &warm_up, &layout);
        assert_eq!(tally.news().collect::<Vec<_>>(), [(0, told(7, 3)), (1, told(7, 2))]);
        tally.remove(&rows(&[1, 2]), &warm_up, &layout);
        assert_eq!(tally.news().collect::<Vec<_>>(), [(0, told(5, 3)), (1, told(5, 1))]);
        // A sixteenth of the bound: the share of one of two homes of an eighth.
        tally.set_bytes(49);
        assert_eq!(tally.news().count(), 0);
        tally.set_bytes(50);
        let with_bytes = |yours| GateRows { bytes: 50, ..told(5, yours) };
        assert_eq!(tally.news().collect::<Vec<_>>(), [(0, with_bytes(3)), (1, with_bytes(1))]);
    }

    #[test]
    fn what_is_known_of_all_homes_is_right_to_within_an_eighth_of_either_bound() {
        const WORKERS: usize = 3;
        for seed in 0..50u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let bounds = bounds(10 + next(500), 10 + next(200));
            let mut homes = [(); WORKERS].map(|()| GateTally::new(WORKERS, &bounds));
            let mut waiting: [Vec<u32>; WORKERS] = Default::default();
            let mut known = [[GateRows::default(); WORKERS]; WORKERS];
            let (layout, none) = (layout(), WarmUp::none());
            let (mut changes, mut notices) = (0, 0);
            for step in 0..300 {
                let home = next(WORKERS as u64) as usize;
                let count = next(20) as usize;
                changes += WORKERS;
                if next(2) == 0 {
                    let came: Vec<u32> = (0..count).map(|_| next(7) as u32).collect();
                    homes[home].add(&rows(&came), &none, &layout);
                    waiting[home].extend(came);
                } else {
                    let count = count.min(waiting[home].len());
                    let left: Vec<u32> = waiting[home].drain(..count).collect();
                    homes[home].remove(&rows(&left), &none, &layout);
                }
                for (worker, rows) in homes[home].news() {
                    known[worker][home] = rows;
                    notices += 1;
                }
                for (worker, known) in known.iter().enumerate() {
                    let what = format!("seed {seed}, step {step}, worker {worker}");
                    let all = waiting.iter().map(Vec::len).sum::<usize>() as u64;
                    let mine =
                        waiting.iter().flatten().filter(|of| **of as usize % WORKERS == worker);
                    let mine = mine.count() as u64;
                    let rows: u64 = known.iter().map(|of| of.rows).sum();
                    let yours: u64 = known.iter().map(|of| of.yours).sum();
                    assert!(rows.abs_diff(all) <= bounds.gate_rows_max / STEPS, "{what}");
                    assert!(yours.abs_diff(mine) <= bounds.rows_in_flight_max / STEPS, "{what}");
                }
            }
            assert!(notices < changes, "seed {seed}");
        }
    }
}

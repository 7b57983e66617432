//! Which records of a partition are settled: their prediction, with all alerts of it, or their dead
//! letter is acknowledged, or they were skipped. What lies before the first that is not need never be
//! scored again; whether it need be read again depends on what else of its epoch is durable, too.

mod positions;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{UInt32Type, UInt64Type};

use self::positions::{Position, Positions};
use crate::admit::END_OF_TIME;
use crate::chunk::Chunk;
use crate::layout::{OFFSET, PARTITION};

/// The records of a run's partitions, shared by its workers. Of partitions that it does not know,
/// and where it knows none, nothing is kept.
#[derive(Clone, Default)]
pub struct Settled(Option<Arc<Mutex<BTreeMap<u32, Records>>>>);

/// How far the offsets of a partition may be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committable {
    pub partition: u32,
    pub offset: u64,
    /// The highest event time (ms) of the records before `offset`; [`i64::MIN`] if there is none.
    pub highest: i64,
    /// Whether it is because records are not settled that it is no more.
    pub is_settled_to: bool,
}

impl Settled {
    /// Keeps account of partitions, given by number and by the offset of the first record that
    /// counts.
    pub fn of(partitions: impl IntoIterator<Item = (u32, u64)>) -> Self {
        Self::behind(i64::MIN, partitions)
    }

    /// The same, where records before these have event times of up to `highest` (ms).
    pub fn behind(highest: i64, partitions: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let records = partitions.into_iter();
        let records = records.map(|(partition, next)| (partition, Records::new(next, highest)));
        Settled(Some(Arc::new(Mutex::new(records.collect()))))
    }

    fn records(&self) -> Option<MutexGuard<'_, BTreeMap<u32, Records>>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps account of one more partition, from its beginning.
    pub fn joined(&self, partition: u32) {
        if let Some(mut records) = self.records() {
            records.entry(partition).or_insert_with(|| Records::new(0, i64::MIN));
        }
    }

    /// The records of a chunk have been read; chunks of a partition come in order. `times`: the event
    /// times (ms) of its rows, null where a row has none that counts.
    pub fn read(&self, chunk: &Chunk, times: &Int64Array) {
        let Some(mut records) = self.records() else { return };
        let Some(records) = records.get_mut(&chunk.partition) else { return };
        let offsets = if chunk.undecoded.is_empty() {
            chunk.offsets.values().to_vec()
        } else {
            let undecoded = chunk.undecoded.iter().map(|record| record.offset);
            let mut offsets: Vec<u64> =
                chunk.offsets.values().iter().copied().chain(undecoded).collect();
            offsets.sort_unstable();
            offsets
        };
        let times = EventTimes { offsets: chunk.offsets.clone(), times: times.clone() };
        records.read(chunk.epoch, offsets, times);
    }

    /// What was read in the epochs from `from` on by whoever read that of `to` went on under `to`.
    pub fn together(&self, from: u64, to: u64) {
        let Some(mut records) = self.records() else { return };
        records.values_mut().for_each(|records| records.positions.together(from, to));
    }

    /// Records of a partition are settled.
    pub fn settle(&self, partition: u32, offsets: impl IntoIterator<Item = u64>) {
        if let Some(mut records) = self.records()
            && let Some(records) = records.get_mut(&partition)
        {
            offsets.into_iter().for_each(|offset| records.settle(offset));
        }
    }

    /// The records that rows of a batch came from are settled; it has the columns [`PARTITION`] and
    /// [`OFFSET`], null where a row is of no record.
    pub fn settle_rows(&self, batch: &RecordBatch) {
        self.of_rows(batch, Records::settle);
    }

    /// The records that rows of a batch came from are not settled before they have been called so once
    /// more for each of these rows.
    pub fn hold_rows(&self, batch: &RecordBatch) {
        self.of_rows(batch, Records::hold);
    }

    fn of_rows(&self, batch: &RecordBatch, tell: fn(&mut Records, u64)) {
        let Some(mut records) = self.records() else { return };
        let columns = (batch.column_by_name(PARTITION), batch.column_by_name(OFFSET));
        let (Some(partitions), Some(offsets)) = columns else { return };
        let partitions = partitions.as_primitive::<UInt32Type>();
        for (row, &offset) in offsets.as_primitive::<UInt64Type>().values().iter().enumerate() {
            if partitions.is_valid(row)
                && let Some(records) = records.get_mut(&partitions.value(row))
            {
                tell(records, offset);
            }
        }
    }

    /// By partition, the offset before which all is settled.
    pub fn offsets(&self) -> Vec<(u32, u64)> {
        let records = self.records();
        let records = records.iter().flat_map(|records| records.iter());
        records.map(|(&partition, records)| (partition, records.settled_to())).collect()
    }

    /// How far offsets may be committed where all else is durable of the epochs before `durable`.
    pub fn committable(&self, durable: u64) -> Vec<Committable> {
        let Some(mut records) = self.records() else { return Vec::new() };
        let records = records.iter_mut();
        records.map(|(&partition, records)| records.committable(partition, durable)).collect()
    }

    /// Records that were read and are not settled.
    pub fn unsettled(&self) -> u64 {
        let records = self.records();
        records.iter().flat_map(|records| records.values()).map(|records| records.left).sum()
    }
}

/// The records of one partition.
#[derive(Debug)]
struct Records {
    /// Behind the last one read.
    read_to: Position,
    positions: Positions,
    /// With at least one record that is not settled, in order.
    pieces: VecDeque<Piece>,
    /// Records of all pieces that are not settled.
    left: u64,
    /// By offset, how many more times a record is called settled before it is.
    held: HashMap<u64, u32>,
}

/// Records that were read together.
#[derive(Debug)]
struct Piece {
    /// In order.
    offsets: Vec<u64>,
    /// A bit for each.
    settled: Vec<u64>,
    left: usize,
    /// The highest event time (ms) of the records before.
    highest_before: i64,
    times: EventTimes,
}

/// The event times (ms) of records that were read together.
#[derive(Debug)]
struct EventTimes {
    /// Those of the rows, in order.
    offsets: UInt64Array,
    times: Int64Array,
}

impl EventTimes {
    /// The highest of the records before `offset`.
    fn highest_before(&self, offset: u64) -> Option<i64> {
        let rows = self.offsets.values().partition_point(|&of| of < offset);
        let times = self.times.slice(0, rows.min(self.times.len()));
        // No record can be at the end of time.
        times.iter().flatten().filter(|&time| time != END_OF_TIME).max()
    }
}

impl Piece {
    fn position(&self, offset: u64) -> Option<usize> {
        // Nearly always there are no gaps.
        let guess = offset.checked_sub(*self.offsets.first()?)? as usize;
        match self.offsets.get(guess) {
            Some(&there) if there == offset => Some(guess),
            _ => self.offsets.binary_search(&offset).ok(),
        }
    }

    fn is_settled(&self, position: usize) -> bool {
        self.settled[position / 64] >> (position % 64) & 1 == 1
    }

    /// The offset of the first record that is not settled.
    fn first_left(&self) -> Option<u64> {
        let word = self.settled.iter().position(|word| *word != u64::MAX)?;
        let position = word * 64 + self.settled[word].trailing_ones() as usize;
        self.offsets.get(position).copied()
    }
}

impl Records {
    fn new(next: u64, highest: i64) -> Self {
        let first = Position { next, highest };
        Records {
            read_to: first,
            positions: Positions::new(first),
            pieces: VecDeque::new(),
            left: 0,
            held: HashMap::new(),
        }
    }

    fn read(&mut self, epoch: u64, mut offsets: Vec<u64>, times: EventTimes) {
        let highest_before = self.read_to.highest;
        let highest = times.highest_before(u64::MAX).unwrap_or(i64::MIN);
        self.read_to.highest = highest_before.max(highest);
        let before = offsets.partition_point(|&offset| offset < self.read_to.next);
        offsets.drain(..before);
        self.read_to.next = offsets.last().map_or(self.read_to.next, |last| last + 1);
        self.positions.read(epoch, self.read_to);
        if offsets.is_empty() {
            return;
        }
        let left = offsets.len();
        let settled = vec![0; left.div_ceil(64)];
        self.left += left as u64;
        self.pieces.push_back(Piece { offsets, settled, left, highest_before, times });
    }

    fn hold(&mut self, offset: u64) {
        *self.held.entry(offset).or_default() += 1;
    }

    fn settle(&mut self, offset: u64) {
        if let Some(more) = self.held.get_mut(&offset) {
            *more -= 1;
            if *more == 0 {
                self.held.remove(&offset);
            }
            return;
        }
        let at = self.pieces.partition_point(|piece| piece.offsets[0] <= offset);
        let Some(piece) = at.checked_sub(1).and_then(|at| self.pieces.get_mut(at)) else { return };
        let Some(position) = piece.position(offset) else { return };
        if piece.is_settled(position) {
            return;
        }
        piece.settled[position / 64] |= 1 << (position % 64);
        piece.left -= 1;
        self.left -= 1;
        // What is settled in the middle is dropped when all before it is.
        while self.pieces.front().is_some_and(|piece| piece.left == 0) {
            self.pieces.pop_front();
        }
    }

    fn settled_to(&self) -> u64 {
        self.pieces.front().and_then(Piece::first_left).unwrap_or(self.read_to.next)
    }

    fn committable(&mut self, partition: u32, durable: u64) -> Committable {
        let durable = self.positions.before(durable);
        let settled_to = self.settled_to();
        let is_settled_to = settled_to <= durable.next;
        let highest = match self.pieces.front().filter(|_| is_settled_to) {
            Some(piece) => {
                let before = piece.times.highest_before(settled_to);
                piece.highest_before.max(before.unwrap_or(i64::MIN))
            }
            // All that was read is settled, or more than is durable.
            None => if is_settled_to { self.read_to } else { durable }.highest,
        };
        Committable { partition, offset: settled_to.min(durable.next), highest, is_settled_to }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{ArrayRef, UInt32Array, UInt64Array};

    use super::*;

    /// Without event times, in one epoch.
    fn read(records: &mut Records, offsets: Vec<u64>) {
        let times = Int64Array::new_null(offsets.len());
        records.read(1, offsets.clone(), EventTimes { offsets: offsets.into(), times });
    }

    #[test]
    fn nothing_is_settled_before_all_that_came_before_is() {
        let mut records = Records::new(10, i64::MIN);
        assert_eq!(records.settled_to(), 10);
        read(&mut records, (5..13).collect());
        read(&mut records, vec![15, 16, 20]);
        assert_eq!((records.settled_to(), records.left), (10, 6));
        records.settle(5);
        records.settle(15);
        records.settle(11);
        records.settle(11);
        assert_eq!((records.settled_to(), records.left), (10, 4));
        records.settle(10);
        assert_eq!(records.settled_to(), 12);
        records.settle(12);
        assert_eq!(records.settled_to(), 16);
        records.settle(20);
        records.settle(17);
        assert_eq!((records.settled_to(), records.left), (16, 1));
        records.settle(16);
        assert_eq!((records.settled_to(), records.left), (21, 0));
    }

    #[test]
    fn what_is_held_is_settled_once_more_for_each_time() {
        let mut records = Records::new(0, i64::MIN);
        read(&mut records, vec![0, 1, 2]);
        records.hold(1);
        records.hold(1);
        for (offset, settled_to) in [(0, 1), (1, 1), (2, 1), (1, 1), (1, 3)] {
            records.settle(offset);
            assert_eq!(records.settled_to(), settled_to);
        }
        assert!(records.held.is_empty());
    }

    #[test]
    fn rows_of_no_record_settle_nothing() {
        let partitions: ArrayRef = Arc::new(UInt32Array::from(vec![None, Some(0)]));
        let offsets: ArrayRef = Arc::new(UInt64Array::from(vec![None, Some(1)]));
        let rows = RecordBatch::try_from_iter([(PARTITION, partitions), (OFFSET, offsets)]);
        let (settled, rows) = (Settled::of([(0, 0)]), rows.unwrap());
        read(settled.records().unwrap().get_mut(&0).unwrap(), vec![0, 1, 2]);
        settled.hold_rows(&rows.slice(1, 1));
        settled.settle(0, [1, 2]);
        assert_eq!((settled.offsets(), settled.unsettled()), (vec![(0, 0)], 2));
        settled.settle_rows(&rows);
        assert_eq!((settled.offsets(), settled.unsettled()), (vec![(0, 0)], 1));
        settled.settle(0, [0]);
        assert_eq!((settled.offsets(), settled.unsettled()), (vec![(0, 3)], 0));
    }

    #[test]
    fn as_a_set_of_offsets_would_have_it() {
        for seed in 0..50u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let (mut records, mut left) = (Records::new(0, i64::MIN), BTreeSet::new());
            let (mut unread, mut order) = (0, Vec::new());
            for step in 0..400 {
                if next(3) == 0 {
                    let mut offsets = Vec::new();
                    for _ in 0..next(200) {
                        unread += 1 + if next(10) == 0 { next(5) } else { 0 };
                        offsets.push(unread - 1);
                    }
                    left.extend(offsets.iter().copied());
                    order.extend(offsets.iter().copied());
                    read(&mut records, offsets);
                } else {
                    for _ in 0..next(200).min(order.len() as u64) {
                        let near = next(order.len().min(64) as u64) as usize;
                        let offset = order.remove(near);
                        left.remove(&offset);
                        records.settle(offset);
                    }
                }
                let expected = left.first().copied().unwrap_or(records.read_to.next);
                assert_eq!(records.settled_to(), expected, "seed {seed}, step {step}");
                assert_eq!(records.left, left.len() as u64, "seed {seed}, step {step}");
            }
        }
    }

    /// A record as a list of all of them has it.
    struct Listed {
        offset: u64,
        epoch: u64,
        time: Option<i64>,
        is_settled: bool,
    }

    #[test]
    fn what_may_be_committed_is_settled_and_durable_and_the_highest_time_is_of_what_is_before() {
        for seed in 0..100u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let history = 50;
            let (mut records, mut all) = (Records::new(3, history), Vec::<Listed>::new());
            let (mut epoch, mut unread, mut durable) = (1, 0, 0);
            for step in 0..300 {
                if next(3) == 0 {
                    epoch += 1 + next(3);
                    let mut rows = Vec::new();
                    for _ in 0..next(150) {
                        unread += 1 + if next(10) == 0 { next(5) } else { 0 };
                        let time = (next(9) > 0).then(|| 10 * step + next(300) as i64);
                        let time = time.map(|t| if next(50) == 0 { END_OF_TIME } else { t });
                        rows.push((unread - 1, time));
                    }
                    // Some are no events, and have no row.
                    let events = rows.iter().filter(|(offset, _)| offset % 7 != 6);
                    let (offsets, times): (Vec<u64>, Vec<Option<i64>>) = events.copied().unzip();
                    let (offsets, times) = (offsets.into(), times.into());
                    let read = rows.iter().map(|(offset, _)| *offset).collect();
                    records.read(epoch, read, EventTimes { offsets, times });
                    all.extend(rows.into_iter().map(|(offset, time)| Listed {
                        offset,
                        epoch,
                        time: time.filter(|t| offset % 7 != 6 && *t != END_OF_TIME),
                        is_settled: offset < 3,
                    }));
                } else {
                    for _ in 0..next(150) {
                        let unsettled = all.iter().filter(|record| !record.is_settled).count();
                        if unsettled == 0 {
                            break;
                        }
                        let which = next(unsettled.min(64) as u64) as usize;
                        let mut open = all.iter_mut().filter(|record| !record.is_settled);
                        let record = open.nth(which).unwrap();
                        record.is_settled = true;
                        records.settle(record.offset);
                    }
                }
                durable = (durable + next(4)).min(epoch + 1);
                let behind = |last: Option<&Listed>| last.map_or(3, |r| r.offset + 1).max(3);
                let settled_to = all.iter().find(|record| !record.is_settled);
                let settled_to = settled_to.map_or(behind(all.last()), |record| record.offset);
                let durable_to = all.iter().take_while(|record| record.epoch < durable).last();
                let durable_to = behind(durable_to);
                let offset = settled_to.min(durable_to);
                let times = all.iter().filter(|record| record.offset < offset);
                let highest = times.filter_map(|record| record.time).fold(history, i64::max);
                let found = records.committable(0, durable);
                let is_settled_to = settled_to <= durable_to;
                let wanted = Committable { partition: 0, offset, highest, is_settled_to };
                assert_eq!(found, wanted, "seed {seed}, step {step}");
            }
        }
    }
}

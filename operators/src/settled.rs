//! Which records of a partition are settled: their prediction, with all alerts of it, or their dead
//! letter is acknowledged, or they were skipped. What lies before the first that is not need never be
//! scored again; whether it need be read again depends on what else of its epoch is durable, too.

mod positions;
mod runs;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow::array::{Int64Array, UInt64Array};

use self::positions::{Position, Positions};
pub use self::runs::{Acknowledged, OffsetRun, Runs, origins};
use crate::admit::END_OF_TIME;
use crate::chunk::Chunk;

/// The worker, of so many, that reads a partition and keeps account of its records.
pub fn reader_of(partition: u32, workers: usize) -> usize {
    partition as usize % workers
}

/// The records of the partitions that one worker reads. Of partitions that it does not know, and where
/// it knows none, nothing is kept.
#[derive(Clone, Default)]
pub struct Settled(Option<Rc<Inner>>);

struct Inner {
    records: RefCell<BTreeMap<u32, Records>>,
    has_changed: Cell<bool>,
}

/// Where the partitions of a run begin, of which each worker keeps account of those it reads.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// Event times of up to this (ms) have records before these.
    pub highest: i64,
    /// Partitions by number, and the offset of the first record that counts.
    pub firsts: Vec<(u32, u64)>,
}

impl Beginning {
    /// The account of `worker`, which is one of `workers`.
    pub fn settled(&self, worker: usize, workers: usize) -> Settled {
        let mine = self.firsts.iter().filter(|(of, _)| reader_of(*of, workers) == worker);
        Settled::behind(self.highest, mine.copied())
    }
}

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
    /// Keeps account of partitions, given by number and by the offset of the first record that counts.
    pub fn of(partitions: impl IntoIterator<Item = (u32, u64)>) -> Self {
        Self::behind(i64::MIN, partitions)
    }

    /// The same, where records before these have event times of up to `highest` (ms).
    pub fn behind(highest: i64, partitions: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let records = partitions.into_iter();
        let records = records.map(|(partition, next)| (partition, Records::new(next, highest)));
        let (records, has_changed) = (RefCell::new(records.collect()), Cell::new(true));
        Settled(Some(Rc::new(Inner { records, has_changed })))
    }

    /// Does something to the records, if account of any is kept.
    fn change(&self, with: impl FnOnce(&mut BTreeMap<u32, Records>)) {
        if let Some(inner) = &self.0 {
            inner.has_changed.set(true);
            with(&mut inner.records.borrow_mut());
        }
    }

    /// Whether anything has come to be settled or read since the last call.
    pub fn has_changed(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.has_changed.take())
    }

    /// The records of a chunk have been read; chunks of a partition come in order. One that joins is
    /// kept account of from its beginning. `times`: the event times (ms) of its rows, null where a row
    /// has none that counts.
    pub fn read(&self, chunk: &Chunk, times: &Int64Array) {
        self.change(|records| {
            if chunk.joined {
                records.entry(chunk.partition).or_insert_with(|| Records::new(0, i64::MIN));
            }
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
        });
    }

    /// What was read in the epochs from `from` on went on under `to`.
    pub fn together(&self, from: u64, to: u64) {
        self.change(|records| {
            records.values_mut().for_each(|records| records.positions.together(from, to));
        });
    }

    /// Records of a partition are settled.
    pub fn settle(&self, partition: u32, offsets: impl IntoIterator<Item = u64>) {
        self.change(|records| {
            if let Some(records) = records.get_mut(&partition) {
                offsets.into_iter().for_each(|offset| records.settle(offset));
            }
        });
    }

    /// The records of runs of them are settled.
    pub fn settle_runs(&self, runs: &Runs) {
        self.change(|records| {
            for run in runs.iter() {
                if let Some(records) = records.get_mut(&run.partition) {
                    run.offsets().for_each(|offset| records.settle(offset));
                }
            }
        });
    }

    /// By partition, the offset before which all is settled.
    pub fn offsets(&self) -> Vec<(u32, u64)> {
        self.with(|records| {
            records.iter().map(|(&partition, records)| (partition, records.settled_to())).collect()
        })
    }

    /// How far offsets may be committed where all else is durable of the epochs before `durable`.
    pub fn committable(&self, durable: u64) -> Vec<Committable> {
        let of =
            |(&partition, records): (&u32, &mut Records)| records.committable(partition, durable);
        self.with(|records| records.iter_mut().map(of).collect())
    }

    /// Records that were read and are not settled.
    pub fn unsettled(&self) -> u64 {
        self.with(|records| records.values().map(|records| records.left).sum())
    }

    fn with<T: Default>(&self, look: impl FnOnce(&mut BTreeMap<u32, Records>) -> T) -> T {
        self.0.as_ref().map_or_else(T::default, |inner| look(&mut inner.records.borrow_mut()))
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

    fn settle(&mut self, offset: u64) {
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
    fn each_worker_keeps_account_of_what_it_reads_and_of_what_joins_it() {
        let beginning = Beginning { highest: i64::MIN, firsts: vec![(0, 5), (1, 6), (2, 7)] };
        let settled: Vec<Settled> = (0..2).map(|worker| beginning.settled(worker, 2)).collect();
        assert_eq!(settled[0].offsets(), [(0, 5), (2, 7)]);
        assert_eq!(settled[1].offsets(), [(1, 6)]);
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::empty());
        let rows = arrow::array::RecordBatch::new_empty(schema);
        let chunk = |epoch, offsets: Vec<u64>| {
            Chunk::new(epoch, 0, 3, rows.clone(), UInt64Array::from(offsets))
        };
        let read = |chunk: &Chunk| {
            settled[1].read(chunk, &Int64Array::new_null(chunk.offsets.len()));
        };
        read(&chunk(1, vec![0, 1]));
        assert_eq!(settled[1].offsets(), [(1, 6)]);
        read(&Chunk { joined: true, ..chunk(2, Vec::new()) });
        read(&chunk(3, vec![0, 1]));
        assert_eq!((settled[1].offsets(), settled[1].unsettled()), (vec![(1, 6), (3, 0)], 2));
        assert!(settled[1].has_changed() && !settled[1].has_changed());
        settled[1].settle_runs(&[(3, 0), (3, 1), (0, 9)].into_iter().collect());
        assert_eq!((settled[1].offsets(), settled[1].unsettled()), (vec![(1, 6), (3, 2)], 0));
        assert!(settled[1].has_changed());
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
                        // What is before the first record that counts is in what is known of it.
                        let time = time.map(|t| if unread <= 3 { t.min(history) } else { t });
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

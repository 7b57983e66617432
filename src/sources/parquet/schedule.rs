//! The epochs of a replay, from the footers of its files alone.
//!
//! Again and again the next rows of the partition of the events whose next rows are estimated to be
//! the earliest become an epoch; of equal ones the order of partitions counts. Files whose row groups
//! are large and overlap are thus read in step. Rows that are wide make smaller epochs. Before each of
//! them tables are read as far as these
//! rows are estimated to need them, and no further. The schedule does not depend on the number of
//! workers; all pieces of a row group go to one of them, so that the highest event time before any
//! row is known.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use driftline_operators::watermark::EVENTS;

/// Bytes of the rows of an epoch, about: rows of more than 2 KiB make smaller epochs than the default
/// `epoch_rows_max`. What is decoded and under way of one is a few times this.
const EPOCH_BYTES_MAX: u64 = 16 << 20;

/// Rows of at most so many bytes make epochs of `epoch_rows_max` rows, however large that is set.
const ROW_BYTES_ALWAYS: u64 = 2_048;

/// Epochs of more rows than a micro-batch has are a multiple of so many.
const WHOLE_ROWS: u64 = 1_024;

/// A row group that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its file, by position among the files of the stream.
    pub file: usize,
    /// Its position in the file.
    pub group: usize,
    pub rows: u64,
    /// Bytes that a row takes in memory, about.
    pub row_bytes: u64,
    /// Lowest and highest event time (ms), `None` without statistics.
    pub times: Option<(i64, i64)>,
    /// One worker reads all groups of the partition: only it knows what came before, as there are no
    /// statistics, or holds the rows, as they had to be sorted.
    pub one_reader: bool,
}

impl Group {
    /// The time (ms) of a row if rows were spread evenly over the times of the group; [`i64::MIN`]
    /// without statistics.
    fn estimate(&self, row: u64) -> i64 {
        let Some((low, high)) = self.times else { return i64::MIN };
        let (low, span) = (i128::from(low), i128::from(high) - i128::from(low));
        let estimate = low + span * i128::from(row) / i128::from(self.rows.max(1));
        i64::try_from(estimate).expect("between two times")
    }

    /// Rows of it that make an epoch.
    fn epoch_rows(&self, epoch_rows_max: u64) -> u64 {
        let bytes_max = EPOCH_BYTES_MAX.max(epoch_rows_max.saturating_mul(ROW_BYTES_ALWAYS));
        let rows = epoch_rows_max.min(bytes_max / self.row_bytes.max(1));
        match rows {
            WHOLE_ROWS.. if rows < epoch_rows_max => rows - rows % WHOLE_ROWS,
            _ => rows.max(1),
        }
    }

    /// How many rows from `skip` on are estimated to be no later than `time`; all without statistics.
    fn rows_until(&self, skip: u64, time: i64) -> u64 {
        let (mut low, mut high) = (skip, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.estimate(middle) <= time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - skip
    }
}

/// A partition and the row groups of it that are wanted, none of them empty, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub stream: usize,
    pub partition: u32,
    pub groups: Vec<Group>,
}

/// A part of a row group that is read as one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub epoch: u64,
    pub stream: usize,
    pub partition: u32,
    pub file: usize,
    pub group: usize,
    /// Rows of the group that come before, and rows to read.
    pub skip: u64,
    pub rows: u64,
    /// Rows of the group that are decoded at a time.
    pub rows_at_once: u64,
    /// The estimated time (ms) of its first row.
    pub estimate: i64,
    /// The position of the group among all that are read; it decides who reads it. All groups of a
    /// partition that has one reader have one number.
    pub group_number: usize,
    /// Nothing of the partition comes after.
    pub last_of_partition: bool,
}

/// How far the schedule has come in a lane.
#[derive(Clone, Copy, Default)]
struct Cursor {
    group: usize,
    skip: u64,
    group_number: Option<usize>,
}

/// The pieces of `lanes`, which are in order of partitions, in order of epochs from 1. At most
/// `limit` rows of the events are read; tables are read whole.
pub fn schedule(lanes: &[Lane], epoch_rows_max: usize, limit: Option<u64>) -> Vec<Piece> {
    let mut scheduler = Scheduler::new(lanes, epoch_rows_max as u64, limit.unwrap_or(u64::MAX));
    let mut pieces = Vec::new();
    while let Some((lane, rows_max)) = scheduler.next_lane() {
        pieces.push(scheduler.piece(lane, rows_max, pieces.len() as u64 + 1));
    }
    let mut seen = HashSet::new();
    for piece in pieces.iter_mut().rev() {
        piece.last_of_partition = seen.insert(piece.partition);
    }
    pieces
}

struct Scheduler<'a> {
    lanes: &'a [Lane],
    cursors: Vec<Cursor>,
    epoch_rows_max: u64,
    events_left: u64,
    /// Unfinished lanes by the estimated time of their next row, the earliest first.
    events: BinaryHeap<Reverse<(i64, usize)>>,
    tables: BinaryHeap<Reverse<(i64, usize)>>,
    groups_seen: usize,
}

impl<'a> Scheduler<'a> {
    fn new(lanes: &'a [Lane], epoch_rows_max: u64, events_left: u64) -> Self {
        let mut scheduler = Scheduler {
            lanes,
            cursors: vec![Cursor::default(); lanes.len()],
            epoch_rows_max,
            events_left,
            events: BinaryHeap::new(),
            tables: BinaryHeap::new(),
            groups_seen: 0,
        };
        (0..lanes.len()).for_each(|lane| scheduler.queue(lane));
        scheduler
    }

    fn queue(&mut self, lane: usize) {
        let Cursor { group, skip, .. } = self.cursors[lane];
        let Lane { stream, groups, .. } = &self.lanes[lane];
        let Some(group) = groups.get(group) else { return };
        let queue = if *stream == EVENTS { &mut self.events } else { &mut self.tables };
        queue.push(Reverse((group.estimate(skip), lane)));
    }

    /// The lane that comes next, and how many rows of it at most. A table comes while it is not
    /// past the time that the next rows of the events reach, then with one row more, with which its
    /// watermark passes that time.
    fn next_lane(&mut self) -> Option<(usize, u64)> {
        let next = |lanes: &BinaryHeap<Reverse<(i64, usize)>>| lanes.peek().map(|lane| lane.0);
        let event = next(&self.events).filter(|_| self.events_left > 0);
        let needed = event.map(|(_, lane)| self.reach(lane));
        match (next(&self.tables), needed) {
            (Some((estimate, lane)), Some(time)) if estimate <= time => {
                self.tables.pop();
                let Cursor { group, skip, .. } = self.cursors[lane];
                Some((lane, self.lanes[lane].groups[group].rows_until(skip, time) + 1))
            }
            (Some((_, lane)), None) => {
                self.tables.pop();
                Some((lane, u64::MAX))
            }
            (_, Some(_)) => {
                let Reverse((_, lane)) = self.events.pop()?;
                Some((lane, self.events_left))
            }
            (None, None) => None,
        }
    }

    /// The estimated time (ms) that the next rows of a lane reach; the end of time without
    /// statistics.
    fn reach(&self, lane: usize) -> i64 {
        let Cursor { group, skip, .. } = self.cursors[lane];
        let group = &self.lanes[lane].groups[group];
        let end = skip.saturating_add(group.epoch_rows(self.epoch_rows_max)).min(group.rows);
        if group.times.is_some() { group.estimate(end) } else { i64::MAX }
    }

    /// The next rows of a lane, which then is queued again.
    fn piece(&mut self, lane: usize, rows_max: u64, epoch: u64) -> Piece {
        let Lane { stream, partition, groups } = &self.lanes[lane];
        let cursor = &mut self.cursors[lane];
        let (group, skip) = (groups[cursor.group], cursor.skip);
        let rows_at_once = group.epoch_rows(self.epoch_rows_max);
        let rows = (group.rows - skip).min(rows_at_once).min(rows_max);
        let number = cursor.group_number.unwrap_or(self.groups_seen);
        self.groups_seen = self.groups_seen.max(number + 1);
        *cursor = if skip + rows < group.rows {
            Cursor { skip: skip + rows, group_number: Some(number), ..*cursor }
        } else {
            let kept = group.one_reader.then_some(number);
            Cursor { group: cursor.group + 1, skip: 0, group_number: kept }
        };
        if *stream == EVENTS {
            self.events_left -= rows;
        }
        self.queue(lane);
        Piece {
            epoch,
            stream: *stream,
            partition: *partition,
            file: group.file,
            group: group.group,
            skip,
            rows,
            rows_at_once,
            estimate: group.estimate(skip),
            group_number: number,
            last_of_partition: false,
        }
    }
}

/// Partitions of which nothing is read.
pub fn without_rows(lanes: &[Lane], pieces: &[Piece]) -> Vec<u32> {
    let read: HashSet<u32> = pieces.iter().map(|piece| piece.partition).collect();
    lanes.iter().map(|lane| lane.partition).filter(|partition| !read.contains(partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a group, and its times.
    type Rows = (u64, Option<(i64, i64)>);

    /// A lane of one file, given the rows and times of its groups.
    fn lane(stream: usize, partition: u32, groups: &[Rows]) -> Lane {
        let group = |(group, &(rows, times)): (usize, &Rows)| Group {
            file: 0,
            group,
            rows,
            row_bytes: 8,
            times,
            one_reader: times.is_none(),
        };
        Lane { stream, partition, groups: groups.iter().enumerate().map(group).collect() }
    }

    /// (partition, group, skip, rows)
    fn short(pieces: &[Piece]) -> Vec<(u32, usize, u64, u64)> {
        pieces.iter().map(|p| (p.partition, p.group, p.skip, p.rows)).collect()
    }

    #[test]
    fn the_partition_that_is_furthest_behind_comes_next() {
        let lanes = [
            lane(0, 0, &[(5, Some((0, 9))), (4, Some((20, 29)))]),
            lane(0, 1, &[(2, Some((10, 19))), (2, Some((20, 29)))]),
        ];
        let pieces = schedule(&lanes, 4, None);
        assert_eq!(
            short(&pieces),
            [(0, 0, 0, 4), (0, 0, 4, 1), (1, 0, 0, 2), (0, 1, 0, 4), (1, 1, 0, 2)]
        );
        assert_eq!(pieces.iter().map(|p| p.epoch).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(pieces.iter().map(|p| p.group_number).collect::<Vec<_>>(), [0, 0, 1, 2, 3]);
        let last = pieces.iter().filter(|piece| piece.last_of_partition);
        assert_eq!(last.map(|piece| piece.epoch).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn groups_that_overlap_are_read_in_step() {
        let lanes = [lane(0, 0, &[(100, Some((0, 1_000)))]), lane(1, 1, &[(40, Some((0, 1_000)))])];
        let pieces = schedule(&lanes, 20, None);
        let order: Vec<(u32, i64)> = pieces.iter().map(|p| (p.partition, p.estimate)).collect();
        // Each time the table comes to the end of the next 200 ms of events, and one row further.
        let expected = [(0, 0), (0, 200), (0, 400), (0, 600), (0, 800)]
            .into_iter()
            .zip([0, 250, 450, 650, 850]);
        let expected: Vec<(u32, i64)> =
            expected.flat_map(|(events, table)| [(1, table), events]).collect();
        assert_eq!(order, expected);
        let numbers: Vec<usize> = pieces.iter().map(|piece| piece.group_number).collect();
        assert_eq!(numbers, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn tables_come_before_events_then_the_order_of_partitions_counts() {
        let at = Some((7, 7));
        let lanes = [
            lane(0, 0, &[(1, at)]),
            lane(0, 1, &[(1, at)]),
            lane(1, 2, &[(1, at)]),
            lane(2, 3, &[(1, at)]),
        ];
        let order: Vec<u32> = schedule(&lanes, 9, None).iter().map(|p| p.partition).collect();
        assert_eq!(order, [2, 3, 0, 1]);
    }

    #[test]
    fn a_limit_cuts_events_only() {
        let lanes = [
            lane(0, 0, &[(10, Some((0, 9))), (10, Some((10, 19)))]),
            lane(0, 1, &[(10, Some((100, 109)))]),
            lane(1, 2, &[(10, Some((0, 200)))]),
        ];
        let pieces = schedule(&lanes, 4, Some(9));
        let of = |stream: usize| pieces.iter().filter(move |piece| piece.stream == stream);
        assert_eq!(of(0).map(|piece| piece.rows).collect::<Vec<_>>(), [4, 4, 1]);
        assert_eq!(of(1).map(|piece| piece.rows).collect::<Vec<_>>(), [2, 4, 4]);
        assert!(of(0).next_back().unwrap().last_of_partition);
        assert_eq!(without_rows(&lanes, &pieces), [1]);
        assert!(schedule(&lanes[..2], 4, Some(0)).is_empty());
    }

    #[test]
    fn without_statistics_a_partition_comes_first_and_is_one_workers() {
        let lanes =
            [lane(0, 0, &[(2, Some((-5, -5))), (2, Some((-5, -5)))]), lane(1, 1, &[(3, None); 2])];
        let pieces = schedule(&lanes, 2, None);
        let order: Vec<(u32, usize)> =
            pieces.iter().map(|piece| (piece.partition, piece.group_number)).collect();
        assert_eq!(order, [(1, 0), (1, 0), (1, 0), (1, 0), (0, 1), (0, 2)]);
    }

    #[test]
    fn epochs_of_wide_rows_are_smaller() {
        let mut lanes = [lane(0, 0, &[(10_000, Some((0, 9_999)))])];
        let mut rows = |row_bytes: u64, epoch_rows_max: usize| {
            lanes[0].groups[0].row_bytes = row_bytes;
            let pieces = schedule(&lanes, epoch_rows_max, None);
            assert_eq!(pieces.iter().map(|piece| piece.rows).sum::<u64>(), 10_000);
            assert!(pieces.iter().all(|piece| piece.rows_at_once.min(10_000) == pieces[0].rows));
            pieces[0].rows
        };
        assert_eq!([0, 100, 2_048].map(|bytes| rows(bytes, 8_192)), [8_192; 3]);
        // 8,188 rows fit; whole micro-batches of them are an epoch.
        assert_eq!([2_049, 8_016, 16_385].map(|bytes| rows(bytes, 8_192)), [7_168, 2_048, 1_023]);
        assert_eq!([8_016, 1 << 40].map(|bytes| rows(bytes, 100)), [100, 1]);
        // Who asks for large epochs gets them of rows that are not wide.
        assert_eq!([2_048, 1 << 20].map(|bytes| rows(bytes, 100_000)), [10_000, 195]);
    }

    #[test]
    fn estimates_are_exact_at_the_ends_of_time() {
        let group = Group {
            file: 0,
            group: 0,
            rows: 4,
            row_bytes: 8,
            times: Some((i64::MIN, i64::MAX)),
            one_reader: false,
        };
        assert_eq!(group.estimate(0), i64::MIN);
        assert_eq!(group.estimate(2), -1);
        let group = Group { rows: 3, times: Some((0, 10)), ..group };
        assert_eq!([0, 1, 2].map(|row| group.estimate(row)), [0, 3, 6]);
    }
}

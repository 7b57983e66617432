//! The epochs of a replay, from the footers of its files alone.
//!
//! Again and again the next rows of the partition whose next rows are estimated to be the earliest
//! become an epoch; of equal ones tables come before events, then the order of partitions counts.
//! Files whose row groups are large and overlap are thus read in step, and of a table no more at once
//! than the next rows of the events are estimated to need. The schedule does not depend
//! on the number of workers; all pieces of a row group go to one of them, so that the highest event
//! time before any row is known.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use driftline_operators::admit::EVENTS;

/// A row group that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its file, by position among the files of the stream.
    pub file: usize,
    /// Its position in the file.
    pub group: usize,
    pub rows: u64,
    /// Lowest and highest event time (ms), `None` without statistics.
    pub times: Option<(i64, i64)>,
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
    /// The estimated time (ms) of its first row.
    pub estimate: i64,
    /// The position of the group among all that are read; it decides who reads it. Without
    /// statistics only the reader of what came before knows the highest event time, and all groups
    /// of a partition have one number.
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
    let mut events_left = limit.unwrap_or(u64::MAX);
    let mut numbers = 0..;
    let mut cursors = vec![Cursor::default(); lanes.len()];
    let turn = |lane: usize, cursor: &Cursor| {
        let Lane { stream, groups, .. } = &lanes[lane];
        let estimate = groups.get(cursor.group)?.estimate(cursor.skip);
        Some(Reverse((estimate, *stream == EVENTS, lane)))
    };
    let mut turns: BinaryHeap<_> =
        (0..lanes.len()).filter_map(|lane| turn(lane, &cursors[lane])).collect();
    let mut pieces: Vec<Piece> = Vec::new();
    while let Some(Reverse((estimate, is_event, lane))) = turns.pop() {
        let Cursor { group, skip, .. } = cursors[lane];
        let Lane { stream, partition, groups } = &lanes[lane];
        let group = groups[group];
        let mut rows = (group.rows - skip).min(epoch_rows_max as u64);
        if !is_event {
            if events_left > 0
                && let Some(time) = needed_until(lanes, &cursors, epoch_rows_max)
            {
                // One row more, with which the watermark of the table passes that time.
                rows = rows.min(group.rows_until(skip, time) + 1);
            }
        } else {
            rows = rows.min(events_left);
            events_left -= rows;
            if rows == 0 {
                continue;
            }
        }
        let cursor = &mut cursors[lane];
        let number = cursor.group_number.or_else(|| numbers.next()).unwrap_or(0);
        pieces.push(Piece {
            epoch: pieces.len() as u64 + 1,
            stream: *stream,
            partition: *partition,
            file: group.file,
            group: group.group,
            skip: cursor.skip,
            rows,
            estimate,
            group_number: number,
            last_of_partition: false,
        });
        cursor.skip += rows;
        cursor.group_number = Some(number);
        if cursor.skip == group.rows {
            let kept = if group.times.is_none() { Some(number) } else { None };
            *cursor = Cursor { group: cursor.group + 1, skip: 0, group_number: kept };
        }
        turns.extend(turn(lane, cursor));
    }
    let mut seen = HashSet::new();
    for piece in pieces.iter_mut().rev() {
        piece.last_of_partition = seen.insert(piece.partition);
    }
    pieces
}

/// The estimated time (ms) up to which the next rows of the events reach, if there are any and
/// footers tell.
fn needed_until(lanes: &[Lane], cursors: &[Cursor], epoch_rows_max: usize) -> Option<i64> {
    let events = lanes.iter().zip(cursors).filter(|(lane, _)| lane.stream == EVENTS);
    let next = events.filter_map(|(lane, cursor)| {
        let group = lane.groups.get(cursor.group)?;
        group.times?;
        let end = cursor.skip.saturating_add(epoch_rows_max as u64).min(group.rows);
        Some((group.estimate(cursor.skip), group.estimate(end)))
    });
    next.min().map(|(_, end)| end)
}

/// Partitions of which nothing is read.
pub fn without_rows(lanes: &[Lane], pieces: &[Piece]) -> Vec<u32> {
    let read: HashSet<u32> = pieces.iter().map(|piece| piece.partition).collect();
    lanes.iter().map(|lane| lane.partition).filter(|partition| !read.contains(partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane of one file, given the rows and times of its groups.
    fn lane(stream: usize, partition: u32, groups: &[(u64, Option<(i64, i64)>)]) -> Lane {
        let group = |(group, &(rows, times))| Group { file: 0, group, rows, times };
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
        let expected = [(1, 0), (0, 0), (0, 200), (1, 250), (0, 400), (0, 600), (1, 650), (0, 800)];
        assert_eq!(order, expected);
        let numbers: Vec<usize> = pieces.iter().map(|piece| piece.group_number).collect();
        assert_eq!(numbers, [0, 1, 1, 0, 1, 1, 0, 1]);
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
    fn estimates_are_exact_at_the_ends_of_time() {
        let group = Group { file: 0, group: 0, rows: 4, times: Some((i64::MIN, i64::MAX)) };
        assert_eq!(group.estimate(0), i64::MIN);
        assert_eq!(group.estimate(2), -1);
        let group = Group { file: 0, group: 0, rows: 3, times: Some((0, 10)) };
        assert_eq!([0, 1, 2].map(|row| group.estimate(row)), [0, 3, 6]);
    }
}

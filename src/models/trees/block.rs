//! Rows that trees are about to see, column by column.

use std::ops::Range;

/// Rows of a block: what of an ensemble is at hand is of use to all of them.
pub(super) const ROOM: usize = 64;

/// A number as an integer that compares with others as the number does. Both zeros are one.
pub(super) fn key(number: f32) -> i32 {
    let bits = (number + 0.0).to_bits() as i32;
    bits ^ (bits >> 31 & i32::MAX)
}

/// Above all keys of numbers, and below all.
const ABOVE: i32 = i32::MAX;
const BELOW: i32 = i32::MIN;

/// What of a feature branches compare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Its key; NaN is above all numbers, infinity too.
    NanHigh,
    /// Its key; NaN is below all numbers.
    NanLow,
    /// 0 where its key is one of these, or NaN counts as one, else 1.
    OneOf { keys: Vec<i32>, is_nan_one: bool },
}

impl Reading {
    #[inline(always)]
    fn of(&self, value: f32) -> i32 {
        match self {
            Reading::NanHigh => {
                if value.is_nan() {
                    ABOVE
                } else {
                    key(value)
                }
            }
            Reading::NanLow => {
                if value.is_nan() {
                    BELOW
                } else {
                    key(value)
                }
            }
            Reading::OneOf { is_nan_one, .. } if value.is_nan() => i32::from(!is_nan_one),
            Reading::OneOf { keys, .. } => i32::from(!keys.contains(&key(value))),
        }
    }
}

/// What stands in the columns of a row: the readings of each feature, those of the first before those of
/// the next, and what is below everything.
#[derive(Clone)]
pub(super) struct Layout {
    /// By column.
    readings: Vec<Reading>,
    /// Where the columns of each feature begin, and where those of the last end.
    starts: Vec<usize>,
}

impl Layout {
    /// `readings` of features, each below `features`.
    pub fn new(features: usize, mut readings: Vec<(usize, Reading)>) -> Self {
        readings.sort_unstable();
        readings.dedup();
        let starts = (0..=features)
            .map(|feature| readings.partition_point(|(other, _)| *other < feature))
            .collect();
        Layout { readings: readings.into_iter().map(|(_, reading)| reading).collect(), starts }
    }

    pub fn features(&self) -> usize {
        self.starts.len() - 1
    }

    /// The column of a reading that there is.
    pub fn column(&self, feature: usize, reading: &Reading) -> usize {
        let columns = self.columns_of(feature);
        columns.start + self.readings[columns].partition_point(|other| other < reading)
    }

    fn columns_of(&self, feature: usize) -> Range<usize> {
        self.starts[feature]..self.starts[feature + 1]
    }

    /// The column that is below everything.
    pub fn stop(&self) -> usize {
        self.readings.len()
    }

    /// An empty block in `cells`: one column after the other, with `room` for values.
    pub fn block<'a>(&'a self, cells: &'a mut Vec<i32>, room: usize) -> Block<'a> {
        let stop = self.stop() * room;
        cells.resize(stop, 0);
        cells.resize(stop + room, BELOW);
        Block { layout: self, cells, room }
    }
}

/// Rows to be filled feature by feature.
pub struct Block<'a> {
    layout: &'a Layout,
    cells: &'a mut [i32],
    room: usize,
}

impl Block<'_> {
    /// The values of a feature, one for each row.
    #[inline]
    pub fn set(&mut self, feature: usize, values: impl Iterator<Item = f32> + Clone) {
        self.set_from(0, feature, values);
    }

    /// The feature of one row has no value.
    pub fn set_nan(&mut self, row: usize, feature: usize) {
        self.set_from(row, feature, std::iter::once(f32::NAN));
    }

    #[inline]
    fn set_from(&mut self, row: usize, feature: usize, values: impl Iterator<Item = f32> + Clone) {
        for column in self.layout.columns_of(feature) {
            let cells = &mut self.cells[column * self.room..][row..self.room];
            let cells = cells.iter_mut().zip(values.clone());
            // The plain ones on their own: they are made for several rows at a time.
            match &self.layout.readings[column] {
                Reading::NanHigh => cells.for_each(|(cell, v)| *cell = Reading::NanHigh.of(v)),
                Reading::NanLow => cells.for_each(|(cell, v)| *cell = Reading::NanLow.of(v)),
                reading => cells.for_each(|(cell, value)| *cell = reading.of(value)),
            }
        }
    }
}

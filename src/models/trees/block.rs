//! Rows that trees are about to see, column by column.

use std::ops::Range;

use super::before::{Before, BeforeOne};

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

/// What stands in the columns of a row: the readings of each feature, those of the first before those of
/// the next, and what is below everything.
#[derive(Clone)]
pub(super) struct Layout {
    /// By column.
    readings: Vec<Reading>,
    /// Where the columns of each feature begin, and where those of the last end.
    starts: Vec<usize>,
    /// What is done first to each feature.
    before: Vec<Vec<BeforeOne>>,
}

impl Layout {
    /// `readings` of features, each below `features`.
    ///
    /// # Errors
    /// If what is done `before` is for other features.
    pub fn new(
        features: usize,
        before: &[Before],
        mut readings: Vec<(usize, Reading)>,
    ) -> Result<Self, String> {
        let mut before_each = vec![Vec::new(); features];
        for step in before {
            let steps = step.of_each(features)?;
            before_each.iter_mut().zip(steps).for_each(|(all, step)| all.push(step));
        }
        readings.sort_unstable();
        readings.dedup();
        let starts = (0..=features)
            .map(|feature| readings.partition_point(|(other, _)| *other < feature))
            .collect();
        let readings = readings.into_iter().map(|(_, reading)| reading).collect();
        Ok(Layout { readings, starts, before: before_each })
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
        match self.layout.before[feature].as_slice() {
            [] => self.write(row, feature, values),
            before => {
                let prepared =
                    values.map(|value| before.iter().fold(value, |value, step| step.of(value)));
                self.write(row, feature, prepared);
            }
        }
    }

    #[inline]
    fn write(&mut self, row: usize, feature: usize, values: impl Iterator<Item = f32> + Clone) {
        let is_low = |value: f32| if value.is_nan() { BELOW } else { key(value) };
        let is_high = |value: f32| if value.is_nan() { ABOVE } else { key(value) };
        for column in self.layout.columns_of(feature) {
            let cells = &mut self.cells[column * self.room..][row..self.room];
            let cells = cells.iter_mut().zip(values.clone());
            match &self.layout.readings[column] {
                Reading::NanHigh => cells.for_each(|(cell, value)| *cell = is_high(value)),
                Reading::NanLow => cells.for_each(|(cell, value)| *cell = is_low(value)),
                Reading::OneOf { keys, is_nan_one } => cells.for_each(|(cell, value)| {
                    let value = is_high(value);
                    let is_one = keys.binary_search(&value).is_ok();
                    *cell = i32::from(!(is_one || *is_nan_one && value == ABOVE));
                }),
            }
        }
    }
}

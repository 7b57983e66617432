//! Rows that trees are about to see, feature by feature.

/// What stands in the columns of a row: the features with NaN as infinity; where a branch sends NaN
/// low, once more with NaN as minus infinity; where one parts NaN from all numbers, once more with NaN
/// as infinity and numbers as minus infinity; and minus infinity, below which nothing is.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub features: usize,
    pub has_nan_low: bool,
    pub has_nan_alone: bool,
}

impl Layout {
    /// Where the columns begin that tell NaN from all numbers.
    pub fn nan_alone(&self) -> usize {
        self.features * (1 + usize::from(self.has_nan_low))
    }

    /// The column that is below everything.
    pub fn stop(&self) -> usize {
        self.nan_alone() + self.features * usize::from(self.has_nan_alone)
    }

    pub fn columns(&self) -> usize {
        self.stop() + 1
    }

    /// An empty block in `cells`: one row after the other, or one column after the other with room for
    /// `room` values.
    pub fn block<'a>(
        &self,
        cells: &'a mut Vec<f32>,
        rows: usize,
        room: Option<usize>,
    ) -> Block<'a> {
        let columns = self.columns();
        let (row_step, column_step) = room.map_or((columns, 1), |room| (1, room));
        let count = room.unwrap_or(rows) * columns;
        if cells.len() < count {
            cells.resize(count, 0.0);
        }
        let stops = cells[self.stop() * column_step..].iter_mut().step_by(row_step);
        stops.take(rows).for_each(|cell| *cell = f32::NEG_INFINITY);
        let low = self.has_nan_low.then_some(self.features);
        let alone = self.has_nan_alone.then_some(self.nan_alone());
        Block { cells, row_step, column_step, low, alone }
    }
}

/// Rows to be filled feature by feature.
pub struct Block<'a> {
    cells: &'a mut [f32],
    row_step: usize,
    column_step: usize,
    /// Where the columns begin in which NaN goes low, and those that tell it from all numbers.
    low: Option<usize>,
    alone: Option<usize>,
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
        let or = |nan: f32| move |value: f32| if value.is_nan() { nan } else { value };
        self.write(row, feature, values.clone().map(or(f32::INFINITY)));
        if let Some(low) = self.low {
            self.write(row, low + feature, values.clone().map(or(f32::NEG_INFINITY)));
        }
        if let Some(alone) = self.alone {
            let alone_is =
                |value: f32| if value.is_nan() { f32::INFINITY } else { f32::NEG_INFINITY };
            self.write(row, alone + feature, values.map(alone_is));
        }
    }

    #[inline]
    fn write(&mut self, row: usize, column: usize, values: impl Iterator<Item = f32>) {
        let first = row * self.row_step + column * self.column_step;
        let cells = self.cells[first..].iter_mut();
        if self.row_step == 1 {
            cells.zip(values).for_each(|(cell, value)| *cell = value);
        } else {
            cells.step_by(self.row_step).zip(values).for_each(|(cell, value)| *cell = value);
        }
    }
}

//! What is counted of the routes of a job: by lane, of its predictions and of what shadows say beside them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::model::Task;
use crate::numeric::{ExactSum, squares_around};
use crate::prediction;
use crate::routes::ensemble::{largest, score};
use crate::routes::table::Scores;

/// How many values there were, their mean and their spread: the same in whichever order they came.
#[derive(Clone, Default)]
pub struct Moments {
    pub count: u64,
    sum: ExactSum,
    squares: ExactSum,
}

impl Moments {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
    }

    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// NaN where there are no values.
    pub fn mean(&self) -> f64 {
        self.sum.value() / self.count as f64
    }

    /// With n as the divisor; NaN where there are no values.
    pub fn variance(&self) -> f64 {
        let n = self.count as f64;
        squares_around(self.mean(), n, &self.sum, &self.squares) / n
    }
}

/// How many values there were, and their mean: the same in whichever order they came.
#[derive(Clone, Default)]
pub struct Mean {
    pub count: u64,
    sum: ExactSum,
}

impl Mean {
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
    }

    pub fn merge(&mut self, other: &Mean) {
        self.count += other.count;
        self.sum.merge(&other.sum);
    }

    /// NaN where there are no values.
    pub fn mean(&self) -> f64 {
        self.sum.value() / self.count as f64
    }
}

/// What is counted of one lane.
#[derive(Clone, Default)]
pub struct LaneFigures {
    /// Rows that have a prediction, and those of them that are not `ok`.
    pub rows: u64,
    pub degraded: u64,
    pub scores: Moments,
    /// Of classifiers.
    pub confidences: Moments,
    pub shadows: BTreeMap<Scores, ShadowFigures>,
    /// Rows that shadows were not given because of overload.
    pub shed: u64,
}

/// What a shadow says beside predictions.
#[derive(Clone, Default)]
pub struct ShadowFigures {
    pub rows: u64,
    pub failed: u64,
    /// Rows of which class and score can be compared: the primary has as many classes.
    pub compared: u64,
    /// Those of which it is for another class: of two, the one at least as probable as 0.5; of
    /// several, the most probable. No regression has any.
    pub different: u64,
    /// |Δ score|.
    pub distance: Mean,
    pub largest_distance: f64,
    pub scores: Mean,
    /// Of classifiers.
    pub confidences: Mean,
}

impl LaneFigures {
    pub fn merge(&mut self, other: &LaneFigures) {
        self.rows += other.rows;
        self.degraded += other.degraded;
        self.scores.merge(&other.scores);
        self.confidences.merge(&other.confidences);
        self.shed += other.shed;
        for (shadow, figures) in &other.shadows {
            let own = self.shadows.entry(*shadow).or_default();
            own.rows += figures.rows;
            own.failed += figures.failed;
            own.compared += figures.compared;
            own.different += figures.different;
            own.distance.merge(&figures.distance);
            own.largest_distance = own.largest_distance.max(figures.largest_distance);
            own.scores.merge(&figures.scores);
            own.confidences.merge(&figures.confidences);
        }
    }
}

/// What one worker counts of a lane: made once, and shared with those who read it.
#[derive(Clone, Default)]
pub struct LaneGauge(Arc<Mutex<LaneFigures>>);

impl LaneGauge {
    pub(super) fn lock(&self) -> MutexGuard<'_, LaneFigures> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Predictions of the lane.
    pub fn scored(&self, predictions: &RecordBatch) {
        let mut figures = self.lock();
        figures.rows += predictions.num_rows() as u64;
        let status = predictions.column(prediction::STATUS).as_string::<i32>();
        figures.degraded += status.iter().filter(|status| *status != Some("ok")).count() as u64;
        each(predictions.column(prediction::SCORE), |value| figures.scores.add(value));
        each(predictions.column(prediction::CONFIDENCE), |value| figures.confidences.add(value));
    }

    /// Rows that no shadow was given.
    pub fn shed(&self, rows: usize) {
        self.lock().shed += rows as u64;
    }

    pub fn shadow_failed(&self, shadow: Scores, rows: usize) {
        if rows > 0 {
            self.lock().shadows.entry(shadow).or_default().failed += rows as u64;
        }
    }

    /// A shadow's predictions of rows, and those of their primary.
    pub fn shadow_scored(&self, shadow: Scores, compared: &Compared) {
        let mut figures = self.lock();
        let figures = figures.shadows.entry(shadow).or_default();
        let Compared { primary, shadow, rows } = compared;
        let is_same_kind = primary.task == shadow.task && primary.width == shadow.width;
        for (said, &of_primary) in shadow.numbers.chunks_exact(shadow.width).zip(rows) {
            figures.rows += 1;
            let score_of_shadow = score(shadow.task, said);
            figures.scores.add(score_of_shadow);
            if shadow.task != Task::Regression {
                figures.confidences.add(largest(said));
            }
            if !is_same_kind {
                continue;
            }
            figures.compared += 1;
            let primary_said = &primary.numbers[of_primary * primary.width..][..primary.width];
            let distance = (score(primary.task, primary_said) - score_of_shadow).abs();
            figures.distance.add(distance);
            figures.largest_distance = figures.largest_distance.max(distance);
            let is_other = decision(primary.task, primary_said) != decision(shadow.task, said);
            figures.different += u64::from(is_other);
        }
    }
}

/// Predictions of rows by a shadow and by what it is beside.
pub struct Compared {
    pub primary: Said,
    pub shadow: Said,
    /// By row of the shadow, which row of the primary it is.
    pub rows: Vec<usize>,
}

/// Predictions as doubles, `[rows * width]`.
pub struct Said {
    pub numbers: Vec<f64>,
    pub width: usize,
    pub task: Task,
}

/// The class that a prediction is for; 0 of a regression.
fn decision(task: Task, numbers: &[f64]) -> usize {
    match task {
        Task::Binary => usize::from(numbers[1] >= 0.5),
        Task::Regression => 0,
        Task::Multiclass => {
            let first_of_largest =
                |best: usize, at: usize| if numbers[at] > numbers[best] { at } else { best };
            (0..numbers.len()).fold(0, first_of_largest)
        }
    }
}

/// The numbers of a column of floats or doubles that are there.
fn each(column: &ArrayRef, see: impl FnMut(f64)) {
    if column.null_count() == column.len() {
        return;
    }
    if let Ok(column) = cast(column, &DataType::Float64) {
        column.as_primitive::<Float64Type>().iter().flatten().for_each(see);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_workers_count_is_what_one_would() {
        let said =
            |numbers: &[f64]| Said { numbers: numbers.to_vec(), width: 2, task: Task::Binary };
        let (primary, shadow) = ([0.5, 0.5, 0.25, 0.75], [0.75, 0.25, 0.5, 0.5]);
        let (alone, gauges) = (LaneGauge::default(), [LaneGauge::default(), LaneGauge::default()]);
        let of = Scores::Model(1);
        let all = |rows: Vec<usize>, shadow| Compared { primary: said(&primary), shadow, rows };
        alone.shadow_scored(of, &all(vec![0, 1], said(&shadow)));
        for (row, gauge) in gauges.iter().enumerate() {
            gauge.shadow_scored(of, &all(vec![row], said(&shadow[2 * row..][..2])));
            gauge.shadow_failed(of, 2);
        }
        let mut all = LaneFigures::default();
        gauges.iter().for_each(|gauge| all.merge(&gauge.lock()));
        let [alone, all] = [&alone.lock().shadows[&of], &all.shadows[&of]];
        for figures in [alone, all] {
            assert_eq!((figures.rows, figures.compared, figures.different), (2, 2, 1));
            assert_eq!((figures.distance.mean(), figures.largest_distance), (0.25, 0.25));
            assert_eq!((figures.scores.count, figures.scores.mean()), (2, 0.375));
        }
        assert_eq!((alone.failed, all.failed), (0, 4));
    }

    /// Naively, the squares of such values leave nothing of their spread.
    #[test]
    fn the_spread_of_large_values_is_not_lost() {
        let mut moments = Moments::default();
        for value in [1e9, 1e9 + 1.0, 1e9 + 2.0] {
            moments.add(value);
        }
        assert_eq!(moments.variance(), 2.0 / 3.0);
    }

    #[test]
    fn of_two_classes_half_is_enough_and_of_several_the_first_of_the_largest_counts() {
        assert_eq!(decision(Task::Binary, &[0.5, 0.5]), 1);
        assert_eq!(decision(Task::Multiclass, &[0.2, 0.4, 0.4]), 1);
        assert_eq!(decision(Task::Regression, &[-3.0]), 0);
        let mut moments = Moments::default();
        [0.25, 0.5].into_iter().for_each(|value| moments.add(value));
        assert_eq!((moments.mean(), moments.variance()), (0.375, 0.015625));
        assert!(Moments::default().mean().is_nan() && Moments::default().variance().is_nan());
    }
}

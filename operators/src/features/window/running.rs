//! The aggregate of the values inside a window, as values join and leave.

use super::deviation::Moments;
use super::extreme::Extreme;
use super::{Aggregate, OwnAggregate};
use crate::numeric::ExactSum;

/// What must be known of the values inside so that one can join or leave without a look at the
/// others. Values that are NaN never get here.
pub(super) enum Running {
    Count(usize),
    Sum(CountedSum),
    Mean(CountedSum),
    Extreme(Extreme),
    /// Boxed, as it is twice as large as any other.
    Std(Box<Moments>),
    /// Nothing is kept: the function looks at all values inside.
    Own(OwnAggregate),
}

/// Exact, so that it does not depend on what has left or in which order values came.
#[derive(Default)]
pub(super) struct CountedSum {
    count: usize,
    sum: ExactSum,
}

impl Running {
    /// Of no values yet; `None` if the aggregate is not one of values.
    pub(super) fn new(aggregate: Aggregate) -> Option<Self> {
        Some(match aggregate {
            Aggregate::Count => Running::Count(0),
            Aggregate::Sum => Running::Sum(CountedSum::default()),
            Aggregate::Mean => Running::Mean(CountedSum::default()),
            Aggregate::Min => Running::Extreme(Extreme::least()),
            Aggregate::Max => Running::Extreme(Extreme::greatest()),
            Aggregate::Std => Running::Std(Box::default()),
            Aggregate::Own(own) => Running::Own(own),
            Aggregate::TimeSinceLast => return None,
        })
    }

    /// Adds the value of a row at `time`, in any order of times.
    pub(super) fn add(&mut self, time: i64, value: f64) {
        match self {
            Running::Count(count) => *count += 1,
            Running::Sum(sum) | Running::Mean(sum) => sum.add(value),
            Running::Extreme(extreme) => extreme.add(time, value),
            Running::Std(moments) => moments.add(value),
            Running::Own(_) => {}
        }
    }

    /// Takes out the value of a row at `time`, which is the lowest time of those inside. The
    /// aggregate is right again once all values of that time are out.
    pub(super) fn remove(&mut self, time: i64, value: f64) {
        match self {
            Running::Count(count) => *count -= 1,
            Running::Sum(sum) | Running::Mean(sum) => sum.remove(value),
            Running::Extreme(extreme) => extreme.remove_up_to(time),
            Running::Std(moments) => moments.remove(value),
            Running::Own(_) => {}
        }
    }

    /// The aggregate of the rows (time, value) inside, which are what was added and not removed. Most
    /// aggregates do not look at them.
    pub(super) fn value<R: Iterator<Item = (i64, f64)>>(
        &self,
        inside: impl FnOnce() -> R,
    ) -> Option<f64> {
        match self {
            Running::Count(count) => Some(*count as f64),
            Running::Sum(sum) => sum.sum(),
            Running::Mean(sum) => sum.mean(),
            Running::Extreme(extreme) => extreme.value(),
            Running::Std(moments) => moments.sample_deviation(),
            Running::Own(own) => own.evaluate(&mut inside()),
        }
    }

    /// The same aggregate of other rows (time, value), the oldest first; the same bits as one that was
    /// kept running.
    pub(super) fn scan(&self, mut rows: impl Iterator<Item = (i64, f64)>) -> Option<f64> {
        let mut running = match self {
            Running::Count(_) => Running::Count(0),
            Running::Sum(_) => Running::Sum(CountedSum::default()),
            Running::Mean(_) => Running::Mean(CountedSum::default()),
            Running::Extreme(extreme) => return extreme.scan(rows.map(|(_, value)| value)),
            Running::Std(_) => Running::Std(Box::default()),
            Running::Own(own) => return own.evaluate(&mut rows),
        };
        rows.for_each(|(time, value)| running.add(time, value));
        running.value(std::iter::empty)
    }
}

impl CountedSum {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
    }

    fn remove(&mut self, value: f64) {
        self.count -= 1;
        self.sum.sub(value);
    }

    fn sum(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.value())
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.value() / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f64 = f64::INFINITY;

    /// The aggregate of values at times 0, 1, …, after the first `left` have left.
    fn after(aggregate: Aggregate, values: &[f64], left: usize) -> Option<f64> {
        let mut running = Running::new(aggregate).unwrap();
        (0..).zip(values).for_each(|(time, &value)| running.add(time, value));
        (0..).zip(&values[..left]).for_each(|(time, &value)| running.remove(time, value));
        running.value(std::iter::empty)
    }

    #[test]
    fn infinite_values_are_values_and_leave_no_trace() {
        use Aggregate::{Count, Max, Mean, Min, Std, Sum};
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        for (values, wanted) in [
            ([INF, 1.0, 4.0], [(Sum, INF), (Mean, INF), (Min, 1.0), (Max, INF), (Count, 3.0)]),
            ([-INF, 1.0, 4.0], [(Sum, -INF), (Mean, -INF), (Min, -INF), (Max, 4.0), (Count, 3.0)]),
        ] {
            for (aggregate, value) in wanted {
                assert_eq!(after(aggregate, &values, 0), Some(value), "{values:?}");
            }
            assert!(after(Std, &values, 0).is_some_and(f64::is_nan));
        }
        // Of both infinities there is no sum.
        let both = [INF, -INF, 0.1, 0.7, -3.0];
        assert!([Sum, Mean, Std].iter().all(|&a| after(a, &both, 0).is_some_and(f64::is_nan)));
        assert_eq!((after(Min, &both, 0), after(Max, &both, 0)), (Some(-INF), Some(INF)));
        for aggregate in [Sum, Mean, Min, Max, Std, Count] {
            let (left, never) = (after(aggregate, &both, 2), after(aggregate, &both[2..], 0));
            assert_eq!(bits(left), bits(never));
        }
    }
}

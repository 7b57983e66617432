//! A sample as the job's mode keeps it.

use std::sync::Arc;

use crate::drift::profile::{Bins, Profile};
use crate::drift::runs::{MergeSpace, Runs};

/// How samples are kept.
#[derive(Clone, Debug)]
pub enum Mode {
    /// All values: figures are those of SciPy and NumPy, memory grows with the rows of a window.
    Exact,
    /// Counts per bin of each column's reference: bounded memory, and a bounded error.
    Profile(Vec<Arc<Bins>>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Exact(Runs),
    Profile(Profile),
}

impl Sample {
    /// The union of samples of one column; `None` of none.
    pub fn merge<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Option<Sample> {
        Sample::merge_in(&mut MergeSpace::default(), samples)
    }

    /// As [`merge`](Self::merge).
    pub fn merge_in<'a>(
        space: &mut MergeSpace,
        samples: impl IntoIterator<Item = &'a Sample>,
    ) -> Option<Sample> {
        let mut runs = Vec::new();
        let mut profile: Option<Profile> = None;
        for sample in samples {
            match sample {
                Sample::Exact(sample) => runs.push(sample),
                Sample::Profile(sample) => profile.get_or_insert_default().merge(sample),
            }
        }
        match profile {
            Some(profile) => Some(Sample::Profile(profile)),
            None if runs.is_empty() => None,
            None => Some(Sample::Exact(space.merge(&runs))),
        }
    }

    /// How much work it is to merge it, in values or cells.
    fn weight(&self) -> usize {
        match self {
            Sample::Exact(runs) => runs.values.len(),
            Sample::Profile(profile) => profile.counts.len(),
        }
    }
}

/// A sample that grows by parts.
#[derive(Default)]
pub struct GrowingSample {
    parts: Vec<Sample>,
    pub null_count: u64,
}

impl GrowingSample {
    /// Adds a part. Parts are merged once they are as heavy as those before them, so that a value is
    /// moved a logarithmic number of times however small the parts are.
    pub fn push(&mut self, part: Sample, null_count: u64) {
        self.null_count += null_count;
        self.parts.push(part);
        while let [.., before, last] = self.parts.as_slice()
            && last.weight() * 2 >= before.weight()
        {
            let merged = Sample::merge([before, last]);
            self.parts.truncate(self.parts.len() - 2);
            self.parts.extend(merged);
        }
    }

    /// How much work it is to merge it, in values or cells.
    pub fn weight(&self) -> usize {
        self.parts.iter().map(Sample::weight).sum()
    }

    /// The parts as one sample; `None` if there was none.
    pub fn merged(&self) -> Option<Sample> {
        Sample::merge(&self.parts)
    }

    /// Merges all parts into one.
    pub fn consolidate(&mut self) {
        if self.parts.len() > 1 {
            self.parts = Sample::merge(&self.parts).into_iter().collect();
        }
    }

    /// The parts as one sample, once they are consolidated; `None` if there was none.
    pub fn whole(&self) -> Option<&Sample> {
        self.parts.first().filter(|_| self.parts.len() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_any_size_grow_to_the_whole() {
        let values: Vec<f64> = (0..1_000).map(|i| f64::from(i * 7_919 % 311)).collect();
        let bins = Bins::new(&Runs::from_values(values.clone()), 16);
        for size in [1, 3, 400, 1_000] {
            let (mut exact, mut profile) = (GrowingSample::default(), GrowingSample::default());
            for part in values.chunks(size) {
                exact.push(Sample::Exact(Runs::from_values(part.to_vec())), 1);
                let mut counts = Profile::default();
                part.iter().for_each(|&value| counts.add(&bins, value));
                profile.push(Sample::Profile(counts), 0);
            }
            assert!(exact.parts.len() <= 11 && profile.parts.len() <= 11);
            assert_eq!(exact.null_count, values.chunks(size).len() as u64);
            exact.consolidate();
            profile.consolidate();
            let whole = Sample::Exact(Runs::from_values(values.clone()));
            assert_eq!(exact.whole(), Some(&whole));
            let mut counts = Profile::default();
            values.iter().for_each(|&value| counts.add(&bins, value));
            assert_eq!(profile.whole(), Some(&Sample::Profile(counts)));
        }
        assert_eq!(GrowingSample::default().whole(), None);
    }
}

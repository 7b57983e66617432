//! Models that score a row together.

use crate::model::Task;
use crate::numbers::Numbers;

/// How predictions of members become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Σ w·p / Σ w, number by number.
    WeightedAverage,
    /// The prediction of the member that is surest; of regressions the largest.
    Max,
    /// Each member votes for its most probable class; the prediction is how the weight of votes is shared
    /// among the classes.
    Majority,
    /// A model whose inputs are members' scores.
    Stacking {
        /// Its place among models.
        by: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    pub name: String,
    pub policy: Policy,
    pub members: Vec<Member>,
    /// What a failed regression counts as.
    pub neutral: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its place among models.
    pub model: usize,
    pub weight: f64,
}

/// What a member says of a row; nothing where it has failed.
pub type Said<'a> = Option<&'a [f64]>;

/// A row's prediction, and its confidence where that is not the largest probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    pub prediction: Vec<f64>,
    pub confidence: Option<f64>,
}

impl Ensemble {
    /// All models that take part.
    pub fn models(&self) -> Vec<usize> {
        let members = self.members.iter().map(|member| member.model);
        match self.policy {
            Policy::Stacking { by } => members.chain([by]).collect(),
            _ => members.collect(),
        }
    }

    /// What a failed member counts as, whose prediction has `width` numbers: as probable a class as any
    /// other, or what the job says of a regression.
    pub fn neutral(&self, task: Task, width: usize) -> Vec<f64> {
        match task {
            Task::Regression => vec![self.neutral.unwrap_or(f64::NAN)],
            _ => vec![1.0 / width as f64; width],
        }
    }

    /// The prediction of a row that members of a task say, `width` numbers each; none if all have failed.
    /// Stacking is no such figure.
    pub fn together(&self, task: Task, width: usize, said: &[Said]) -> Option<Together> {
        if said.iter().all(Option::is_none) {
            return None;
        }
        match self.policy {
            Policy::WeightedAverage => Some(self.average(task, width, said)),
            Policy::Max => self.surest(said),
            Policy::Majority => Some(self.votes(width, said)),
            Policy::Stacking { .. } => None,
        }
    }

    fn average(&self, task: Task, width: usize, said: &[Said]) -> Together {
        let neutral = self.neutral(task, width);
        let (mut sums, mut confidence, mut whole) = (vec![0.0; width], 0.0, 0.0);
        for (Member { weight, .. }, said) in self.members.iter().zip(said) {
            let numbers = said.unwrap_or(&neutral);
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += weight * number);
            confidence += weight * said.map_or(0.0, largest);
            whole += weight;
        }
        sums.iter_mut().for_each(|sum| *sum /= whole);
        let confidence = (task != Task::Regression).then_some(confidence / whole);
        Together { prediction: sums, confidence }
    }

    fn surest(&self, said: &[Said]) -> Option<Together> {
        let mut surest: Option<&[f64]> = None;
        for numbers in said.iter().copied().flatten() {
            if surest.is_none_or(|before| largest(numbers) > largest(before)) {
                surest = Some(numbers);
            }
        }
        surest.map(|numbers| Together { prediction: numbers.to_vec(), confidence: None })
    }

    fn votes(&self, width: usize, said: &[Said]) -> Together {
        let (mut votes, mut whole) = (vec![0.0; width], 0.0);
        for (Member { weight, .. }, said) in self.members.iter().zip(said) {
            let Some(numbers) = said else { continue };
            votes[first_of_largest(numbers)] += weight;
            whole += weight;
        }
        votes.iter_mut().for_each(|vote| *vote /= whole);
        Together { prediction: votes, confidence: None }
    }
}

/// The largest of a row's numbers.
pub fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn first_of_largest(numbers: &[f64]) -> usize {
    let mut at = 0;
    for (other, number) in numbers.iter().enumerate() {
        if *number > numbers[at] {
            at = other;
        }
    }
    at
}

/// The numbers of a row as doubles.
pub fn of_row(predictions: &Numbers, width: usize, row: usize) -> Vec<f64> {
    (row * width..(row + 1) * width).map(|at| predictions.at(at)).collect()
}

/// The one number that stands for a row's prediction.
pub fn score(task: Task, numbers: &[f64]) -> f64 {
    match task {
        Task::Binary => numbers[1],
        Task::Multiclass => largest(numbers),
        Task::Regression => numbers[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensemble(policy: Policy, weights: &[f64]) -> Ensemble {
        let members = weights.iter().enumerate();
        let members = members.map(|(model, &weight)| Member { model, weight }).collect();
        Ensemble { name: "e".to_owned(), policy, members, neutral: Some(-1.0) }
    }

    fn together(policy: Policy, weights: &[f64], said: &[Said]) -> (Vec<f64>, Option<f64>) {
        let said = ensemble(policy, weights).together(Task::Binary, 2, said).unwrap();
        (said.prediction, said.confidence)
    }

    #[test]
    fn a_failed_member_is_neutral_and_has_no_confidence() {
        let said = [Some([0.25, 0.75].as_slice()), None];
        let average = together(Policy::WeightedAverage, &[3.0, 1.0], &said);
        assert_eq!(average, (vec![0.3125, 0.6875], Some(0.5625)));
        let of_one = ensemble(Policy::WeightedAverage, &[1.0, 1.0]);
        let of_one = of_one.together(Task::Regression, 1, &[Some(&[3.0]), None]).unwrap();
        assert_eq!(of_one, Together { prediction: vec![1.0], confidence: None });
        for policy in [Policy::WeightedAverage, Policy::Max, Policy::Majority] {
            assert_eq!(ensemble(policy, &[1.0]).together(Task::Binary, 2, &[None]), None);
        }
    }

    #[test]
    fn the_first_of_the_surest_counts_and_votes_are_shares_of_weight() {
        let said: [Said; 4] = [None, Some(&[0.75, 0.25]), Some(&[0.25, 0.75]), Some(&[0.5, 0.5])];
        assert_eq!(together(Policy::Max, &[1.0; 4], &said), (vec![0.75, 0.25], None));
        let votes = together(Policy::Majority, &[9.0, 1.0, 5.0, 2.0], &said);
        assert_eq!(votes, (vec![0.375, 0.625], None));
    }
}

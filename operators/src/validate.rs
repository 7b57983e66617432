//! Which enriched rows go on: those that lack nothing the model needs, and keep the rules of the job.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::dead_letter::{DeadLetters, Reason};
use crate::features::rules::{Rules, failed_by};
use crate::features::validity::OnFail;
use crate::layout::EventLayout;
use crate::model_input::ModelInput;
use crate::partition_names::PartitionNames;

/// Sees to the rows of one worker.
pub struct Validator {
    pub layout: EventLayout,
    pub partition_names: PartitionNames,
    pub rules: Arc<Rules>,
    pub counters: Counters,
}

impl Validator {
    /// The rows of an enriched batch that go on, and dead letters for the others: one a row, that names
    /// all rules which make it one, or else the first of the features that it lacks. What rows
    /// fail is counted, by rule.
    ///
    /// # Errors
    /// If a column of a dead letter has no JSON form.
    pub fn sift(
        &self,
        batch: RecordBatch,
        required: &[ModelInput],
    ) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
        let has_null = |input: &&ModelInput| batch.column(input.column).null_count() > 0;
        let lacking: Vec<&ModelInput> = required.iter().filter(has_null).collect();
        let has_failed = self.has_failed(&batch);
        if lacking.is_empty() && !has_failed {
            return Ok((batch, None));
        }
        let mut letters = DeadLetters::new(self.partition_names.clone());
        let mut counts = vec![0u64; self.rules.iter().count()];
        let mut goes_on = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let broken = match has_failed {
                true => self.broken(&batch, row, &mut counts),
                false => None,
            };
            let missing = lacking.iter().find(|input| batch.column(input.column).is_null(row));
            let letter = match (broken, missing) {
                (Some(detail), _) => Some((Reason::ValidationFailed, detail)),
                (None, Some(input)) => Some((Reason::MissingFeature, missing_detail(input))),
                (None, None) => None,
            };
            goes_on.push(letter.is_none());
            if let Some((reason, detail)) = letter {
                letters.row(reason, &detail, &batch, &self.layout, row)?;
            }
        }
        self.count(&counts);
        if letters.is_empty() {
            return Ok((batch, None));
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(goes_on))?;
        Ok((batch, Some(letters.finish())))
    }

    /// The rows that lack none of the features that a model needs, and dead letters for the others.
    ///
    /// # Errors
    /// As [`sift`](Self::sift).
    pub fn lacking(
        &self,
        batch: RecordBatch,
        required: &[ModelInput],
    ) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
        let lacks = |input: &&ModelInput| batch.column(input.column).null_count() > 0;
        let lacking: Vec<&ModelInput> = required.iter().filter(lacks).collect();
        if lacking.is_empty() {
            return Ok((batch, None));
        }
        let mut letters = DeadLetters::new(self.partition_names.clone());
        let mut goes_on = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let missing = lacking.iter().find(|input| batch.column(input.column).is_null(row));
            goes_on.push(missing.is_none());
            if let Some(input) = missing {
                let detail = missing_detail(input);
                letters.row(Reason::MissingFeature, &detail, &batch, &self.layout, row)?;
            }
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(goes_on))?;
        Ok((batch, Some(letters.finish())))
    }

    /// Whether a row fails any rule.
    fn has_failed(&self, batch: &RecordBatch) -> bool {
        let failed = batch.columns().last().filter(|_| !self.rules.is_empty());
        failed.is_some_and(|failed| failed.null_count() < failed.len())
    }

    /// Counts what a row failed, and says what makes it a dead letter, if that does.
    fn broken(&self, batch: &RecordBatch, row: usize, counts: &mut [u64]) -> Option<String> {
        let failed = failed_by(batch.columns().last()?, row);
        failed.iter().for_each(|&number| counts[number as usize] += 1);
        let first_feature = self.layout.schema.fields().len();
        let rules = failed.into_iter().map(|number| self.rules.get(number));
        let fatal = rules.filter(|rule| rule.on_fail == OnFail::DeadLetter);
        let details: Vec<String> =
            fatal.map(|rule| rule.detail(batch, first_feature, row)).collect();
        (!details.is_empty()).then(|| details.join("; "))
    }

    fn count(&self, counts: &[u64]) {
        let of_rules = self.rules.iter().zip(counts).filter(|(_, rows)| **rows > 0);
        self.counters.rules_failed(of_rules.map(|(rule, rows)| (rule.name.as_str(), *rows)));
    }
}

/// What is wrong with a row that lacks a feature.
pub fn missing_detail(input: &ModelInput) -> String {
    format!("feature {:?} is null and has no default", input.name)
}

//! The reference that drift is measured against: values and counts, never the training table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Float64Array, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;

use crate::drift::runs::{Moments, Runs};
use crate::drift::sample::Sample;
use crate::drift::windows::{Issued, WindowOutput};
use crate::watermark::Span;

/// The reference values of one watched column.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub runs: Runs,
    pub null_count: u64,
    pub moments: Moments,
}

impl Reference {
    pub fn new(runs: Runs, null_count: u64) -> Self {
        Reference { moments: runs.moments(), runs, null_count }
    }

    /// One without values.
    pub fn none() -> Self {
        Reference::new(Runs::default(), 0)
    }
}

/// Whether a baseline holds all rows it was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferenceKind {
    #[default]
    Full,
    /// Only some, drawn at random.
    Sample,
}

impl ReferenceKind {
    pub fn name(self) -> &'static str {
        match self {
            ReferenceKind::Full => "full",
            ReferenceKind::Sample => "sample",
        }
    }
}

/// References by name of the watched column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    pub references: BTreeMap<String, Reference>,
}

/// Up to here a count is a whole `f64`.
const ROWS_MAX: u64 = 1 << 53;

/// Why a file is not a baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error(
        "not a baseline: column {0:?} is missing, of another type, or has nulls; make one with `driftline baseline`"
    )]
    Column(&'static str),
    #[error("not a baseline: values of {feature:?} are not ascending numbers")]
    Values { feature: String },
    #[error("not a baseline: counts of {feature:?} are zero, or add up to 2^53 or more")]
    Counts { feature: String },
}

/// Columns of a baseline: one row a distinct value, null values (null or NaN) as one row.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("feature", DataType::Utf8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("count", DataType::UInt64, false),
    ]))
}

/// The rows of one column of a baseline.
pub fn to_batch(name: &str, runs: &Runs, null_count: u64) -> RecordBatch {
    let rows = runs.values.len() + 1;
    let mut names = StringBuilder::with_capacity(rows, rows * name.len());
    (0..rows).for_each(|_| names.append_value(name));
    let values: Float64Array =
        std::iter::once(None).chain(runs.values.iter().copied().map(Some)).collect();
    let counts: UInt64Array =
        std::iter::once(null_count).chain(runs.counts.iter().copied()).map(Some).collect();
    RecordBatch::try_new(
        schema(),
        vec![Arc::new(names.finish()), Arc::new(values), Arc::new(counts)],
    )
    .expect("columns of the schema")
}

/// Turns the one window of a baseline into its rows.
pub struct BaselineFormat {
    /// Of the watched columns.
    pub names: Vec<String>,
}

impl WindowOutput for BaselineFormat {
    type Figures = (Sample, u64);

    fn figures(&self, _column: usize, sample: &Sample, null_count: u64) -> Self::Figures {
        (sample.clone(), null_count)
    }

    fn batch(
        &self,
        windows: &[Issued<Self::Figures>],
        _seen: Span,
    ) -> Result<RecordBatch, ArrowError> {
        let batches = windows.iter().filter_map(|window| match &window.figures {
            (Sample::Exact(runs), nulls) => {
                // Of a run with several versions the last column is of the first of them.
                self.names.get(window.column).map(|name| to_batch(name, runs, *nulls))
            }
            (Sample::Profile(_), _) => None,
        });
        concat_batches(&schema(), &batches.collect::<Vec<_>>())
    }
}

impl Baseline {
    /// Reads batches of [`schema`], in any order of features.
    ///
    /// # Errors
    /// If they are not a baseline.
    pub fn from_batches(batches: &[RecordBatch]) -> Result<Self, BaselineError> {
        let mut parts: BTreeMap<String, (Runs, u64)> = BTreeMap::new();
        for batch in batches {
            for stretch in stretches(batch)? {
                let (runs, nulls) = parts.entry(stretch.name.to_owned()).or_default();
                stretch.add_to(runs, nulls);
            }
        }
        let mut baseline = Baseline::default();
        for (feature, (runs, nulls)) in parts {
            let reference = checked(&feature, runs, nulls)?;
            baseline.references.insert(feature, reference);
        }
        Ok(baseline)
    }
}

/// Reads a baseline whose rows of a feature stand together, as they are written: each reference is given
/// out when it is whole, and no more than one is in memory.
#[derive(Default)]
pub struct References {
    of: Option<(String, Runs, u64)>,
    /// The features whose rows are all behind.
    given: BTreeSet<String>,
}

/// What becomes of rows of a baseline that are read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// The rows of every feature so far.
    Yes,
    /// Not those of a feature that was given out: all rows are to be read by [`Baseline::from_batches`].
    No,
}

impl References {
    /// Goes on with a batch of [`schema`]; the references that are whole are `given`.
    ///
    /// # Errors
    /// If it is none of a baseline.
    pub fn add(
        &mut self,
        batch: &RecordBatch,
        given: &mut impl FnMut(&str, Reference),
    ) -> Result<Together, BaselineError> {
        for stretch in stretches(batch)? {
            if self.of.as_ref().is_some_and(|(name, ..)| name != stretch.name) {
                self.give(given)?;
            }
            if self.given.contains(stretch.name) {
                return Ok(Together::No);
            }
            let unseen = || (stretch.name.to_owned(), Runs::default(), 0);
            let (_, runs, nulls) = self.of.get_or_insert_with(unseen);
            stretch.add_to(runs, nulls);
        }
        Ok(Together::Yes)
    }

    /// Gives out the last reference.
    ///
    /// # Errors
    /// If it is none.
    pub fn give(&mut self, given: &mut impl FnMut(&str, Reference)) -> Result<(), BaselineError> {
        let Some((name, runs, nulls)) = self.of.take() else { return Ok(()) };
        given(&name, checked(&name, runs, nulls)?);
        self.given.insert(name);
        Ok(())
    }
}

/// Neighbouring rows of one feature.
struct Stretch<'a> {
    name: &'a str,
    values: &'a Float64Array,
    counts: &'a UInt64Array,
    rows: Range<usize>,
}

impl Stretch<'_> {
    fn add_to(&self, runs: &mut Runs, nulls: &mut u64) {
        for row in self.rows.clone() {
            if self.values.is_null(row) {
                *nulls = nulls.saturating_add(self.counts.value(row));
            } else {
                runs.values.push(self.values.value(row) + 0.0);
                runs.counts.push(self.counts.value(row));
            }
        }
    }
}

/// The rows of a batch by feature.
fn stretches(batch: &RecordBatch) -> Result<Vec<Stretch<'_>>, BaselineError> {
    let names: &StringArray = column(batch, "feature")?
        .as_string_opt()
        .filter(|names: &&StringArray| names.null_count() == 0)
        .ok_or(BaselineError::Column("feature"))?;
    let values = column(batch, "value")?
        .as_primitive_opt::<Float64Type>()
        .ok_or(BaselineError::Column("value"))?;
    let counts = column(batch, "count")?
        .as_primitive_opt::<UInt64Type>()
        .filter(|counts| counts.null_count() == 0)
        .ok_or(BaselineError::Column("count"))?;
    let mut stretches = Vec::new();
    let mut start = 0;
    while start < batch.num_rows() {
        let name = names.value(start);
        let same = (start..batch.num_rows()).take_while(|&row| names.value(row) == name);
        let rows = start..start + same.count();
        start = rows.end;
        stretches.push(Stretch { name, values, counts, rows });
    }
    Ok(stretches)
}

/// The reference of a feature, if that is what its rows are.
fn checked(feature: &str, runs: Runs, nulls: u64) -> Result<Reference, BaselineError> {
    let ascending = runs.values.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || runs.values.iter().any(|value| value.is_nan()) {
        return Err(BaselineError::Values { feature: feature.to_owned() });
    }
    let rows = runs.counts.iter().fold(nulls, |rows, count| rows.saturating_add(*count));
    if runs.counts.contains(&0) || rows >= ROWS_MAX {
        return Err(BaselineError::Counts { feature: feature.to_owned() });
    }
    Ok(Reference::new(runs, nulls))
}

fn column<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<&'a arrow::array::ArrayRef, BaselineError> {
    batch.column_by_name(name).ok_or(BaselineError::Column(name))
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;

    use super::*;

    #[test]
    fn a_baseline_survives_its_file_form() {
        let runs = Runs::from_values(vec![3.0, 1.0, 3.0]);
        let batch = to_batch("x", &runs, 4);
        let back = Baseline::from_batches(&[batch.slice(0, 2), batch.slice(2, 1)]).unwrap();
        assert_eq!(back.references["x"], Reference::new(runs, 4));
    }

    /// In batches of any size, against reading all of it at once.
    #[test]
    fn references_are_given_out_one_by_one() {
        let part = |name: &str, values: &[f64], nulls| {
            to_batch(name, &Runs::from_values(values.to_vec()), nulls)
        };
        let parts = [part("b", &[3.0, 1.0, 3.0], 4), part("a", &[], 2), part("c", &[0.5; 9], 0)];
        let together = concat_batches(&schema(), &parts).unwrap();
        let again = concat_batches(&schema(), &[together.clone(), parts[1].clone()]).unwrap();
        for rows in 1..=together.num_rows() {
            let read = |all: &RecordBatch| {
                let (mut references, mut found) = (References::default(), Vec::new());
                let mut given = |name: &str, of| found.push((name.to_owned(), of));
                for start in (0..all.num_rows()).step_by(rows) {
                    let batch = all.slice(start, rows.min(all.num_rows() - start));
                    if references.add(&batch, &mut given).unwrap() == Together::No {
                        return None;
                    }
                }
                references.give(&mut given).unwrap();
                Some(found)
            };
            let found = read(&together).unwrap();
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["b", "a", "c"]);
            let expected = Baseline::from_batches(std::slice::from_ref(&together)).unwrap();
            assert_eq!(Baseline { references: found.into_iter().collect() }, expected);
            assert_eq!(read(&again), None, "rows of a stand apart");
        }
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let cases: [(&[f64], &[u64]); 6] = [
            (&[2.0, 1.0], &[1, 1]),
            (&[1.0, 1.0], &[1, 1]),
            (&[-0.0, 0.0], &[1, 1]),
            (&[f64::NAN], &[1]),
            (&[1.0, 2.0], &[1, 0]),
            (&[1.0, 2.0], &[u64::MAX, 2]),
        ];
        for (values, counts) in cases {
            let batch =
                to_batch("x", &Runs { values: values.to_vec(), counts: counts.to_vec() }, 3);
            assert!(Baseline::from_batches(&[batch]).is_err(), "{values:?} {counts:?}");
        }
    }

    #[test]
    fn a_column_with_nulls_where_there_are_none_is_refused() {
        let (batch, schema) = (to_batch("x", &Runs::from_values(vec![1.0]), 0), schema());
        for (name, nulls) in [
            ("feature", Arc::new(StringArray::from(vec![Some("x"), None])) as ArrayRef),
            ("count", Arc::new(UInt64Array::from(vec![Some(1), None]))),
        ] {
            let columns = schema.fields().iter().zip(batch.columns()).map(|(field, own)| {
                let column = if field.name() == name { nulls.clone() } else { own.clone() };
                (field.name().clone(), column, true)
            });
            let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            assert!(Baseline::from_batches(&[batch]).is_err(), "{name}");
        }
    }
}

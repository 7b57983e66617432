//! Nulls and NaN are in no sample: figures of columns that have them equal SciPy's without them.

use driftline_operators::drift::baseline::{Baseline, Reference, to_batch};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::figures::Comparison;
use driftline_operators::drift::panes::OpenPanes;
use driftline_operators::drift::partials::Partial;
use driftline_operators::drift::sample::{Mode, Sample};
use driftline_operators::drift::windows::{Revisions, Schedule};
use driftline_operators::watched::Seen;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/numeric/ks_missing_golden.txt"));

fn parse(text: &str) -> Vec<Option<f64>> {
    text.split(',').map(|value| (value != "null").then(|| value.parse().unwrap())).collect()
}

/// What a worker makes of a column of rows.
fn gathered(values: &[Option<f64>]) -> Partial {
    let rows = values.len();
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("time", Arc::new(Int64Array::from(vec![5; rows])), false),
        ("late", Arc::new(BooleanArray::from(vec![false; rows])), false),
        ("value", Arc::new(Float64Array::from(values.to_vec())), true),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let schedule = Schedule { lengths: vec![WindowLength::Millis(10)], revisions: Revisions::NONE };
    let mut panes = OpenPanes::new(schedule, Mode::Exact, 1);
    panes.add(&Seen { epoch: 0, version: 0, rows, with_features: true });
    panes.close(10).pop().unwrap()
}

/// A reference as its file has it.
fn reference(values: &[Option<f64>]) -> Reference {
    let Partial { sample: Sample::Exact(runs), null_count, .. } = gathered(values) else {
        panic!("exact panes hold values")
    };
    let mut baseline = Baseline::from_batches(&[to_batch("x", &runs, null_count)]).unwrap();
    baseline.references.remove("x").unwrap()
}

#[test]
fn figures_leave_out_what_is_missing_as_scipy_does() {
    let from_bits = |hex: &str| f64::from_bits(u64::from_str_radix(hex, 16).unwrap());
    let (mut tested, mut empty) = (0, 0);
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let [statistic, p_value, current, base] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("four fields expected: {line}")
        };
        let (current, base) = (parse(current), parse(base));
        let missing = |values: &[Option<f64>]| {
            values.iter().filter(|value| value.is_none_or(f64::is_nan)).count() as u64
        };
        let partial = gathered(&current);
        assert_eq!(partial.null_count, missing(&current), "{line}");
        let reference = reference(&base);
        assert_eq!(reference.null_count, missing(&base), "{line}");
        let figures = Comparison::exact(&reference).figures(&partial.sample, partial.null_count);
        assert_eq!(figures.null_count, missing(&current), "{line}");
        assert_eq!(figures.current.n + figures.null_count, current.len() as u64, "{line}");
        let Some(ks) = figures.ks else {
            assert_eq!(statistic, "-", "{line}");
            empty += 1;
            continue;
        };
        assert_eq!(ks.statistic.to_bits(), from_bits(statistic).to_bits(), "{line}");
        let error = (ks.p_value / from_bits(p_value) - 1.0).abs();
        assert!(error < 1e-12, "{line}: {error:e}");
        tested += 1;
    }
    assert!(tested > 20 && empty > 0, "{tested} tested, {empty} empty");
}

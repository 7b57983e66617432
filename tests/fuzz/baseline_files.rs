//! Baseline files: damaged, and well written with what no baseline has.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use driftline::run::baseline_file::BaselineFile;
use driftline_operators::drift::baseline::{Baseline, to_batch};
use driftline_operators::drift::runs::Runs;
use parquet::arrow::ArrowWriter;

use crate::campaign::{Given, run};
use crate::mutate::{mutate, mutate_tail};
use crate::random::Random;

/// A baseline that is one, as the program writes it.
fn sound(path: &Path) -> Vec<u8> {
    let values = |n: usize| (0..n).map(|at| (at * at % 31) as f64 / 4.0).collect::<Vec<f64>>();
    let batches: Vec<RecordBatch> = ["a", "b", "prediction"]
        .iter()
        .zip([5, 40, 90])
        .map(|(name, n)| to_batch(name, &Runs::from_values(values(n)), 100 - n as u64))
        .collect();
    let baseline = Baseline::from_batches(&batches).unwrap();
    BaselineFile::new(baseline, 100, None).write(path, Vec::new()).unwrap();
    std::fs::read(path).unwrap()
}

/// What a baseline that was taken must be: the figures of drift rely on it.
fn check(file: &BaselineFile) -> Result<(), String> {
    for (name, reference) in &file.baseline.references {
        let runs = &reference.runs;
        if runs.values.len() != runs.counts.len() || runs.counts.contains(&0) {
            return Err(format!("{name:?}: values and counts do not go together"));
        }
        if !runs.values.is_sorted_by(|a, b| a < b) {
            return Err(format!("{name:?}: values are not ascending"));
        }
        let total: u128 = runs.counts.iter().map(|&count| u128::from(count)).sum();
        if u128::from(reference.moments.n) != total {
            return Err(format!("{name:?}: {} of {total} values", reference.moments.n));
        }
        let held = reference.moments.n.min(1_000);
        let thinned = reference.thinned(held, 7);
        let kept = thinned.moments.n + thinned.null_count;
        if kept != held.min(reference.moments.n + reference.null_count) {
            return Err(format!("{name:?}: thinned to {kept} rows, not {held}"));
        }
    }
    Ok(())
}

/// A file of the right columns with any values.
fn strange(random: &mut Random) -> Vec<u8> {
    let rows = random.below(30);
    let number = |random: &mut Random, at: usize| match random.below(20) {
        0 => f64::from_bits(random.next()),
        1 => random.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, 5e-324]),
        _ => at as f64,
    };
    let count = |random: &mut Random| match random.below(20) {
        0 => random.next(),
        1 => random.pick(&[0, u64::MAX, u64::MAX / 2, 1 << 53, 1 << 40]),
        _ => 1 + random.below(9) as u64,
    };
    let features = (0..rows).map(|at| if at < rows / 2 { "a" } else { "b" });
    let features: ArrayRef = Arc::new(StringArray::from_iter_values(features));
    let values = (0..rows).map(|at| {
        let null = random.one_in(20);
        (!null).then(|| number(random, at))
    });
    let values: ArrayRef = Arc::new(Float64Array::from_iter(values.collect::<Vec<_>>()));
    let counts = (0..rows).map(|_| count(random)).collect::<Vec<_>>();
    let counts: ArrayRef = Arc::new(UInt64Array::from(counts));
    let mut columns = vec![("feature", features), ("value", values), ("count", counts)];
    if random.one_in(8) {
        let wrong = columns[random.below(3)].1.clone();
        columns[random.below(3)].1 = wrong;
    }
    if random.one_in(20) {
        let at = random.below(3);
        columns.remove(at);
    }
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn baseline_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baseline.parquet");
    let whole = sound(&path);
    check(&BaselineFile::read(&path).unwrap()).unwrap();
    run("baseline_files", 3_000, |random, given: &mut Given| {
        given.0 = if random.one_in(3) { strange(random) } else { whole.clone() };
        match random.below(3) {
            0 => mutate(random, &mut given.0),
            1 => mutate_tail(random, &mut given.0, 1_200),
            _ if given.0 == whole => mutate(random, &mut given.0),
            _ => {}
        }
        std::fs::write(&path, &given.0).unwrap();
        match BaselineFile::read(&path) {
            Ok(file) => check(&file),
            Err(error) => match format!("{error:#}") {
                text if text.contains("baseline.parquet") && text.lines().count() == 1 => Ok(()),
                text => Err(format!("the error is not one line with the path: {text:?}")),
            },
        }
    });
}

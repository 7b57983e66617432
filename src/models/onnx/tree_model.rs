//! Models that are ensembles of trees and nothing else, without ONNX Runtime.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use driftline_operators::model::{Model, ModelError, Scores, Task};
use driftline_operators::numbers::Numbers;
use fastrand::Rng;

use super::outputs::predictions;
use super::tensors::{TensorInput, fill_block};
use crate::models::trees::{CompiledTrees, Ensemble, Node, Test};

/// Rows on which compiled trees must agree with ONNX Runtime before they take its place.
const ROWS: usize = 2_048;
/// Rows of the batches that they come in, in turn: each way has forms for some of these.
const BATCHES: [usize; 4] = [64, 16, 8, 1];
const SEED: u64 = 1;

/// A model of compiled trees.
#[derive(Clone)]
pub struct TreeModel {
    pub input: TensorInput,
    pub trees: CompiledTrees,
    pub width: usize,
    pub task: Task,
    pub keep_input: bool,
}

impl Model for TreeModel {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let TreeModel { input, trees, .. } = self;
        let sums = trees.score_by_feature(features.num_rows(), |rows, block| {
            fill_block(&input.bound, features, rows, block);
        });
        let predictions =
            predictions(Numbers::Floats(sums), trees.width(), self.width).into_floats();
        if !self.keep_input {
            return Ok(Scores { predictions, input: None });
        }
        input.fill(features)?;
        let kept = input.floats().unwrap_or_default().to_vec();
        Ok(Scores { predictions, input: Some(Float32Array::from(kept)) })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn task(&self) -> Task {
        self.task
    }
}

/// Scores made-up rows with both, by each way that trees have; of these the fastest are kept.
///
/// # Errors
/// If one of them refuses the rows, or a bit differs.
pub fn compare(
    trees: &mut TreeModel,
    model: &mut dyn Model,
    ensemble: &Ensemble,
) -> Result<(), String> {
    let rows = telling_rows(ensemble);
    let theirs = model.score(&rows).map_err(|error| error.to_string())?.predictions;
    // What is not a number need not have the same bits.
    let agree = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    for way in trees.trees.ways() {
        trees.trees.go(way);
        let mut ours = Vec::with_capacity(theirs.len());
        let (mut first, mut sizes) = (0, BATCHES.into_iter().cycle());
        while let Some(size) = sizes.next().filter(|_| first < ROWS) {
            let some = rows.slice(first, size.min(ROWS - first));
            ours.extend(trees.score(&some).map_err(|error| error.to_string())?.predictions);
            first += size;
        }
        if ours.len() != theirs.len() || !ours.iter().zip(&theirs).all(agree) {
            return Err(format!("ONNX Runtime scores {ROWS} made-up rows otherwise"));
        }
    }
    let TreeModel { input, trees, .. } = trees;
    trees.keep_the_fastest(|trees, count| {
        trees.score_by_feature(count, |some, block| fill_block(&input.bound, &rows, some, block));
    });
    Ok(())
}

/// Seeded random rows that come to many leaves: values on, just beside and between the thresholds of
/// their feature, and some that are missing, infinite or zero.
fn telling_rows(ensemble: &Ensemble) -> RecordBatch {
    let mut thresholds: Vec<Vec<f32>> = vec![Vec::new(); ensemble.features];
    for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
        if let Node::Branch(branch) = node {
            match &branch.test {
                Test::AtMost(threshold) | Test::Below(threshold) => {
                    thresholds[branch.feature].push(*threshold);
                }
                Test::OneOf(numbers) => thresholds[branch.feature].extend(numbers),
            }
        }
    }
    for before in ensemble.before.iter().rev() {
        let steps = before.of_each(ensemble.features).unwrap_or_default();
        for (thresholds, step) in thresholds.iter_mut().zip(steps) {
            thresholds.iter_mut().for_each(|threshold| *threshold = step.undone(*threshold));
        }
    }
    let mut random = Rng::with_seed(SEED);
    let mut column = |thresholds: &Vec<f32>| -> ArrayRef {
        let mut value = |_| -> Option<f64> {
            let mut threshold = || match thresholds.len() {
                0 => random.f32(),
                count => thresholds[random.usize(..count)],
            };
            let (one, other) = (threshold(), threshold());
            let value = match random.u8(..32) {
                0 => return None,
                1 => [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY][random.usize(..4)],
                2..8 => one,
                8..12 => one.next_up(),
                12..16 => one.next_down(),
                _ => one / 2.0 + other / 2.0,
            };
            Some(f64::from(value))
        };
        Arc::new(Float64Array::from_iter((0..ROWS).map(&mut value)))
    };
    let columns: Vec<ArrayRef> = thresholds.iter().map(&mut column).collect();
    let fields =
        (0..columns.len()).map(|feature| Field::new(format!("{feature}"), DataType::Float64, true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)
        .expect("columns of numbers, all of one length")
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::super::inputs::{BoundInput, Declared, Element};
    use super::*;
    use crate::models::trees::{Branch, Columns, Link, Tree};

    /// 1 for a feature above the threshold, else 0.
    fn step_at(threshold: f32, nan_goes_low: bool) -> Ensemble {
        let leaf = |weight| Node::Leaf(vec![(0, weight)]);
        let test = Test::AtMost(threshold);
        let branch = Branch { feature: 0, test, nan_goes_low, low: 1, high: 2 };
        Ensemble {
            features: 1,
            before: Vec::new(),
            trees: vec![Tree { nodes: vec![Node::Branch(branch), leaf(0.0), leaf(1.0)] }],
            sums: 1,
            is_average: false,
            base: Vec::new(),
            link: Link::None,
            columns: Columns::Sums,
        }
    }

    fn compiled(ensemble: &Ensemble) -> TreeModel {
        let declared =
            Declared { name: "X".to_owned(), element: Element::Float, shape: vec![-1, 1] };
        TreeModel {
            input: TensorInput::new(BoundInput { declared, features: vec![0] }),
            trees: CompiledTrees::new(ensemble).unwrap(),
            width: 1,
            task: Task::Regression,
            keep_input: false,
        }
    }

    /// A path through every feature: what goes low at a threshold adds its power of 3 once, what goes
    /// high twice, so that each sum tells all the ways.
    fn telling(features: usize, random: &mut Rng) -> Ensemble {
        let trees = (0..features).map(|feature| {
            let leaf = |times: f32| Node::Leaf(vec![(0, times * 3f32.powi(feature as i32))]);
            let threshold = if random.u8(..4) == 0 { f32::INFINITY } else { 0.0 };
            let nan_goes_low = random.bool();
            let test = Test::AtMost(threshold);
            let branch = Branch { feature, test, nan_goes_low, low: 1, high: 2 };
            Tree { nodes: vec![Node::Branch(branch), leaf(1.0), leaf(2.0)] }
        });
        Ensemble { features, trees: trees.collect(), ..step_at(0.0, false) }
    }

    #[test]
    fn columns_are_scored_as_the_rows_of_their_tensor() {
        for seed in 0..60 {
            let random = &mut Rng::with_seed(seed);
            let width = random.usize(1..6);
            let ensemble = telling(width, random);
            // The inputs of the model are columns in any order, slices among them.
            let (mut order, skipped) = (Vec::from_iter(0..width), random.usize(..3));
            random.shuffle(&mut order);
            let shape = vec![-1, width as i64];
            let declared = Declared { name: "X".to_owned(), element: Element::Float, shape };
            let input = TensorInput::new(BoundInput { declared, features: order });
            let mut model = TreeModel { input, keep_input: true, ..compiled(&ensemble) };
            for rows in [0, 1, 2, 64, 65, 130] {
                let mut column = |at: usize| -> (String, ArrayRef) {
                    let mut value = |_| match random.u8(..8) {
                        0 => None,
                        1 => Some(f64::NAN),
                        _ => Some(random.f64() - 0.5),
                    };
                    let values = Vec::from_iter((0..rows + skipped).map(&mut value));
                    let integers = values.iter().map(|v| v.map(|v| (v * 9.0) as i64));
                    let column: ArrayRef = match at % 2 {
                        0 => Arc::new(Float64Array::from(values)),
                        _ => Arc::new(Int64Array::from_iter(integers)),
                    };
                    (format!("{at}"), column.slice(skipped, rows))
                };
                let columns = Vec::from_iter((0..width).map(&mut column));
                let batch = RecordBatch::try_from_iter(columns).unwrap();
                let Scores { predictions, input } = model.score(&batch).unwrap();
                let tensor = input.unwrap();
                assert_eq!(tensor.len(), rows * width);
                let wanted = CompiledTrees::new(&ensemble).unwrap().score(tensor.values());
                assert_eq!(predictions, wanted, "seed {seed}, {rows} rows");
            }
        }
    }

    #[test]
    fn trees_that_score_otherwise_are_noticed() {
        let ensemble = step_at(0.5, false);
        let mut own = compiled(&ensemble);
        for (other, agrees) in [
            (ensemble.clone(), true),
            (step_at(0.5f32.next_up(), false), false),
            (step_at(0.5f32.next_down(), false), false),
            (step_at(0.5, true), false),
        ] {
            let compared = compare(&mut own, &mut compiled(&other), &ensemble);
            assert_eq!(compared.is_ok(), agrees, "{other:?}");
        }
    }
}

//! Models that are ensembles of trees and nothing else, without ONNX Runtime.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use driftline_operators::model::{Model, ModelError, Scores, Task};
use fastrand::Rng;

use super::outputs::predictions;
use super::tensors::TensorInput;
use crate::models::trees::{CompiledTrees, Ensemble, Node};

/// Rows on which compiled trees must agree with ONNX Runtime before they take its place.
const ROWS: usize = 2_048;
const SEED: u64 = 1;

/// A model of compiled trees.
pub struct TreeModel {
    pub input: TensorInput,
    pub trees: CompiledTrees,
    pub width: usize,
    pub task: Task,
    pub keep_input: bool,
}

impl Model for TreeModel {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        self.input.fill(features)?;
        let rows = self.input.floats().unwrap_or_default();
        Ok(Scores {
            predictions: predictions(self.trees.score(rows), self.trees.width(), self.width),
            input: self.keep_input.then(|| Float32Array::from(rows.to_vec())),
        })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn task(&self) -> Task {
        self.task
    }
}

/// Scores made-up rows with both.
///
/// # Errors
/// If one of them refuses the rows, or a bit differs.
pub fn compare(
    trees: &mut TreeModel,
    model: &mut dyn Model,
    ensemble: &Ensemble,
) -> Result<(), String> {
    let rows = telling_rows(ensemble);
    let ours = trees.score(&rows).map_err(|error| error.to_string())?.predictions;
    let theirs = model.score(&rows).map_err(|error| error.to_string())?.predictions;
    // What is not a number need not have the same bits.
    let agree = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let differing = ours.iter().zip(&theirs).filter(|pair| !agree(*pair)).count();
    if ours.len() == theirs.len() && differing == 0 {
        return Ok(());
    }
    Err(format!("ONNX Runtime scores {ROWS} made-up rows otherwise"))
}

/// Seeded random rows that come to many leaves: values on, just beside and between the thresholds of
/// their feature, and some that are missing, infinite or zero.
fn telling_rows(ensemble: &Ensemble) -> RecordBatch {
    let mut thresholds: Vec<Vec<f32>> = vec![Vec::new(); ensemble.features];
    for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
        if let Node::Branch(branch) = node {
            thresholds[branch.feature].push(branch.threshold);
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
    use super::super::inputs::{BoundInput, Declared, Element};
    use super::*;
    use crate::models::trees::{Branch, Columns, Link, Tree};

    /// 1 for a feature above the threshold, else 0.
    fn step_at(threshold: f32, nan_goes_low: bool) -> Ensemble {
        let leaf = |weight| Node::Leaf(vec![(0, weight)]);
        let branch = Branch { feature: 0, threshold, nan_goes_low, low: 1, high: 2 };
        Ensemble {
            features: 1,
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

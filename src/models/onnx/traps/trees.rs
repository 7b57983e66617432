//! Ensembles of trees that ONNX Runtime (1.32) scores otherwise than was meant.

use std::collections::BTreeSet;

use super::{Parsed, Trap};
use crate::models::onnx::nodes::{Attribute, GraphNode};

/// What traps are seen by of an ensemble.
#[derive(Debug, Default)]
struct Trees {
    operator: String,
    /// Classes of a classifier.
    labels: usize,
    targets: i64,
    /// The outputs that leaves add to.
    sums: BTreeSet<i64>,
    base_values: usize,
    /// NONE, LOGISTIC, …; of version 5 as ONNX Runtime reads its number.
    transform: String,
    /// The number of version 5.
    transform_number: Option<i64>,
    /// Whether a branch has a way for what is missing.
    knows_missing: bool,
}

/// As ONNX Runtime numbers them, and as the specification does.
const AS_RUN: [&str; 5] = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"];
const AS_SPECIFIED: [&str; 5] = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];

impl Trees {
    /// `None` of a node that is no ensemble of trees.
    fn of(node: &GraphNode) -> Option<Self> {
        if !node.operator.starts_with("TreeEnsemble") {
            return None;
        }
        let mut trees = Trees { operator: node.operator.clone(), targets: 1, ..Trees::default() };
        for attribute in &node.attributes {
            trees.take(Attribute::read(attribute));
        }
        Some(trees)
    }

    fn take(&mut self, attribute: Attribute) {
        let Attribute { name, integers, floats, texts } = attribute;
        match name.as_str() {
            "classlabels_int64s" => self.labels = integers.len(),
            "classlabels_strings" => self.labels = texts.len(),
            "class_ids" | "target_ids" | "leaf_targetids" => {
                self.sums = BTreeSet::from_iter(integers)
            }
            "n_targets" => self.targets = integers.first().copied().unwrap_or(1),
            "base_values" => self.base_values = floats.len(),
            "post_transform" if texts.is_empty() => {
                self.transform_number = integers.first().copied();
                let name = self.transform_number.and_then(|at| AS_RUN.get(at as usize));
                self.transform = name.copied().unwrap_or_default().to_owned();
            }
            "post_transform" => self.transform = texts.concat(),
            "nodes_missing_value_tracks_true" => {
                self.knows_missing = integers.iter().any(|tracks| *tracks != 0);
            }
            _ => {}
        }
    }

    fn is_binary(&self) -> bool {
        self.operator == "TreeEnsembleClassifier" && self.labels == 2
    }

    /// Whether leaves add to one of two classes alone.
    fn adds_to_one(&self, class: i64) -> bool {
        self.is_binary() && self.sums.iter().eq([&class])
    }
}

pub(super) fn find(model: &Parsed, may_be_null: &[&str]) -> Vec<Trap> {
    let ensembles: Vec<Trees> = model.nodes.iter().filter_map(Trees::of).collect();
    let each =
        [reversed_scores, leaves_ignored, base_ignored, transform_ignored, transform_swapped];
    let of = |trees: &Trees| each.into_iter().filter_map(|find| find(trees)).collect::<Vec<_>>();
    let mut found: Vec<Trap> = ensembles.iter().flat_map(of).collect();
    found.extend(no_way_for_missing(model, &ensembles, may_be_null));
    found.dedup();
    found
}

/// ONNX Runtime adds the sum of class 0 to the base value of class 1.
fn reversed_scores(trees: &Trees) -> Option<Trap> {
    let both = trees.is_binary() && trees.sums.len() == 2 && trees.base_values == 2;
    both.then(|| {
        Trap::of_scores(
            "reversed-scores",
            "its trees have weights of both classes and a base value of each, as CatBoost writes boost_from_average; ONNX Runtime then adds class 0's sum to class 1's base value, and scores come out reversed; train with boost_from_average=False".to_owned(),
        )
    })
}

/// With weights of class 1 alone ONNX Runtime gives the base value of class 1 to every row.
fn leaves_ignored(trees: &Trees) -> Option<Trap> {
    (trees.adds_to_one(1) && trees.base_values == 2).then(|| {
        Trap::of_scores(
            "leaves-ignored",
            "its trees have weights of class 1 alone and a base value of each class; ONNX Runtime then gives the base value of class 1 to every row; write one base value into the weights of the first tree's leaves".to_owned(),
        )
    })
}

/// With weights of class 1 alone ONNX Runtime ignores a single base value.
fn base_ignored(trees: &Trees) -> Option<Trap> {
    (trees.adds_to_one(1) && trees.base_values == 1).then(|| {
        Trap::of_scores(
            "base-ignored",
            "its trees have weights of class 1 alone and one base value, which ONNX Runtime then ignores; write it into the weights of the first tree's leaves".to_owned(),
        )
    })
}

/// ONNX Runtime applies only PROBIT to a single number, and SOFTMAX to two classes only if both have weights.
fn transform_ignored(trees: &Trees) -> Option<Trap> {
    let transform = trees.transform.as_str();
    let is_one_target = trees.operator != "TreeEnsembleClassifier" && trees.targets == 1;
    let is_ignored = match transform {
        "LOGISTIC" => is_one_target,
        "SOFTMAX" | "SOFTMAX_ZERO" => is_one_target || trees.adds_to_one(0),
        _ => false,
    };
    is_ignored.then(|| {
        Trap::of_scores(
            "transform-ignored",
            format!(
                "its post_transform is {transform}, which ONNX Runtime does not apply to a single sum: scores are the sums as they are; export the model without it, and put a node such as Sigmoid behind the trees"
            ),
        )
    })
}

/// ONNX Runtime numbers the transforms of version 5 otherwise than the specification.
fn transform_swapped(trees: &Trees) -> Option<Trap> {
    let at = usize::try_from(trees.transform_number?).ok()?;
    let (run, specified) = (AS_RUN.get(at)?, AS_SPECIFIED.get(at)?);
    (trees.targets > 1 && run != specified).then(|| {
        Trap::of_scores(
            "transform-swapped",
            format!(
                "its post_transform is {at}, which by the specification is {specified}, and which ONNX Runtime takes for {run}; export it without, and put a node such as Softmax behind the trees"
            ),
        )
    })
}

/// skl2onnx drops the ways that a forest has learned for what is missing, and a forest that has learned
/// none refuses it.
fn no_way_for_missing(model: &Parsed, ensembles: &[Trees], may_be_null: &[&str]) -> Option<Trap> {
    let fills = |node: &GraphNode| matches!(node.operator.as_str(), "Imputer" | "IsNaN");
    let is_sign = model.producer == "skl2onnx"
        && !ensembles.is_empty()
        && !ensembles.iter().any(|trees| trees.knows_missing)
        && !model.nodes.iter().any(fills);
    let first = may_be_null.first().filter(|_| is_sign)?;
    let others = match may_be_null.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Trap::of_scores(
        "missing-values",
        format!(
            "feature {first:?}{others} may be missing (allow_null), and no branch of its trees says where what is missing goes: all of it goes the false way; skl2onnx drops what a forest has learned of that; give the feature a default, or impute in the pipeline that is exported"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A binary classifier whose leaves add to these classes.
    fn binary(sums: &[i64], base_values: usize, transform: &str) -> Trees {
        Trees {
            operator: "TreeEnsembleClassifier".to_owned(),
            labels: 2,
            targets: 1,
            sums: sums.iter().copied().collect(),
            base_values,
            transform: transform.to_owned(),
            ..Trees::default()
        }
    }

    fn single(operator: &str, targets: i64, transform: usize) -> Trees {
        let transform_number = (operator == "TreeEnsemble").then_some(transform as i64);
        let transform = AS_RUN[transform].to_owned();
        Trees {
            operator: operator.to_owned(),
            targets,
            transform,
            transform_number,
            ..Trees::default()
        }
    }

    fn codes(trees: Trees) -> Vec<&'static str> {
        let each =
            [reversed_scores, leaves_ignored, base_ignored, transform_ignored, transform_swapped];
        each.into_iter().filter_map(|find| find(&trees)).map(|trap| trap.code).collect()
    }

    #[test]
    fn base_values_of_two_classes() {
        assert_eq!(codes(binary(&[0, 1], 2, "LOGISTIC")), ["reversed-scores"]);
        assert_eq!(codes(binary(&[1], 2, "LOGISTIC")), ["leaves-ignored"]);
        assert_eq!(codes(binary(&[1], 1, "LOGISTIC")), ["base-ignored"]);
        for sound in [
            binary(&[0, 1], 0, "LOGISTIC"),
            binary(&[0], 1, "LOGISTIC"),
            binary(&[1], 0, "LOGISTIC"),
            Trees { labels: 3, ..binary(&[0, 1, 2], 3, "SOFTMAX") },
        ] {
            assert_eq!(codes(sound), [""; 0]);
        }
    }

    #[test]
    fn transforms_that_are_not_applied() {
        for (operator, targets, transform, wanted) in [
            ("TreeEnsembleRegressor", 1, 1, &["transform-ignored"][..]),
            ("TreeEnsembleRegressor", 1, 0, &[]),
            ("TreeEnsembleRegressor", 1, 4, &[]),
            ("TreeEnsembleRegressor", 2, 1, &[]),
            ("TreeEnsemble", 1, 2, &["transform-ignored"]),
            ("TreeEnsemble", 2, 1, &["transform-swapped"]),
            ("TreeEnsemble", 2, 2, &["transform-swapped"]),
            ("TreeEnsemble", 2, 3, &[]),
            ("TreeEnsemble", 2, 0, &[]),
        ] {
            assert_eq!(
                codes(single(operator, targets, transform)),
                wanted,
                "{operator} {transform}"
            );
        }
        assert_eq!(codes(binary(&[0], 0, "SOFTMAX")), ["transform-ignored"]);
        assert_eq!(codes(binary(&[0, 1], 0, "SOFTMAX")), [""; 0]);
        assert_eq!(codes(binary(&[0], 0, "LOGISTIC")), [""; 0]);
    }

    #[test]
    fn a_forest_that_knows_nothing_of_missing_values() {
        let said = |producer: &str, knows_missing, operators: &[&str], null: &[&str]| {
            let node = |operator: &&str| GraphNode {
                operator: (*operator).to_owned(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                attributes: Vec::new(),
            };
            let nodes = operators.iter().map(node).collect();
            let model = Parsed { producer: producer.to_owned(), nodes, notes: Vec::new() };
            let forest = Trees { knows_missing, ..binary(&[0, 1], 0, "NONE") };
            no_way_for_missing(&model, &[forest], null).map(|trap| trap.what)
        };
        let forest = ["TreeEnsembleClassifier"];
        let what = said("skl2onnx", false, &forest, &["x", "y"]).unwrap();
        assert!(what.starts_with("feature \"x\" and 1 more may be missing"), "{what}");
        assert_eq!(said("skl2onnx", false, &forest, &[]), None);
        assert_eq!(said("skl2onnx", true, &forest, &["x"]), None);
        assert_eq!(said("skl2onnx", false, &["Imputer", "TreeEnsembleClassifier"], &["x"]), None);
        assert_eq!(said("OnnxMLTools", false, &forest, &["x"]), None);
    }
}

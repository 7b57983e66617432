//! The attributes of TreeEnsemble, which ai.onnx.ml has since its version 5:
//! <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html>.

use super::ensemble::{branch, link};
use super::nodes::Attribute;
use crate::models::trees::{Columns, Ensemble, Node, Tree};

const MODES: [&str; 7] = [
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
];
/// As ONNX Runtime numbers them; by the specification SOFTMAX is 1 and LOGISTIC 2.
const TRANSFORMS: [&str; 5] = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"];
const AGGREGATES: [&str; 4] = ["AVERAGE", "SUM", "MIN", "MAX"];

#[derive(Default)]
struct Attributes {
    roots: Vec<i64>,
    modes: Vec<i64>,
    feature_ids: Vec<i64>,
    splits: Vec<f32>,
    /// The sets of the nodes of mode BRANCH_MEMBER, in their order, NaN behind each.
    members: Vec<f32>,
    /// Positions among the nodes, or among the leaves.
    on_true: Vec<i64>,
    on_false: Vec<i64>,
    true_is_leaf: Vec<i64>,
    false_is_leaf: Vec<i64>,
    missing_goes_true: Vec<i64>,
    leaf_sums: Vec<i64>,
    leaf_weights: Vec<f32>,
    targets: i64,
    transform: i64,
    aggregate: i64,
}

/// The ensemble of a node of so many features.
///
/// # Errors
/// What of it is not that of an [`Ensemble`].
pub fn read(attributes: &[&[u8]], features: usize) -> Result<Ensemble, String> {
    let mut all = Attributes { aggregate: 1, ..Attributes::default() };
    for attribute in attributes {
        all.read_one(Attribute::read(attribute))?;
    }
    let named = |names: &[&'static str], at: i64| {
        let name = usize::try_from(at).ok().and_then(|at| names.get(at).copied());
        name.ok_or_else(|| format!("one of its attributes is {at}"))
    };
    let is_average = match named(&AGGREGATES, all.aggregate)? {
        "SUM" => false,
        "AVERAGE" => true,
        other => return Err(format!("its aggregate_function is {other}")),
    };
    let sums =
        usize::try_from(all.targets).map_err(|_| format!("it has {} targets", all.targets))?;
    let columns = Columns::Sums;
    let link = link(named(&TRANSFORMS, all.transform)?, sums, columns)?;
    let trees = all.trees()?;
    let (before, base) = (Vec::new(), Vec::new());
    Ok(Ensemble { features, before, trees, sums, is_average, base, link, columns })
}

impl Attributes {
    fn read_one(&mut self, attribute: Attribute) -> Result<(), String> {
        let Attribute { name, integers: whole, floats: numbers, .. } = attribute;
        let one = || whole.first().copied().unwrap_or_default();
        match name.as_str() {
            "tree_roots" => self.roots = whole,
            "nodes_modes" => self.modes = whole,
            "nodes_featureids" => self.feature_ids = whole,
            "nodes_splits" => self.splits = numbers,
            "membership_values" => self.members = numbers,
            "nodes_truenodeids" => self.on_true = whole,
            "nodes_falsenodeids" => self.on_false = whole,
            "nodes_trueleafs" => self.true_is_leaf = whole,
            "nodes_falseleafs" => self.false_is_leaf = whole,
            "nodes_missing_value_tracks_true" => self.missing_goes_true = whole,
            "leaf_targetids" => self.leaf_sums = whole,
            "leaf_weights" => self.leaf_weights = numbers,
            "n_targets" => self.targets = one(),
            "post_transform" => self.transform = one(),
            "aggregate_function" => self.aggregate = one(),
            "nodes_hitrates" => {}
            other => return Err(format!("it has the attribute {other}")),
        }
        Ok(())
    }

    fn trees(&self) -> Result<Vec<Tree>, String> {
        let count = self.modes.len();
        let lengths = [
            self.feature_ids.len(),
            self.splits.len(),
            self.on_true.len(),
            self.on_false.len(),
            self.true_is_leaf.len(),
            self.false_is_leaf.len(),
        ];
        if lengths != [count; 6] || self.leaf_sums.len() != self.leaf_weights.len() {
            return Err("its attributes are of different lengths".to_owned());
        }
        let mut sets = self.members.split(|member| member.is_nan());
        let member = MODES.len() as i64 - 1;
        let set_of = |mode: &i64| (*mode == member).then(|| sets.next().unwrap_or_default());
        let sets: Vec<Option<&[f32]>> = self.modes.iter().map(set_of).collect();
        self.roots.iter().map(|&root| self.tree(root, &sets)).collect()
    }

    /// The tree below a node; the first of its nodes is its root.
    fn tree(&self, root: i64, sets: &[Option<&[f32]>]) -> Result<Tree, String> {
        // By position in the tree: which node, and whether that is a leaf. ONNX Runtime takes a root for
        // the leaf of its number if both its ways have one number.
        let to = |to: &[i64]| usize::try_from(root).ok().and_then(|root| to.get(root).copied());
        let mut places = vec![(root, to(&self.on_true) == to(&self.on_false))];
        let mut nodes = Vec::new();
        while let Some(&(id, is_leaf)) = places.get(nodes.len()) {
            if places.len() > 2 * self.modes.len() + 1 {
                return Err("the branches of a tree meet".to_owned());
            }
            let at = usize::try_from(id).map_err(|_| "a branch goes nowhere".to_owned())?;
            if is_leaf {
                let of_leaf = self.leaf_sums.get(at).zip(self.leaf_weights.get(at));
                let (&sum, &weight) = of_leaf.ok_or("a branch goes nowhere")?;
                let sum =
                    usize::try_from(sum).map_err(|_| format!("a leaf adds to output {sum}"))?;
                nodes.push(Node::Leaf(vec![(sum, weight)]));
                continue;
            }
            let mode = *self.modes.get(at).ok_or("a branch goes nowhere")?;
            let known = usize::try_from(mode).ok().and_then(|mode| MODES.get(mode));
            let mode = known.ok_or_else(|| format!("it has nodes of mode {mode}"))?;
            let (on_true, on_false) = (places.len(), places.len() + 1);
            places.push((self.on_true[at], self.true_is_leaf[at] != 0));
            places.push((self.on_false[at], self.false_is_leaf[at] != 0));
            let split = [self.splits[at]];
            let missing_goes_true = self.missing_goes_true.get(at).is_some_and(|&to| to == 1);
            nodes.push(Node::Branch(branch(
                mode,
                sets[at].unwrap_or(&split),
                self.feature_ids[at],
                missing_goes_true,
                [on_true, on_false],
            )?));
        }
        Ok(Tree { nodes }.joined())
    }
}

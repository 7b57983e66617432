//! Reads the ensemble of trees of a model that is nothing else.

use std::collections::{HashMap, HashSet};

use super::nodes::{Attribute, GraphNode, TensorValues};
use super::wire::Fields;
use super::{before, ensemble_5, proto};
use crate::models::trees::{Branch, Columns, Ensemble, Link, Node, Test, Tree};

/// The ensemble between the model's input and its output, if the one is all that it reads and the
/// other its prediction. None if there are no trees.
///
/// # Errors
/// Why trees that are there are not those of an [`Ensemble`], or not all that there is.
pub fn read(
    model: &[u8],
    input: Result<&str, String>,
    output: &str,
    features: usize,
) -> Option<Result<Ensemble, String>> {
    let graph = Fields::new(model).filter(|(field, _)| *field == proto::MODEL_GRAPH);
    let graph = graph.last().and_then(|(_, value)| value.bytes())?;
    let nodes = Fields::new(graph).filter(|(field, _)| *field == proto::GRAPH_NODE);
    let nodes: Vec<GraphNode> =
        nodes.filter_map(|(_, value)| value.bytes().map(GraphNode::read)).collect();
    if !nodes.iter().any(|node| node.operator.starts_with("TreeEnsemble")) {
        return None;
    }
    let constants = Fields::new(graph).filter(|(field, _)| *field == proto::GRAPH_INITIALIZER);
    let constants: Vec<TensorValues> =
        constants.filter_map(|(_, value)| value.bytes().map(TensorValues::read)).collect();
    Some(between(&nodes, &constants, input, output, features))
}

fn between(
    nodes: &[GraphNode],
    constants: &[TensorValues],
    input: Result<&str, String>,
    output: &str,
    features: usize,
) -> Result<Ensemble, String> {
    let maker =
        |name: &str| nodes.iter().find(|node| node.outputs.iter().any(|output| output == name));
    // Back from the output, over what only gives its input another form. LightGBM's converter
    // multiplies by one; were it another number, the scores would differ from ONNX Runtime's.
    let mut name = output;
    let trees = loop {
        let node = maker(name).ok_or("its prediction is not made of its trees")?;
        match node.operator.as_str() {
            "Identity" | "ZipMap" | "Mul" => {
                name = node.inputs.first().ok_or("a node of it has no input")?;
            }
            "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => break node,
            other => return Err(format!("its prediction is made by {other}, after its trees")),
        }
    };
    let is_classifier = trees.operator == "TreeEnsembleClassifier";
    let position = usize::from(is_classifier);
    let is_scores = trees.outputs.get(position).is_some_and(|output| output == name);
    if !is_scores {
        return Err("its prediction is not the scores of its trees".to_owned());
    }
    let input = input?;
    let read = trees.inputs.first().map_or("", String::as_str);
    let before = before::read(nodes, constants, input, read)?;
    let ensemble = match trees.operator.as_str() {
        "TreeEnsemble" => ensemble_5::read(&trees.attributes, features)?,
        _ => Attributes::read(&trees.attributes, is_classifier)?.ensemble(features)?,
    };
    Ok(Ensemble { before, ..ensemble })
}

/// What is done to the sums, by the name of the transform.
pub fn link(transform: &str, sums: usize, columns: Columns) -> Result<Link, String> {
    Ok(match transform {
        // ONNX Runtime does nothing to a single number.
        _ if sums == 1 && columns == Columns::Sums && transform != "PROBIT" => Link::None,
        "" | "NONE" => Link::None,
        "LOGISTIC" => Link::Logistic,
        "SOFTMAX" if sums == 1 => Link::None,
        "SOFTMAX" => Link::Softmax,
        other => return Err(format!("its post_transform is {other}")),
    })
}

/// A branch with one number to compare with, or a set of them.
pub fn branch(
    mode: &str,
    numbers: &[f32],
    feature: i64,
    missing_goes_true: bool,
    [on_true, on_false]: [usize; 2],
) -> Result<Branch, String> {
    let number = numbers.first().copied().unwrap_or(f32::NAN);
    let (is_low_true, test) = match mode {
        "BRANCH_LEQ" => (true, Test::AtMost(number)),
        "BRANCH_LT" => (true, Test::Below(number)),
        "BRANCH_GT" => (false, Test::AtMost(number)),
        "BRANCH_GTE" => (false, Test::Below(number)),
        "BRANCH_EQ" | "BRANCH_MEMBER" => (true, Test::OneOf(numbers.to_vec())),
        "BRANCH_NEQ" => (false, Test::OneOf(numbers.to_vec())),
        other => return Err(format!("it has nodes of mode {other}")),
    };
    // NaN differs from every number.
    let missing_goes_true = missing_goes_true || mode == "BRANCH_NEQ";
    let (low, high) = if is_low_true { (on_true, on_false) } else { (on_false, on_true) };
    let feature =
        usize::try_from(feature).map_err(|_| format!("a branch reads feature {feature}"))?;
    Ok(Branch { feature, test, nan_goes_low: missing_goes_true == is_low_true, low, high })
}

/// The attributes of TreeEnsembleClassifier and TreeEnsembleRegressor, as they stand in the file:
/// <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html>.
#[derive(Default)]
struct Attributes {
    is_classifier: bool,
    tree_ids: Vec<i64>,
    node_ids: Vec<i64>,
    feature_ids: Vec<i64>,
    true_ids: Vec<i64>,
    false_ids: Vec<i64>,
    modes: Vec<String>,
    values: Vec<f32>,
    missing_goes_true: Vec<i64>,
    leaf_tree_ids: Vec<i64>,
    leaf_node_ids: Vec<i64>,
    leaf_sums: Vec<i64>,
    leaf_weights: Vec<f32>,
    base: Vec<f32>,
    targets: i64,
    classes: usize,
    post_transform: String,
    aggregate: String,
}

impl Attributes {
    fn read(attributes: &[&[u8]], is_classifier: bool) -> Result<Self, String> {
        let mut all = Attributes { is_classifier, ..Attributes::default() };
        for attribute in attributes {
            all.read_one(attribute)?;
        }
        Ok(all)
    }

    fn read_one(&mut self, attribute: &[u8]) -> Result<(), String> {
        let Attribute { name, integers: whole, floats: numbers, texts } =
            Attribute::read(attribute);
        match name.as_str() {
            "nodes_treeids" => self.tree_ids = whole,
            "nodes_nodeids" => self.node_ids = whole,
            "nodes_featureids" => self.feature_ids = whole,
            "nodes_truenodeids" => self.true_ids = whole,
            "nodes_falsenodeids" => self.false_ids = whole,
            "nodes_modes" => self.modes = texts,
            "nodes_values" => self.values = numbers,
            "nodes_missing_value_tracks_true" => self.missing_goes_true = whole,
            "class_treeids" | "target_treeids" => self.leaf_tree_ids = whole,
            "class_nodeids" | "target_nodeids" => self.leaf_node_ids = whole,
            "class_ids" | "target_ids" => self.leaf_sums = whole,
            "class_weights" | "target_weights" => self.leaf_weights = numbers,
            "base_values" => self.base = numbers,
            "n_targets" => self.targets = whole.first().copied().unwrap_or_default(),
            "classlabels_int64s" => self.classes = whole.len(),
            "classlabels_strings" => self.classes = texts.len(),
            "post_transform" => self.post_transform = texts.concat(),
            "aggregate_function" => self.aggregate = texts.concat(),
            "nodes_hitrates" => {}
            name if name.ends_with("_as_tensor") => {
                return Err(format!("it is in double precision ({name})"));
            }
            other => return Err(format!("it has the attribute {other}")),
        }
        Ok(())
    }

    fn ensemble(self, features: usize) -> Result<Ensemble, String> {
        let (sums, columns) = self.columns()?;
        let link = link(&self.post_transform, sums, columns)?;
        let is_average = match self.aggregate.as_str() {
            "" | "SUM" => false,
            "AVERAGE" => true,
            other => return Err(format!("its aggregate_function is {other}")),
        };
        let trees = self.trees()?;
        let (before, base) = (Vec::new(), self.base);
        Ok(Ensemble { features, before, trees, sums, is_average, base, link, columns })
    }

    /// How many sums a row has, and what becomes of them.
    fn columns(&self) -> Result<(usize, Columns), String> {
        if !self.is_classifier {
            let targets = usize::try_from(self.targets)
                .map_err(|_| format!("it has {} targets", self.targets))?;
            return Ok((targets, Columns::Sums));
        }
        match self.classes {
            0 => Err("it has no classes".to_owned()),
            2 if self.leaf_sums.iter().all(|&class| class == 0) => {
                if self.base.len() > 1 {
                    return Err("it has a base value for each of two classes".to_owned());
                }
                let is_probability = self.leaf_weights.iter().all(|&weight| weight >= 0.0);
                let columns = match self.post_transform.as_str() {
                    "LOGISTIC" => Columns::Opposites,
                    _ if is_probability => Columns::Complement,
                    _ => Columns::Opposites,
                };
                Ok((1, columns))
            }
            2 if !self.base.is_empty() => Err("it has base values of two classes".to_owned()),
            classes => Ok((classes, Columns::Sums)),
        }
    }

    fn trees(&self) -> Result<Vec<Tree>, String> {
        let count = self.tree_ids.len();
        let lengths = [
            self.node_ids.len(),
            self.feature_ids.len(),
            self.true_ids.len(),
            self.false_ids.len(),
            self.modes.len(),
            self.values.len(),
        ];
        let leaves = self.leaf_tree_ids.len();
        let leaf_lengths =
            [self.leaf_node_ids.len(), self.leaf_sums.len(), self.leaf_weights.len()];
        if lengths != [count; 6] || leaf_lengths != [leaves; 3] {
            return Err("its attributes are of different lengths".to_owned());
        }
        let mut leaf_weights: HashMap<(i64, i64), Vec<(usize, f32)>> = HashMap::new();
        for leaf in 0..leaves {
            let sum = usize::try_from(self.leaf_sums[leaf])
                .map_err(|_| format!("a leaf adds to output {}", self.leaf_sums[leaf]))?;
            let at = (self.leaf_tree_ids[leaf], self.leaf_node_ids[leaf]);
            leaf_weights.entry(at).or_default().push((sum, self.leaf_weights[leaf]));
        }
        let mut trees = Vec::new();
        let mut seen = HashSet::new();
        for nodes in
            (0..count).collect::<Vec<_>>().chunk_by(|&a, &b| self.tree_ids[a] == self.tree_ids[b])
        {
            if !seen.insert(self.tree_ids[nodes[0]]) {
                return Err("the nodes of its trees are mixed".to_owned());
            }
            trees.push(self.tree(nodes, &mut leaf_weights)?);
        }
        Ok(trees)
    }

    /// The tree of these nodes, the first of which is its root.
    fn tree(
        &self,
        nodes: &[usize],
        leaf_weights: &mut HashMap<(i64, i64), Vec<(usize, f32)>>,
    ) -> Result<Tree, String> {
        let positions: HashMap<i64, usize> =
            nodes.iter().enumerate().map(|(at, &node)| (self.node_ids[node], at)).collect();
        let position =
            |id: i64| positions.get(&id).copied().ok_or_else(|| "a branch goes nowhere".to_owned());
        let node = |&node: &usize| -> Result<Node, String> {
            if self.modes[node] == "LEAF" {
                let id = (self.tree_ids[node], self.node_ids[node]);
                return Ok(Node::Leaf(leaf_weights.remove(&id).unwrap_or_default()));
            }
            let missing_goes_true = self.missing_goes_true.get(node).is_some_and(|&to| to == 1);
            let to = [position(self.true_ids[node])?, position(self.false_ids[node])?];
            let (numbers, feature) = ([self.values[node]], self.feature_ids[node]);
            branch(&self.modes[node], &numbers, feature, missing_goes_true, to).map(Node::Branch)
        };
        let nodes = nodes.iter().map(node).collect::<Result<_, _>>()?;
        Ok(Tree { nodes }.joined())
    }
}

//! What an ONNX file says and ONNX Runtime does not tell: which files hold its weights, the order of
//! its classes, and the words it knows.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::nodes::{Attribute, GraphNode};
use super::proto;
use super::wire::{Fields, Value, text};

/// Graphs inside of graphs are followed so deep.
const DEPTH_MAX: usize = 16;

/// A class of a classifier, as the model names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Label::Number(number) => write!(f, "{number}"),
            Label::Text(text) => f.write_str(text),
        }
    }
}

/// What a model file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileFacts {
    /// Files with weights, by the names that the model has for them.
    pub external: BTreeSet<String>,
    /// By the name of its output, the classes of a ZipMap in the order of the model.
    pub classes: HashMap<String, Vec<Label>>,
    /// A node of it gives classes: TreeEnsembleClassifier, LinearClassifier, SVMClassifier.
    pub has_classifier: bool,
    /// The words that nodes know, a list for each node.
    pub words: Vec<Vec<String>>,
    /// The whole numbers that nodes know, a list for each node.
    pub numbers: Vec<Vec<i64>>,
}

impl FileFacts {
    /// Reads the bytes of a model. What is no ONNX says nothing.
    pub fn read(model: &[u8]) -> Self {
        let mut facts = FileFacts::default();
        for (field, value) in Fields::new(model) {
            match (field, value) {
                (proto::MODEL_GRAPH, Value::Bytes(graph)) => facts.read_graph(graph, 0),
                (proto::MODEL_FUNCTIONS, Value::Bytes(function)) => facts.read_function(function),
                _ => {}
            }
        }
        facts
    }

    /// The files with weights of a model at `path`; their names are relative to its folder.
    pub fn external_paths(&self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.external.iter().map(|name| folder.join(name)).collect()
    }

    fn read_graph(&mut self, graph: &[u8], depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        for (field, value) in Fields::new(graph) {
            match (field, value) {
                (proto::GRAPH_NODE, Value::Bytes(node)) => self.read_node(node, depth),
                (proto::GRAPH_INITIALIZER, Value::Bytes(tensor)) => self.read_tensor(tensor),
                (proto::GRAPH_SPARSE_INITIALIZER, Value::Bytes(sparse)) => {
                    let parts = Fields::new(sparse).filter(|(field, _)| *field <= 2);
                    for tensor in parts.filter_map(|(_, value)| value.bytes()) {
                        self.read_tensor(tensor);
                    }
                }
                _ => {}
            }
        }
    }

    fn read_function(&mut self, function: &[u8]) {
        for (field, value) in Fields::new(function) {
            if let (proto::FUNCTION_NODE, Value::Bytes(node)) = (field, value) {
                self.read_node(node, 0);
            }
        }
    }

    fn read_node(&mut self, node: &[u8], depth: usize) {
        let GraphNode { operator, outputs, attributes, .. } = GraphNode::read(node);
        self.has_classifier |= operator.ends_with("Classifier");
        for attribute in attributes {
            self.read_nested(attribute, depth);
            let Attribute { name, texts, integers, .. } = Attribute::read(attribute);
            if texts.is_empty() && integers.is_empty() {
                continue;
            }
            let output = outputs.last().cloned().unwrap_or_default();
            match (operator.as_str(), name.as_str()) {
                ("ZipMap", "classlabels_strings") => {
                    let labels = texts.into_iter().map(Label::Text).collect();
                    self.classes.insert(output, labels);
                }
                ("ZipMap", "classlabels_int64s") => {
                    let labels = integers.into_iter().map(Label::Number).collect();
                    self.classes.insert(output, labels);
                }
                (_, "cats_strings" | "keys_strings") => self.words.push(texts),
                (_, "cats_int64s" | "keys_int64s") => self.numbers.push(integers),
                _ => {}
            }
        }
    }

    /// Reads the tensors and graphs in an attribute on.
    fn read_nested(&mut self, attribute: &[u8], depth: usize) {
        for (field, value) in Fields::new(attribute) {
            match (field, value) {
                (proto::ATTRIBUTE_TENSOR | proto::ATTRIBUTE_TENSORS, Value::Bytes(tensor)) => {
                    self.read_tensor(tensor);
                }
                (proto::ATTRIBUTE_GRAPH | proto::ATTRIBUTE_GRAPHS, Value::Bytes(graph)) => {
                    self.read_graph(graph, depth + 1);
                }
                _ => {}
            }
        }
    }

    fn read_tensor(&mut self, tensor: &[u8]) {
        let entries =
            Fields::new(tensor).filter(|(field, _)| *field == proto::TENSOR_EXTERNAL_DATA);
        for entry in entries.filter_map(|(_, value)| value.bytes()) {
            let mut pair = [String::new(), String::new()];
            for (field, value) in Fields::new(entry) {
                if let (1 | 2, Value::Bytes(bytes)) = (field, value) {
                    pair[field as usize - 1] = text(bytes);
                }
            }
            let [key, location] = pair;
            if key == "location" {
                self.external.insert(location);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that holds bytes.
    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        assert!(number < 32 && bytes.len() < 128);
        [&[(number << 3 | 2) as u8, bytes.len() as u8], bytes].concat()
    }

    fn nest(fields: &[(u64, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(number, bytes)| field(*number, bytes)).collect()
    }

    #[test]
    fn weights_beside_the_model_are_found_in_initializers_and_attributes() {
        let tensor = |name: &[u8]| nest(&[(13, &nest(&[(1, b"location"), (2, name)]))]);
        let attribute = nest(&[(1, b"value"), (5, &tensor(b"b.data"))]);
        let node = nest(&[(4, b"Constant"), (5, &attribute)]);
        let graph = nest(&[(1, &node), (5, &tensor(b"a.data"))]);
        let facts = FileFacts::read(&field(7, &graph));
        assert_eq!(Vec::from_iter(facts.external), ["a.data", "b.data"]);
    }

    #[test]
    fn classes_keep_the_order_of_the_model() {
        let integers = [&nest(&[(1, b"classlabels_int64s")])[..], &[8 << 3, 7, 8 << 3, 1]].concat();
        let node = nest(&[(2, b"maps"), (4, b"ZipMap"), (5, &integers)]);
        let facts = FileFacts::read(&field(7, &field(1, &node)));
        assert_eq!(facts.classes["maps"], [Label::Number(7), Label::Number(1)]);
        let texts = nest(&[(1, b"classlabels_strings"), (9, b"late"), (9, b"early")]);
        let node = nest(&[(2, b"maps"), (4, b"ZipMap"), (5, &texts)]);
        let facts = FileFacts::read(&field(7, &field(1, &node)));
        assert_eq!(facts.classes["maps"], ["late", "early"].map(|l| Label::Text(l.to_owned())));
    }

    #[test]
    fn what_is_no_model_says_nothing() {
        for bytes in [&b""[..], b"nonsense", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(FileFacts::read(bytes), FileFacts::default());
        }
    }
}

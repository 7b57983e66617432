//! What exporters are known to get wrong, as far as a model's structure shows it.
//!
//! A trap is seen in the file, before any row is scored; what no structure shows, such as a logarithm that
//! nobody takes back, only rows with the trainer's predictions tell (`run::parity`). So few things are
//! traps: each is wrong wherever it stands.
//!
//! | file | concept |
//! | --- | --- |
//! | `trees` | ensembles of trees |
//! | `source_paths` | what a file tells of the machine that it was made on |

mod source_paths;
mod trees;

use std::fmt::{self, Display, Formatter};

use super::nodes::GraphNode;
use super::proto;
use super::wire::{Fields, Value, text};

/// Something about a model that its user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Its name, for those who look it up; it stays the same.
    pub code: &'static str,
    /// What goes wrong, and what to do.
    pub what: String,
    /// Whether scores are not those of the trainer; rows that agree with the trainer's rule it out.
    pub is_of_scores: bool,
}

impl Trap {
    fn of_scores(code: &'static str, what: String) -> Self {
        Trap { code, what, is_of_scores: true }
    }
}

impl Display for Trap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)
    }
}

/// What a model file says that traps are seen by.
struct Parsed<'a> {
    /// The program that wrote it, such as `skl2onnx`.
    producer: String,
    /// The nodes of its graph; those of graphs inside of nodes are left out.
    nodes: Vec<GraphNode<'a>>,
    /// What nodes say beside what they do.
    notes: Vec<(String, String)>,
}

impl<'a> Parsed<'a> {
    fn read(model: &'a [u8]) -> Self {
        let mut parsed = Parsed { producer: String::new(), nodes: Vec::new(), notes: Vec::new() };
        for (field, value) in Fields::new(model) {
            match (field, value) {
                (proto::MODEL_PRODUCER, Value::Bytes(name)) => parsed.producer = text(name),
                (proto::MODEL_GRAPH, Value::Bytes(graph)) => parsed.read_graph(graph),
                _ => {}
            }
        }
        parsed
    }

    fn read_graph(&mut self, graph: &'a [u8]) {
        let nodes = Fields::new(graph).filter(|(field, _)| *field == proto::GRAPH_NODE);
        for node in nodes.filter_map(|(_, value)| value.bytes()) {
            self.nodes.push(GraphNode::read(node));
            let notes = Fields::new(node).filter(|(field, _)| *field == proto::NODE_METADATA);
            self.notes.extend(notes.filter_map(|(_, value)| value.bytes()).map(pair));
        }
    }
}

/// Key and value of an entry of metadata.
fn pair(entry: &[u8]) -> (String, String) {
    let mut pair = (String::new(), String::new());
    for (field, value) in Fields::new(entry) {
        match (field, value) {
            (1, Value::Bytes(key)) => pair.0 = text(key),
            (2, Value::Bytes(value)) => pair.1 = text(value),
            _ => {}
        }
    }
    pair
}

/// The traps of a model file. `may_be_null` are the features that may be missing in a row.
pub fn find(model: &[u8], may_be_null: &[&str]) -> Vec<Trap> {
    let parsed = Parsed::read(model);
    let mut found: Vec<Trap> = trees::find(&parsed, may_be_null);
    found.extend(source_paths::find(&parsed));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_has_no_traps() {
        for bytes in [&b""[..], b"nonsense", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(find(bytes, &["x"]), []);
        }
    }
}

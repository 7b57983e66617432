//! Nodes of a graph and their attributes, as they stand in a model file.

use super::proto;
use super::wire::{Fields, Value, floats, integers, text};

pub struct GraphNode<'a> {
    pub operator: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<&'a [u8]>,
}

impl<'a> GraphNode<'a> {
    pub fn read(node: &'a [u8]) -> Self {
        let mut found = GraphNode {
            operator: String::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
        };
        for (field, value) in Fields::new(node) {
            let Value::Bytes(bytes) = value else { continue };
            match field {
                proto::NODE_INPUT => found.inputs.push(text(bytes)),
                proto::NODE_OUTPUT => found.outputs.push(text(bytes)),
                proto::NODE_OPERATOR => found.operator = text(bytes),
                proto::NODE_ATTRIBUTE => found.attributes.push(bytes),
                _ => {}
            }
        }
        found
    }
}

/// An attribute; one that is a single number or text is a list of one.
#[derive(Default)]
pub struct Attribute {
    pub name: String,
    pub integers: Vec<i64>,
    pub floats: Vec<f32>,
    pub texts: Vec<String>,
}

impl Attribute {
    pub fn read(attribute: &[u8]) -> Self {
        let mut found = Attribute::default();
        for (field, value) in Fields::new(attribute) {
            match (field, value) {
                (proto::ATTRIBUTE_NAME, Value::Bytes(bytes)) => found.name = text(bytes),
                (proto::ATTRIBUTE_INTEGER | proto::ATTRIBUTE_INTEGERS, value) => {
                    found.integers.extend(integers(value));
                }
                (proto::ATTRIBUTE_FLOATS, value) => found.floats.extend(floats(value)),
                (proto::ATTRIBUTE_TEXT | proto::ATTRIBUTE_TEXTS, Value::Bytes(bytes)) => {
                    found.texts.push(text(bytes));
                }
                _ => {}
            }
        }
        found
    }
}

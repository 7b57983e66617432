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

/// What a tensor of floats or bytes holds; nothing of one of other types.
#[derive(Default)]
pub struct TensorValues {
    pub name: String,
    pub floats: Vec<f32>,
    pub integers: Vec<i64>,
}

impl TensorValues {
    pub fn read(tensor: &[u8]) -> Self {
        let of = |wanted| Fields::new(tensor).filter(move |(field, _)| *field == wanted);
        let name = of(proto::TENSOR_NAME).find_map(|(_, value)| value.bytes().map(text));
        let mut found = TensorValues { name: name.unwrap_or_default(), ..Self::default() };
        let raw = || of(proto::TENSOR_RAW).filter_map(|(_, value)| value.bytes()).flatten();
        match of(proto::TENSOR_TYPE).last() {
            Some((_, Value::Number(proto::TYPE_FLOAT))) => {
                let raw = of(proto::TENSOR_RAW).chain(of(proto::TENSOR_FLOATS));
                found.floats = raw.flat_map(|(_, value)| floats(value)).collect();
            }
            Some((_, Value::Number(proto::TYPE_UINT8))) => {
                let listed = of(proto::TENSOR_SMALL_INTEGERS);
                found.integers = listed.flat_map(|(_, value)| integers(value)).collect();
                found.integers.extend(raw().map(|byte| i64::from(*byte)));
            }
            _ => {}
        }
        found
    }
}

/// An attribute; one that is a single number or text is a list of one, a tensor of floats or small
/// numbers a list too.
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
                (proto::ATTRIBUTE_FLOAT | proto::ATTRIBUTE_FLOATS, value) => {
                    found.floats.extend(floats(value))
                }
                (proto::ATTRIBUTE_TEXT | proto::ATTRIBUTE_TEXTS, Value::Bytes(bytes)) => {
                    found.texts.push(text(bytes));
                }
                (proto::ATTRIBUTE_TENSOR, Value::Bytes(bytes)) => {
                    let tensor = TensorValues::read(bytes);
                    found.floats.extend(tensor.floats);
                    found.integers.extend(tensor.integers);
                }
                _ => {}
            }
        }
        found
    }
}

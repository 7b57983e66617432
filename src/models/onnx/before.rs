//! What a model does to its input before its trees see it.

use super::nodes::{Attribute, GraphNode, TensorValues};
use crate::models::trees::Before;

/// The nodes between the model's `input` and `trees`, the first of them first.
///
/// # Errors
/// The first node, from the trees on, that does something else than what an ensemble can do.
pub fn read(
    nodes: &[GraphNode],
    constants: &[TensorValues],
    input: &str,
    trees: &str,
) -> Result<Vec<Before>, String> {
    let (mut name, mut before) = (trees, Vec::new());
    // A node is met once, unless they go round in a circle.
    for _ in 0..=nodes.len() {
        if name == input {
            before.reverse();
            return Ok(before);
        }
        let maker = nodes.iter().find(|node| node.outputs.iter().any(|output| output == name));
        let refused = || {
            let operator = maker.map_or("something", |node| &node.operator);
            format!("{operator} comes between the input and the trees")
        };
        let node = maker.ok_or_else(refused)?;
        let constant = |at: usize| {
            let name = node.inputs.get(at)?;
            let found = constants.iter().find(|constant| constant.name == *name)?;
            (!found.floats.is_empty()).then(|| found.floats.clone())
        };
        let (mut from, by) = (0, constant(1));
        match (node.operator.as_str(), by) {
            ("Identity", _) => {}
            ("Cast", _) if casts_to_float(node) => {}
            ("Scaler", _) => before.extend(scaler(node)),
            ("Imputer", _) => before.push(imputer(node).ok_or_else(refused)?),
            ("Sub", Some(by)) => before.push(Before::Subtract(by)),
            ("Div", Some(by)) => before.push(Before::Divide(by)),
            ("Add", Some(by)) => before.push(Before::Add(by)),
            ("Mul", Some(by)) => before.push(Before::Multiply(by)),
            ("Add" | "Mul", None) => {
                from = 1;
                let by = constant(0).ok_or_else(refused)?;
                before.push(if node.operator == "Add" {
                    Before::Add(by)
                } else {
                    Before::Multiply(by)
                });
            }
            _ => return Err(refused()),
        }
        name = node.inputs.get(from).ok_or_else(refused)?;
    }
    Err("its nodes go round in a circle".to_owned())
}

fn casts_to_float(node: &GraphNode) -> bool {
    let mut attributes = node.attributes.iter().map(|attribute| Attribute::read(attribute));
    attributes.any(|Attribute { name, integers, .. }| name == "to" && integers == [1])
}

/// What a Scaler does, the last first.
fn scaler(node: &GraphNode) -> Vec<Before> {
    let mut steps = Vec::new();
    for attribute in &node.attributes {
        let Attribute { name, floats, .. } = Attribute::read(attribute);
        match name.as_str() {
            "scale" => steps.insert(0, Before::Multiply(floats)),
            "offset" => steps.push(Before::Subtract(floats)),
            _ => {}
        }
    }
    steps
}

fn imputer(node: &GraphNode) -> Option<Before> {
    let (mut number, mut by) = (0.0, None);
    for attribute in &node.attributes {
        let Attribute { name, floats, .. } = Attribute::read(attribute);
        match name.as_str() {
            "replaced_value_float" => number = *floats.first()?,
            "imputed_value_floats" => by = Some(floats),
            _ => return None,
        }
    }
    Some(Before::Replace { number, by: by? })
}

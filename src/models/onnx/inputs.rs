//! Which features each input of a model takes; seen to when the model is loaded.

use std::fmt::{self, Display, Formatter};

use arrow::datatypes::{DataType, Field};
use indexmap::IndexMap;
use ort::value::{Outlet, TensorElementType, ValueType};

/// What a tensor holds, of what features can be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Float,
    Double,
    Int64,
    Int32,
    Bool,
    Text,
}

impl Element {
    /// The features (Float64, Int64 or Utf8) that it is made of.
    fn takes(self, feature: &DataType) -> bool {
        (self == Element::Text) == (*feature == DataType::Utf8)
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Element::Float => "float",
            Element::Double => "double",
            Element::Int64 => "int64",
            Element::Int32 => "int32",
            Element::Bool => "bool",
            Element::Text => "string",
        })
    }
}

/// An input as the model declares it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub name: String,
    pub element: Element,
    /// Its dimensions, negative where they are open; empty if it declares none.
    pub shape: Vec<i64>,
}

impl Declared {
    /// # Errors
    /// If it is nothing that features could become.
    pub fn new(input: &Outlet) -> Result<Self, String> {
        let name = input.name();
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(format!("its input {name:?} is {}; a tensor is needed", input.dtype()));
        };
        let element = match ty {
            TensorElementType::Float32 => Element::Float,
            TensorElementType::Float64 => Element::Double,
            TensorElementType::Int64 => Element::Int64,
            TensorElementType::Int32 => Element::Int32,
            TensorElementType::Bool => Element::Bool,
            TensorElementType::String => Element::Text,
            other => {
                return Err(format!(
                    "its input {name:?} is a tensor of {other}; float, double, int64, int32, bool or string is needed"
                ));
            }
        };
        Ok(Declared { name: name.to_owned(), element, shape: shape.to_vec() })
    }

    /// How many features it takes, where it says so.
    fn width(&self) -> Option<usize> {
        match self.shape.as_slice() {
            [_] => Some(1),
            [_, width] => usize::try_from(*width).ok(),
            _ => None,
        }
    }
}

impl Display for Declared {
    /// Name, type and shape, as in `"X" (float [rows, 16])`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} {})", self.name, self.element, Shape(&self.shape))
    }
}

/// A declared shape, its first dimension the rows.
pub struct Shape<'a>(pub &'a [i64]);

impl Display for Shape<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let dimensions = self.0.iter().enumerate().map(|(at, &dimension)| match dimension {
            0.. => dimension.to_string(),
            _ if at == 0 => "rows".to_owned(),
            _ => "?".to_owned(),
        });
        match self.0 {
            [] => f.write_str("of any shape"),
            _ => write!(f, "[{}]", dimensions.collect::<Vec<_>>().join(", ")),
        }
    }
}

/// An input and the features it takes.
#[derive(Clone, Debug)]
pub struct BoundInput {
    pub declared: Declared,
    /// Positions among the model's features, in the order of the tensor's columns.
    pub features: Vec<usize>,
}

impl BoundInput {
    /// The shape of its tensor for so many rows.
    pub fn shape(&self, rows: usize) -> Vec<usize> {
        match self.declared.shape.len() {
            1 => vec![rows],
            _ => vec![rows, self.features.len()],
        }
    }
}

/// The features of each input, in the order of the inputs. One input takes all features. Of several
/// each takes those that the job names for it (`[model.inputs]`), or the one of its own name; then
/// the one input of text that is left takes the text that is left, likewise for numbers.
///
/// # Errors
/// The first input or feature that does not fit, and what the job offers.
pub fn bind(
    declared: Vec<Declared>,
    features: &[Field],
    named: &IndexMap<String, Vec<String>>,
) -> Result<Vec<BoundInput>, String> {
    if let Some(name) = named.keys().find(|&name| !declared.iter().any(|d| d.name == *name)) {
        return Err(format!("it has no input {name:?} (model.inputs); it has {}", list(&declared)));
    }
    let mut taken: Vec<Option<Vec<usize>>> =
        declared.iter().map(|input| by_name(&input.name, features, named)).collect();
    if let [only] = taken.as_mut_slice()
        && named.is_empty()
    {
        *only = Some((0..features.len()).collect());
    }
    let is_left = |at: &usize| !taken.iter().flatten().flatten().any(|taken| taken == at);
    let left: Vec<usize> = (0..features.len()).filter(is_left).collect();
    for is_text in [false, true] {
        let open: Vec<usize> = (0..declared.len())
            .filter(|&at| taken[at].is_none() && (declared[at].element == Element::Text) == is_text)
            .collect();
        match open.as_slice() {
            [] => {}
            &[one] if declared[one].width() != Some(1) => {
                let fits = |at: &usize| declared[one].element.takes(features[*at].data_type());
                taken[one] = Some(left.iter().copied().filter(fits).collect());
            }
            &[first, ..] => return Err(nameless(&declared[first], features)),
        }
    }
    let bound: Vec<BoundInput> = declared
        .into_iter()
        .zip(taken)
        .map(|(declared, taken)| BoundInput { declared, features: taken.unwrap_or_default() })
        .collect();
    bound.iter().try_for_each(|input| check(input, features))?;
    let used = |at: &usize| bound.iter().any(|input| input.features.contains(at));
    match (0..features.len()).find(|at| !used(at)) {
        Some(at) => {
            let declared: Vec<Declared> = bound.into_iter().map(|b| b.declared).collect();
            Err(format!(
                "none of its inputs takes the feature {:?} of model.features; it has {}",
                features[at].name(),
                list(&declared)
            ))
        }
        None => Ok(bound),
    }
}

/// The features that the job names for an input, or else the one that is called like it.
fn by_name(
    input: &str,
    features: &[Field],
    named: &IndexMap<String, Vec<String>>,
) -> Option<Vec<usize>> {
    let position = |name: &str| features.iter().position(|field| field.name() == name);
    match named.get(input) {
        Some(names) => Some(names.iter().filter_map(|name| position(name)).collect()),
        None => position(input).map(|at| vec![at]),
    }
}

fn nameless(input: &Declared, features: &[Field]) -> String {
    format!(
        "its input {input} has the name of no feature; the job offers {}; say in [model.inputs] which it takes",
        offer(features)
    )
}

/// Whether the input takes as many features as it was given, and of their types.
fn check(input: &BoundInput, features: &[Field]) -> Result<(), String> {
    let BoundInput { declared, features: taken } = input;
    if declared.shape.len() > 2 {
        return Err(format!(
            "its input {declared} has {} dimensions; one of [rows] or [rows, features] is needed",
            declared.shape.len()
        ));
    }
    if declared.shape.first().is_some_and(|&rows| rows > 0) {
        return Err(format!(
            "its input {declared} has a fixed number of rows, as PyTorch's exporter writes without dynamic_shapes; export the model with an open first dimension"
        ));
    }
    if let Some(wanted) = declared.width().filter(|&wanted| wanted != taken.len()) {
        return Err(format!(
            "its input {declared} takes {wanted} features, but model.features lists {} features for it; the job offers {}",
            taken.len(),
            offer(features)
        ));
    }
    if taken.is_empty() {
        return Err(format!(
            "no feature is left for its input {declared}; the job offers {}",
            offer(features)
        ));
    }
    match taken.iter().find(|&&at| !declared.element.takes(features[at].data_type())) {
        Some(&at) => Err(format!(
            "its input {declared} takes {}, but feature {:?} is {}; the job offers {}",
            if declared.element == Element::Text { "text" } else { "numbers" },
            features[at].name(),
            if declared.element == Element::Text { "a number" } else { "text" },
            offer(features)
        )),
        None => Ok(()),
    }
}

/// The features of the job with their types.
pub fn offer(features: &[Field]) -> String {
    let one = |field: &Field| {
        let kind = match field.data_type() {
            DataType::Utf8 => "text",
            DataType::Int64 => "integer",
            _ => "number",
        };
        format!("{} ({kind})", field.name())
    };
    features.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn list(inputs: &[Declared]) -> String {
    inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, element: Element, shape: &[i64]) -> Declared {
        Declared { name: name.to_owned(), element, shape: shape.to_vec() }
    }

    /// Features called a, b, … of numbers, and then s, t, … of text.
    fn features(numbers: usize, texts: usize) -> Vec<Field> {
        let field = |name: char, to: DataType| Field::new(name, to, true);
        let numbers = ('a'..).take(numbers).map(|name| field(name, DataType::Float64));
        numbers.chain(('s'..).take(texts).map(|name| field(name, DataType::Utf8))).collect()
    }

    fn positions(
        inputs: &[Declared],
        features: &[Field],
        named: &[(&str, &[&str])],
    ) -> Result<Vec<Vec<usize>>, String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let named = named.iter().map(|(input, list)| ((*input).to_owned(), names(list))).collect();
        let bound = bind(inputs.to_vec(), features, &named)?;
        Ok(bound.into_iter().map(|input| input.features).collect())
    }

    use Element::{Bool, Double, Float, Int64, Text};

    #[test]
    fn one_input_takes_all_features_in_order() {
        for shape in [&[-1, 3][..], &[-1, -1], &[]] {
            let inputs = [input("X", Double, shape)];
            assert_eq!(positions(&inputs, &features(3, 0), &[]).unwrap(), [[0, 1, 2]]);
        }
        assert_eq!(positions(&[input("X", Int64, &[-1])], &features(1, 0), &[]).unwrap(), [[0]]);
        assert_eq!(
            positions(&[input("X", Text, &[-1, 2])], &features(0, 2), &[]).unwrap(),
            [[0, 1]]
        );
    }

    #[test]
    fn several_inputs_go_by_name_whatever_their_order() {
        let inputs =
            [input("s", Text, &[-1, 1]), input("b", Bool, &[-1]), input("a", Int64, &[-1, 1])];
        assert_eq!(positions(&inputs, &features(2, 1), &[]).unwrap(), [[2], [1], [0]]);
    }

    #[test]
    fn a_wide_input_takes_what_is_left_of_its_type() {
        let inputs = [input("all", Float, &[-1, 2]), input("b", Float, &[-1, 1])];
        assert_eq!(positions(&inputs, &features(3, 0), &[]).unwrap(), [vec![0, 2], vec![1]]);
        let inputs = [input("texts", Text, &[-1, 2]), input("numbers", Float, &[-1, -1])];
        assert_eq!(positions(&inputs, &features(2, 2), &[]).unwrap(), [[2, 3], [0, 1]]);
    }

    #[test]
    fn the_job_says_where_names_differ() {
        let inputs = [input("x", Float, &[-1, 1]), input("y", Float, &[-1, 2])];
        let named: &[(&str, &[&str])] = &[("x", &["c"]), ("y", &["b", "a"])];
        assert_eq!(positions(&inputs, &features(3, 0), named).unwrap(), [vec![2], vec![1, 0]]);
    }

    #[test]
    fn what_does_not_fit_names_the_input_and_the_offer() {
        let refuse = |inputs: &[Declared], numbers, texts, named: &[(&str, &[&str])]| {
            positions(inputs, &features(numbers, texts), named).unwrap_err()
        };
        assert_eq!(
            refuse(&[input("X", Float, &[-1, 3])], 2, 0, &[]),
            "its input \"X\" (float [rows, 3]) takes 3 features, but model.features lists 2 features for it; the job offers a (number), b (number)"
        );
        assert_eq!(
            refuse(&[input("X", Float, &[-1, 2])], 1, 1, &[]),
            "its input \"X\" (float [rows, 2]) takes numbers, but feature \"s\" is text; the job offers a (number), s (text)"
        );
        assert_eq!(
            refuse(&[input("a", Text, &[-1, 1]), input("b", Float, &[-1, 1])], 2, 0, &[]),
            "its input \"a\" (string [rows, 1]) takes text, but feature \"a\" is a number; the job offers a (number), b (number)"
        );
        let two = [input("a", Float, &[-1, 1]), input("z", Float, &[-1, 1])];
        assert_eq!(
            refuse(&two, 2, 0, &[]),
            "its input \"z\" (float [rows, 1]) has the name of no feature; the job offers a (number), b (number); say in [model.inputs] which it takes"
        );
        assert_eq!(
            refuse(&two, 3, 0, &[("z", &["b"])]),
            "none of its inputs takes the feature \"c\" of model.features; it has \"a\" (float [rows, 1]), \"z\" (float [rows, 1])"
        );
        assert!(refuse(&two, 2, 0, &[("y", &["b"])]).starts_with("it has no input \"y\""));
        assert!(refuse(&[input("X", Float, &[1, 2])], 2, 0, &[]).contains("fixed number of rows"));
        assert!(refuse(&[input("X", Float, &[-1, 1, 2])], 2, 0, &[]).contains("3 dimensions"));
    }
}

//! The signature of a version: what its model takes and gives, as `MLmodel` has it.
//!
//! Tensors of a signature are compared with those of the ONNX file. Columns of a signature are what a table
//! for the model has: their names are those of features, or of inputs that take one each. A width, a name, an
//! order or a type that cannot both be right is a contradiction. That a signature says `double` where the
//! model takes `float` is none: MLflow itself rounds.

use std::fmt::{self, Display, Formatter};

use serde::Deserialize;

use crate::models::onnx::{Element, TakenInput};

/// What a model takes and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
enum Spec {
    /// `shape` is negative where a dimension is open.
    Tensor {
        name: Option<String>,
        dtype: String,
        shape: Vec<i64>,
    },
    Column {
        name: Option<String>,
        dtype: String,
    },
}

/// As it stands in `MLmodel`: JSON.
#[derive(Deserialize)]
struct RawSpec {
    #[serde(rename = "type")]
    dtype: String,
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<i64>,
}

/// What a type of MLflow or NumPy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Integer,
    Bool,
    Text,
    Other,
}

impl Kind {
    fn of(dtype: &str) -> Self {
        match dtype {
            "float" | "double" | "float16" | "float32" | "float64" => Kind::Float,
            "integer" | "long" => Kind::Integer,
            _ if dtype.starts_with("int") || dtype.starts_with("uint") => Kind::Integer,
            "boolean" | "bool" => Kind::Bool,
            "string" | "str" | "object" => Kind::Text,
            _ => Kind::Other,
        }
    }

    fn of_element(element: Element) -> Self {
        match element {
            Element::Float | Element::Double => Kind::Float,
            Element::Int64 | Element::Int32 => Kind::Integer,
            Element::Bool => Kind::Bool,
            Element::Text => Kind::Text,
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Kind::Float | Kind::Integer | Kind::Bool)
    }

    /// Whether a column of the one can be put into a tensor of the other.
    fn goes_with(self, other: Self) -> bool {
        self == other && self != Kind::Other || self.is_number() && other.is_number()
    }
}

impl Signature {
    /// That of the text of an `MLmodel` file, if it has one.
    ///
    /// # Errors
    /// If it is no YAML, or the signature is not MLflow's.
    pub fn of_mlmodel(text: &str) -> Result<Option<Self>, String> {
        let Some([inputs, outputs]) = super::mlmodel::signature(text)? else { return Ok(None) };
        let specs = |name: &str, text: Option<String>| -> Result<Vec<Spec>, String> {
            let Some(text) = text else { return Ok(Vec::new()) };
            let raw: Vec<RawSpec> = serde_json::from_str(&text)
                .map_err(|error| format!("signature.{name} is not MLflow's: {error}"))?;
            Ok(raw.into_iter().map(Spec::from).collect())
        };
        let (inputs, outputs) = (specs("inputs", inputs)?, specs("outputs", outputs)?);
        Ok((!inputs.is_empty() || !outputs.is_empty()).then_some(Signature { inputs, outputs }))
    }

    /// Whether a model does what the signature says: one with these `inputs`, whose prediction is read from
    /// an output of so many `columns`.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self, inputs: &[TakenInput], columns: usize) -> Result<(), String> {
        let tensors = self.inputs.iter().all(|spec| matches!(spec, Spec::Tensor { .. }));
        match self.inputs.as_slice() {
            [] => {}
            [Spec::Tensor { name: None, dtype, shape }] => check_matrix(dtype, shape, inputs)?,
            several if tensors => check_tensors(several, inputs)?,
            several => check_columns(several, inputs)?,
        }
        if let [Spec::Tensor { name: None, dtype, shape }] = self.outputs.as_slice()
            && Kind::of(dtype) == Kind::Float
            && let [_, given] = shape.as_slice()
            && *given > 1
            && *given != columns as i64
        {
            return Err(format!(
                "its signature says that it gives {given} columns, and the output that is read has {columns}"
            ));
        }
        Ok(())
    }
}

/// One tensor without a name: all that the model takes.
fn check_matrix(dtype: &str, shape: &[i64], inputs: &[TakenInput]) -> Result<(), String> {
    let takes = inputs.iter().map(|input| input.features.len()).sum::<usize>();
    let says = match shape {
        [_] => Some(1),
        [_, width] => usize::try_from(*width).ok(),
        _ => None,
    };
    if let Some(says) = says.filter(|says| *says != takes) {
        return Err(format!("its signature has {says} columns, and its model takes {takes}"));
    }
    let kind = Kind::of(dtype);
    let other = inputs.iter().find(|input| match inputs.len() {
        1 => kind != Kind::of_element(input.element),
        _ => !kind.goes_with(Kind::of_element(input.element)),
    });
    other.map_or(Ok(()), |input| Err(other_type(None, dtype, input)))
}

/// Tensors by name: each is an input.
fn check_tensors(specs: &[Spec], inputs: &[TakenInput]) -> Result<(), String> {
    let says = specs.iter().map(|spec| spec.name().unwrap_or("?")).collect::<Vec<_>>().join(", ");
    let has = inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    if specs.len() != inputs.len() {
        return Err(format!("its signature has the inputs {says}, and its model {has}"));
    }
    for spec in specs {
        let Spec::Tensor { name: Some(name), dtype, shape } = spec else {
            return Err("its signature has several inputs, and not all have names".to_owned());
        };
        let Some(input) = inputs.iter().find(|input| input.name == *name) else {
            return Err(format!("its signature has the inputs {says}, and its model {has}"));
        };
        let takes = input.features.len();
        if let [_, width] = shape.as_slice()
            && *width >= 0
            && *width != takes as i64
        {
            return Err(format!(
                "its signature has {width} columns in {name:?}, and its model takes {takes} there"
            ));
        }
        if Kind::of(dtype) != Kind::of_element(input.element) {
            return Err(other_type(Some(name), dtype, input));
        }
    }
    Ok(())
}

/// Columns of a table: the features. One input takes them in their order; of several each takes its own.
fn check_columns(specs: &[Spec], inputs: &[TakenInput]) -> Result<(), String> {
    let given: Vec<(&TakenInput, &String)> = inputs
        .iter()
        .flat_map(|input| input.features.iter().map(move |name| (input, name)))
        .collect();
    let (says, takes) = (specs.len(), given.len());
    if says != takes {
        return Err(format!("its signature has {says} columns, and its model takes {takes}"));
    }
    // An input of one feature may be called otherwise than the feature.
    let is_called = |(input, feature): &(&TakenInput, &String), name: &str| {
        *feature == name || input.features.len() == 1 && input.name == name
    };
    for (at, spec) in specs.iter().enumerate() {
        let taken = match (spec.name(), inputs) {
            (None, _) | (_, [_]) => &given[at],
            (Some(name), _) => {
                given.iter().find(|given| is_called(given, name)).ok_or_else(|| {
                    format!("its signature has a column {name:?}, which nothing takes")
                })?
            }
        };
        if let Some(name) = spec.name().filter(|name| !is_called(taken, name)) {
            return Err(format!(
                "its signature has {name:?} in column {at}, where the model is given {:?}; the job gives {} (model.features)",
                taken.1,
                given.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
            ));
        }
        if !Kind::of(spec.dtype()).goes_with(Kind::of_element(taken.0.element)) {
            return Err(other_type(spec.name(), spec.dtype(), taken.0));
        }
    }
    Ok(())
}

fn other_type(name: Option<&str>, dtype: &str, input: &TakenInput) -> String {
    let of = name.map_or(String::new(), |name| format!(" for {name:?}"));
    let TakenInput { name, element, .. } = input;
    format!("its signature says {dtype}{of}, and the input {name:?} of its model takes {element}")
}

impl Spec {
    fn name(&self) -> Option<&str> {
        let (Spec::Tensor { name, .. } | Spec::Column { name, .. }) = self;
        name.as_deref()
    }

    fn dtype(&self) -> &str {
        let (Spec::Tensor { dtype, .. } | Spec::Column { dtype, .. }) = self;
        dtype
    }
}

impl From<RawSpec> for Spec {
    fn from(raw: RawSpec) -> Self {
        let RawSpec { dtype, name, tensor } = raw;
        match tensor {
            Some(RawTensor { dtype, shape }) => Spec::Tensor { name, dtype, shape },
            None => Spec::Column { name, dtype },
        }
    }
}

impl Display for Spec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            write!(f, "{name} ")?;
        }
        match self {
            Spec::Column { dtype, .. } => f.write_str(dtype),
            Spec::Tensor { dtype, shape, .. } => {
                let dimensions = shape.iter().enumerate().map(|(at, dimension)| match dimension {
                    0.. => dimension.to_string(),
                    _ if at == 0 => "rows".to_owned(),
                    _ => "?".to_owned(),
                });
                write!(f, "{dtype} [{}]", dimensions.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Display for Signature {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |specs: &[Spec]| match specs {
            [] => "unknown".to_owned(),
            specs => specs.iter().map(Spec::to_string).collect::<Vec<_>>().join(", "),
        };
        write!(f, "{} → {}", list(&self.inputs), list(&self.outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MLflow 3.17.2 writes it; the second text is folded by its YAML writer.
    const MLMODEL: &str = r#"
artifact_path: mlflow-artifacts:/0/models/m-1/artifacts
flavors:
  onnx:
    code: null
    data: model.onnx
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}, {"type": "string",
    "name": "y", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1,
    3]}}]'
  params: null
"#;

    fn signature(inputs: &str) -> Signature {
        let text = format!("signature:\n  inputs: '{inputs}'\n");
        Signature::of_mlmodel(&text).unwrap().unwrap()
    }

    fn input(name: &str, element: Element, features: &[&str]) -> TakenInput {
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        TakenInput { name: name.to_owned(), element, features }
    }

    fn tensor(name: &str, dtype: &str, shape: &str) -> String {
        let name = if name.is_empty() { String::new() } else { format!(r#""name": "{name}", "#) };
        format!(
            r#"{{{name}"type": "tensor", "tensor-spec": {{"dtype": "{dtype}", "shape": {shape}}}}}"#
        )
    }

    #[test]
    fn it_is_read_as_mlflow_writes_it() {
        let found = Signature::of_mlmodel(MLMODEL).unwrap().unwrap();
        assert_eq!(found.to_string(), "x double, y string → float32 [rows, 3]");
        assert_eq!(Signature::of_mlmodel("flavors: {}").unwrap(), None);
        assert_eq!(Signature::of_mlmodel("signature: null").unwrap(), None);
        for wrong in ["signature: {inputs: '{}'}", "signature: [", "signature: 5"] {
            assert!(Signature::of_mlmodel(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_matrix_has_the_width_and_the_type_of_the_model() {
        let model = [input("X", Element::Float, &["a", "b"])];
        let check = |dtype: &str, shape: &str| {
            signature(&format!("[{}]", tensor("", dtype, shape))).check(&model, 1)
        };
        for sound in ["float32", "float64"] {
            assert_eq!(check(sound, "[-1, 2]"), Ok(()));
        }
        assert_eq!(check("float32", "[-1, -1]"), Ok(()));
        let wrong = check("float32", "[-1, 3]").unwrap_err();
        assert_eq!(wrong, "its signature has 3 columns, and its model takes 2");
        let wrong = check("int64", "[-1, 2]").unwrap_err();
        assert_eq!(wrong, "its signature says int64, and the input \"X\" of its model takes float");
        assert!(check("str", "[-1, 2]").is_err());
        assert!(check("float32", "[-1]").is_err());
    }

    #[test]
    fn columns_are_the_features_in_their_order() {
        let column =
            |name: &str, dtype: &str| format!(r#"{{"name": "{name}", "type": "{dtype}"}}"#);
        let check = |columns: [String; 2], model: &[TakenInput]| {
            signature(&format!("[{}]", columns.join(", "))).check(model, 1)
        };
        let model = [input("X", Element::Float, &["a", "b"])];
        assert_eq!(check([column("a", "double"), column("b", "long")], &model), Ok(()));
        let wrong = check([column("b", "double"), column("a", "long")], &model).unwrap_err();
        assert!(wrong.contains("has \"b\" in column 0, where the model is given \"a\""), "{wrong}");
        assert!(check([column("a", "string"), column("b", "long")], &model).is_err());
        assert!(check([column("a", "datetime"), column("b", "long")], &model).is_err());
        // Inputs of their own go by name, that of the feature or of the input.
        let model =
            [input("a", Element::Float, &["a"]), input("from", Element::Text, &["airport"])];
        let (number, text) = (column("a", "double"), column("from", "string"));
        assert_eq!(check([text, number.clone()], &model), Ok(()));
        assert_eq!(check([number.clone(), column("airport", "string")], &model), Ok(()));
        let wrong = check([number, column("to", "string")], &model).unwrap_err();
        assert_eq!(wrong, "its signature has a column \"to\", which nothing takes");
    }

    #[test]
    fn tensors_with_names_are_the_inputs() {
        let model = [input("a", Element::Float, &["x", "y"]), input("b", Element::Text, &["z"])];
        let check =
            |tensors: &[String]| signature(&format!("[{}]", tensors.join(", "))).check(&model, 1);
        let (a, b) = (tensor("a", "float32", "[-1, 2]"), tensor("b", "str", "[-1, 1]"));
        assert_eq!(check(&[b.clone(), a.clone()]), Ok(()));
        assert!(check(std::slice::from_ref(&a)).is_err());
        assert!(check(&[a.clone(), tensor("c", "str", "[-1, 1]")]).is_err());
        assert!(check(&[tensor("a", "float32", "[-1, 3]"), b.clone()]).is_err());
        assert!(check(&[tensor("a", "int64", "[-1, 2]"), b]).is_err());
    }

    #[test]
    fn several_columns_that_it_gives_are_those_of_the_model() {
        let found = Signature::of_mlmodel(MLMODEL).unwrap().unwrap();
        let model = [input("x", Element::Float, &["x"]), input("y", Element::Text, &["y"])];
        assert_eq!(found.check(&model, 3), Ok(()));
        let wrong = found.check(&model, 2).unwrap_err();
        assert!(wrong.contains("gives 3 columns, and the output that is read has 2"), "{wrong}");
    }
}

//! What a version of a model has done to its features before they are its tensors: a part of the model, so
//! that a switch changes both at the same row.
//!
//! Arithmetic is of Float64; the model rounds to the type of its tensor afterwards, as it does with any
//! feature. A null stays null.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};

use crate::key_map::KeyMap;
use crate::model::{Model, ModelError, Scores, Task};

/// What is done to a feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// (x − `from`) / `by`: of a mean and a standard deviation, or of a least value and the distance to the
    /// greatest.
    Normalize { from: f64, by: f64 },
    /// The code of a category; texts as they are, whole numbers as they are written (`7`, not `7.0`).
    /// Without `unseen` a row with another category is refused.
    Encode { codes: KeyMap<String, f64>, unseen: Option<f64> },
}

impl Change {
    /// What a feature is afterwards.
    fn data_type(&self, before: &DataType) -> Option<DataType> {
        let takes_text = matches!(self, Change::Encode { .. });
        (takes_text || *before != DataType::Utf8).then_some(DataType::Float64)
    }

    fn apply(&self, name: &str, column: &ArrayRef) -> Result<ArrayRef, ModelError> {
        Ok(match self {
            Change::Normalize { from, by } => {
                let values = column.as_primitive_opt::<Float64Type>();
                let changed: Float64Array = match values {
                    Some(values) => values.unary(|x| (x - from) / by),
                    None => {
                        let values = column.as_primitive::<Int64Type>();
                        values.unary(|x| (x as f64 - from) / by)
                    }
                };
                Arc::new(changed)
            }
            Change::Encode { codes, unseen } => {
                let mut category = String::new();
                let mut encoded = Float64Array::builder(column.len());
                for row in 0..column.len() {
                    if column.is_null(row) {
                        encoded.append_null();
                        continue;
                    }
                    category.clear();
                    write_category(column, row, &mut category);
                    let code = codes.get(&category).copied().or(*unseen);
                    let none = || {
                        let why = "is no category that it was encoded with";
                        ModelError::Refused(format!("feature {name:?}: {category:?} {why}"))
                    };
                    encoded.append_value(code.ok_or_else(none)?);
                }
                Arc::new(encoded.finish())
            }
        })
    }
}

/// A value that is not null, as a category is written.
fn write_category(column: &ArrayRef, row: usize, category: &mut String) {
    // Writing to a text does not fail.
    let _ = match column.data_type() {
        DataType::Utf8 => category.write_str(column.as_string::<i32>().value(row)),
        DataType::Int64 => write!(category, "{}", column.as_primitive::<Int64Type>().value(row)),
        // Of a float with a whole value Rust writes no fraction.
        _ => write!(category, "{}", column.as_primitive::<Float64Type>().value(row)),
    };
}

/// Changes by feature, in their order; a feature may have several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preprocessing(pub Vec<(String, Change)>);

impl Preprocessing {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the features (Float64, Int64 or Utf8) are afterwards.
    ///
    /// # Errors
    /// If one is not among them, or a text is to be normalized.
    pub fn fields(&self, features: &[Field]) -> Result<Vec<Field>, String> {
        let mut fields = features.to_vec();
        for (name, change) in &self.0 {
            let Some(field) = fields.iter_mut().find(|field| field.name() == name) else {
                let known: Vec<&str> = features.iter().map(|field| field.name().as_str()).collect();
                return Err(format!("{name:?} is not among the features ({})", known.join(", ")));
            };
            let changed = change.data_type(field.data_type());
            let changed = changed.ok_or_else(|| format!("{name:?} is text, and no number"))?;
            *field = field.clone().with_data_type(changed);
        }
        Ok(fields)
    }

    /// `model` with the changes in front of it, given `features`.
    ///
    /// # Errors
    /// As [`Preprocessing::fields`].
    pub fn before(
        &self,
        model: Box<dyn Model>,
        features: &[Field],
    ) -> Result<Box<dyn Model>, String> {
        if self.is_empty() {
            return Ok(model);
        }
        let schema = Arc::new(Schema::new(self.fields(features)?));
        let position = |name: &String| features.iter().position(|field| field.name() == name);
        let changes =
            self.0.iter().filter_map(|(name, change)| Some((position(name)?, change.clone())));
        Ok(Box::new(Preprocessed { changes: changes.collect(), schema, model }))
    }
}

/// A model behind changes of its features.
struct Preprocessed {
    /// By position.
    changes: Vec<(usize, Change)>,
    /// Of what the model is given.
    schema: SchemaRef,
    model: Box<dyn Model>,
}

impl Preprocessed {
    /// What the model is given.
    fn changed(&self, features: &RecordBatch) -> Result<RecordBatch, ModelError> {
        let mut columns = features.columns().to_vec();
        for (at, change) in &self.changes {
            columns[*at] = change.apply(self.schema.field(*at).name(), &columns[*at])?;
        }
        let changed = RecordBatch::try_new(self.schema.clone(), columns);
        changed.map_err(|error| ModelError::Refused(error.to_string()))
    }
}

impl Model for Preprocessed {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        self.model.score(&self.changed(features)?)
    }

    fn width(&self) -> usize {
        self.model.width()
    }

    fn task(&self) -> Task {
        self.model.task()
    }

    fn gives_doubles(&self) -> bool {
        self.model.gives_doubles()
    }

    fn limit_runs(&mut self, limit: Duration) -> Result<(), ModelError> {
        self.model.limit_runs(limit)
    }

    fn score_doubles(&mut self, features: &RecordBatch) -> Result<Scores<f64>, ModelError> {
        self.model.score_doubles(&self.changed(features)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    /// Scores with its first column, and wants floats.
    struct First;

    impl Model for First {
        fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
            let values = features.column(0).as_primitive::<Float64Type>();
            let predictions = values.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect();
            Ok(Scores { predictions, input: None })
        }

        fn width(&self) -> usize {
            1
        }

        fn task(&self) -> Task {
            Task::Regression
        }
    }

    fn scores(column: ArrayRef, changes: Vec<Change>) -> Result<Vec<f32>, String> {
        let field = Field::new("x", column.data_type().clone(), true);
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field.clone()])), vec![column]);
        let changes = changes.into_iter().map(|change| ("x".to_owned(), change)).collect();
        let mut model = Preprocessing(changes).before(Box::new(First), &[field])?;
        let scores = model.score(&rows.unwrap()).map_err(|error| error.to_string())?;
        Ok(scores.predictions)
    }

    fn encode(codes: &[(&str, f64)], unseen: Option<f64>) -> Change {
        let codes = codes.iter().map(|(text, code)| ((*text).to_owned(), *code)).collect();
        Change::Encode { codes, unseen }
    }

    #[test]
    fn numbers_are_normalized_in_float64() {
        // Float32 knows no number between 2^24 and 2^24 + 2.
        let near = 16_777_217.0;
        let column = Arc::new(Float64Array::from(vec![Some(near), None, Some(3.0)]));
        let changes = vec![Change::Normalize { from: 16_777_216.0, by: 0.5 }];
        let scores = scores(column, changes).unwrap();
        assert_eq!((scores[0], scores[2]), (2.0, (3.0 - 16_777_216.0) as f32 * 2.0));
        assert!(scores[1].is_nan());
    }

    #[test]
    fn integers_are_normalized_and_encoded_as_they_are_written() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7, -1]));
        let normalize = vec![Change::Normalize { from: 1.0, by: 2.0 }];
        assert_eq!(scores(column.clone(), normalize).unwrap(), [3.0, -1.0]);
        let codes = [("7", 0.5), ("-1", 4.0)];
        assert_eq!(scores(column, vec![encode(&codes, None)]).unwrap(), [0.5, 4.0]);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![7.0, 2.5]));
        assert_eq!(scores(floats, vec![encode(&codes, Some(9.0))]).unwrap(), [0.5, 9.0]);
    }

    #[test]
    fn an_unseen_category_has_a_code_or_is_refused_and_null_stays_null() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("z")]));
        let codes = [("a", 1.0), ("b", 2.0)];
        let coded = scores(column.clone(), vec![encode(&codes, Some(-1.0))]).unwrap();
        assert_eq!((coded[0], coded[2]), (2.0, -1.0));
        assert!(coded[1].is_nan());
        let error = scores(column.clone(), vec![encode(&codes, None)]).unwrap_err();
        assert_eq!(error, "feature \"x\": \"z\" is no category that it was encoded with");
        // One after the other.
        let normalize = Change::Normalize { from: 1.0, by: 2.0 };
        let both = scores(column.clone(), vec![encode(&codes, Some(5.0)), normalize.clone()]);
        assert_eq!(both.unwrap()[2], 2.0);
        let error = scores(column, vec![normalize]).unwrap_err();
        assert_eq!(error, "\"x\" is text, and no number");
    }

    #[test]
    fn what_is_no_feature_is_an_error() {
        let changes = vec![("y".to_owned(), Change::Normalize { from: 0.0, by: 1.0 })];
        let fields = [Field::new("x", DataType::Float64, true)];
        let error = Preprocessing(changes).fields(&fields).unwrap_err();
        assert_eq!(error, "\"y\" is not among the features (x)");
    }
}

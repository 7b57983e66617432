//! Categorical encoding: text to a number, with a stated rule for what was not seen in training.

use arrow::array::{ArrayRef, AsArray, Float64Array};

use crate::key_map::KeyMap;

/// The codes of the categories of a feature: category `i` is `i` as a float.
#[derive(Clone, Debug)]
pub struct Categories {
    codes: KeyMap<String, f64>,
    unseen: Option<f64>,
}

impl Categories {
    /// `unseen` is the code of a value that is not among `categories`; without it such a value is
    /// null, like a missing one.
    ///
    /// # Errors
    /// The category that is listed twice.
    pub fn new(categories: &[String], unseen: Option<f64>) -> Result<Self, String> {
        let mut codes = KeyMap::default();
        for (code, category) in categories.iter().enumerate() {
            if codes.insert(category.clone(), code as f64).is_some() {
                return Err(category.clone());
            }
        }
        Ok(Categories { codes, unseen })
    }

    /// Codes of a Utf8 column, `[rows]`; null stays null.
    pub fn encode(&self, column: &ArrayRef) -> Float64Array {
        let column = column.as_string::<i32>();
        let mut last: Option<(&str, Option<f64>)> = None;
        column
            .iter()
            .map(|value| {
                let value = value?;
                if let Some((_, code)) = last.filter(|(seen, _)| *seen == value) {
                    return code;
                }
                let code = self.codes.get(value).copied().or(self.unseen);
                last = Some((value, code));
                code
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn unseen_is_its_own_code_and_null_stays_null() {
        let names = ["EWR", "JFK"].map(str::to_owned);
        let column: ArrayRef =
            Arc::new(StringArray::from(vec![Some("JFK"), None, Some("LAX"), Some("EWR")]));
        let coded = Categories::new(&names, Some(-1.0)).unwrap().encode(&column);
        assert_eq!(coded.iter().collect::<Vec<_>>(), [Some(1.0), None, Some(-1.0), Some(0.0)]);
        let coded = Categories::new(&names, None).unwrap().encode(&column);
        assert_eq!(coded.iter().collect::<Vec<_>>(), [Some(1.0), None, None, Some(0.0)]);
    }

    #[test]
    fn a_category_twice_is_an_error() {
        let twice = ["a", "b", "a"].map(str::to_owned);
        assert_eq!(Categories::new(&twice, None).unwrap_err(), "a");
    }
}

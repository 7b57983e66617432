//! Rows for which an expression has no value because something in it failed: how many, and why.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use datafusion_common::DataFusionError;

/// What an expression refused, counted by all workers that evaluate it.
#[derive(Default)]
pub struct Refusals(Mutex<Refused>);

/// Rows that were made null, and why one of them was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub rows: u64,
    /// Of all reasons the first by the alphabet: the same for any number of workers.
    pub why: String,
}

impl Refusals {
    pub(super) fn add(&self, rows: u64, why: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(rows, why);
    }

    pub fn get(&self) -> Refused {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Refused {
    fn add(&mut self, rows: u64, why: &str) {
        if self.rows == 0 || why < self.why.as_str() {
            why.clone_into(&mut self.why);
        }
        self.rows += rows;
    }

    /// By what the expressions are of: those that refused rows, in order of their names.
    pub fn by_name(
        expressions: impl IntoIterator<Item = (String, Refused)>,
    ) -> Vec<(String, Refused)> {
        let mut found: BTreeMap<String, Refused> = BTreeMap::new();
        for (name, refused) in expressions {
            if refused.rows > 0 {
                found.entry(name).or_default().add(refused.rows, &refused.why);
            }
        }
        found.into_iter().collect()
    }
}

/// What an error says in itself, on one line: not which part of the library it went through.
pub(super) fn reason(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Execution(text) => text.clone(),
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::External(error) => error.to_string(),
        other => other.strip_backtrace(),
    };
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_that_is_told_does_not_depend_on_who_came_first() {
        for order in [[("b", 1), ("a", 2), ("c", 3)], [("c", 3), ("b", 1), ("a", 2)]] {
            let refusals = Refusals::default();
            order.iter().for_each(|(why, rows)| refusals.add(*rows, why));
            let expected = Refused { rows: 6, why: "a".to_owned() };
            assert_eq!(refusals.get(), expected);
            let named = [("y".to_owned(), refusals.get()), ("x".to_owned(), Refused::default())];
            assert_eq!(Refused::by_name(named), [("y".to_owned(), expected)]);
        }
    }
}

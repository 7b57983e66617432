//! What a program adds to the features that a job can declare.

use driftline_operators::features::functions::{Functions, SqlFunction};
use driftline_operators::features::window::{OwnAggregate, WindowFunction};
use indexmap::IndexMap;

/// Functions in Rust that a job calls by name: from `sql`, and over windows.
#[derive(Clone, Default)]
pub struct Extensions {
    pub functions: Functions,
    pub aggregates: IndexMap<String, OwnAggregate>,
}

impl Extensions {
    /// Expressions of the job can call `function`.
    #[must_use]
    pub fn function(mut self, function: SqlFunction) -> Self {
        self.functions = self.functions.with([function]);
        self
    }

    /// Windows of the job can have `function = "name"` in place of an aggregate.
    #[must_use]
    pub fn window(
        mut self,
        name: impl Into<String>,
        function: impl WindowFunction + 'static,
    ) -> Self {
        let name = name.into();
        self.aggregates.insert(name.clone(), OwnAggregate::new(name, function));
        self
    }
}

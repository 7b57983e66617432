//! What predictions say of their rows beside the score: status and metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringBuilder};
use serde_json::{Map, Value, json};

use crate::constant::Usual;
use crate::features::rules::{FAILED_RULES, Rules, failed_by};
use crate::features::validity::OnFail;

/// The status of rows that are late, or fail a rule that flags them.
const DEGRADED: &str = "degraded";

/// The columns `status` and `metadata`, nearly always the same in all rows.
#[derive(Clone)]
pub struct Statuses {
    ok: Usual,
    /// What is the same for all rows, and the text of it.
    metadata: Map<String, Value>,
    usual: Usual,
    late: String,
    /// The rules that rows may fail and be scored.
    rules: Option<Arc<Rules>>,
}

impl Statuses {
    /// `metadata` is of all rows.
    pub fn new(metadata: Map<String, Value>) -> Self {
        let mut late = metadata.clone();
        late.insert("degraded".to_owned(), json!(["late"]));
        Statuses {
            ok: Usual::new("ok"),
            usual: Usual::new(Value::Object(metadata.clone()).to_string()),
            metadata,
            late: Value::Object(late).to_string(),
            rules: None,
        }
    }

    /// The same, where rows may fail some of these rules and be scored: the last column of events says which
    /// they did.
    #[must_use]
    pub fn with_rules(self, rules: &Arc<Rules>) -> Self {
        let rules = rules.let_some_go_on().then(|| rules.clone());
        Statuses { rules, ..self }
    }

    /// Status and metadata of `events`, `[rows]`, of which some are `late`.
    pub fn of(&mut self, events: &RecordBatch, late: &BooleanArray) -> (ArrayRef, ArrayRef) {
        match self.rules.as_ref().zip(events.columns().last()) {
            Some((rules, failed)) if failed.null_count() < failed.len() => {
                self.by_row(rules, failed, late)
            }
            _ => (self.ok.unless(late, DEGRADED), self.usual.unless(late, &self.late)),
        }
    }

    /// The same, where some rows have failed rules.
    fn by_row(
        &self,
        rules: &Rules,
        failed: &ArrayRef,
        late: &BooleanArray,
    ) -> (ArrayRef, ArrayRef) {
        // A batch has few kinds of rows, and the text of one takes a while.
        let mut known: BTreeMap<(bool, Vec<u32>), (&str, String)> = BTreeMap::new();
        let rows = late.len();
        let mut status = StringBuilder::with_capacity(rows, rows * DEGRADED.len());
        let mut metadata = StringBuilder::new();
        for row in 0..rows {
            let of_row = (late.value(row), failed_by(failed, row));
            let (state, text) = known
                .entry(of_row)
                .or_insert_with_key(|(is_late, failed)| self.of_row(rules, *is_late, failed));
            status.append_value(state);
            metadata.append_value(text);
        }
        (Arc::new(status.finish()), Arc::new(metadata.finish()))
    }

    fn of_row(&self, rules: &Rules, is_late: bool, failed: &[u32]) -> (&'static str, String) {
        let is_flagged = failed.iter().any(|&rule| rules.get(rule).on_fail == OnFail::Flag);
        let why = [("late", is_late), ("validation", is_flagged)];
        let why: Vec<&str> = why.iter().filter(|(_, is)| *is).map(|(why, _)| *why).collect();
        let status = if why.is_empty() { "ok" } else { DEGRADED };
        let mut metadata = self.metadata.clone();
        if !why.is_empty() {
            metadata.insert("degraded".to_owned(), json!(why));
        }
        if !failed.is_empty() {
            metadata.insert(FAILED_RULES.to_owned(), json!(rules.names(failed)));
        }
        (status, Value::Object(metadata).to_string())
    }
}

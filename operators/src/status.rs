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

/// What is to be said of a row beside what is the same for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowNote {
    /// A member of what scored it has failed.
    pub member_failed: bool,
    /// A member of a JSON object; empty if there is none.
    pub said: String,
}

impl RowNote {
    /// Of a row that a stage of a cascade scored; the one behind it may have failed.
    pub fn of_cascade(name: &str, stage: u32, member_failed: bool) -> Self {
        let said = json!({"name": name, "stage": stage});
        RowNote { member_failed, said: format!("\"cascade\":{said}") }
    }
}

/// Of whom a row is a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    is_late: bool,
    failed: Vec<u32>,
    is_fallback: bool,
    member_failed: bool,
}

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

    /// The same without what is said of all rows.
    #[must_use]
    pub fn without_metadata(self) -> Self {
        Statuses { rules: self.rules, ..Statuses::new(Map::new()) }
    }

    /// Status and metadata of `events`, `[rows]`, of which some are `late`.
    /// `is_fallback`: they were scored in place of another. `notes`, `[rows]`: what is to be said of each.
    pub fn of(
        &mut self,
        events: &RecordBatch,
        late: &BooleanArray,
        is_fallback: bool,
        notes: Option<&[RowNote]>,
    ) -> (ArrayRef, ArrayRef) {
        let failed = self.rules.as_ref().and_then(|_| events.columns().last());
        let failed = failed.filter(|failed| failed.null_count() < failed.len());
        if failed.is_none() && !is_fallback && notes.is_none() {
            return (self.ok.unless(late, DEGRADED), self.usual.unless(late, &self.late));
        }
        self.by_row(failed, late, is_fallback, notes)
    }

    /// The same, where not all rows are alike.
    fn by_row(
        &self,
        failed: Option<&ArrayRef>,
        late: &BooleanArray,
        is_fallback: bool,
        notes: Option<&[RowNote]>,
    ) -> (ArrayRef, ArrayRef) {
        // A batch has few kinds of rows, and the text of one takes a while.
        let mut known: BTreeMap<Kind, (&str, String)> = BTreeMap::new();
        let rows = late.len();
        let mut status = StringBuilder::with_capacity(rows, rows * DEGRADED.len());
        let mut metadata = StringBuilder::new();
        for row in 0..rows {
            let note = notes.map(|notes| &notes[row]);
            let kind = Kind {
                is_late: late.value(row),
                failed: failed.map(|failed| failed_by(failed, row)).unwrap_or_default(),
                is_fallback,
                member_failed: note.is_some_and(|note| note.member_failed),
            };
            let (state, text) = known.entry(kind).or_insert_with_key(|kind| self.of_kind(kind));
            status.append_value(state);
            match note.filter(|note| !note.said.is_empty()) {
                None => metadata.append_value(text),
                Some(note) => metadata.append_value(with_member(text, &note.said)),
            }
        }
        (Arc::new(status.finish()), Arc::new(metadata.finish()))
    }

    fn of_kind(&self, kind: &Kind) -> (&'static str, String) {
        let rules = self.rules.as_deref();
        let fails =
            |&rule: &u32| rules.is_some_and(|rules| rules.get(rule).on_fail == OnFail::Flag);
        let why = [
            ("late", kind.is_late),
            ("validation", kind.failed.iter().any(fails)),
            ("fallback", kind.is_fallback),
            ("member_failed", kind.member_failed),
        ];
        let why: Vec<&str> = why.iter().filter(|(_, is)| *is).map(|(why, _)| *why).collect();
        let status = if why.is_empty() { "ok" } else { DEGRADED };
        let mut metadata = self.metadata.clone();
        if !why.is_empty() {
            metadata.insert("degraded".to_owned(), json!(why));
        }
        if let Some(rules) = rules.filter(|_| !kind.failed.is_empty()) {
            metadata.insert(FAILED_RULES.to_owned(), json!(rules.names(&kind.failed)));
        }
        (status, Value::Object(metadata).to_string())
    }
}

/// The text of a JSON object with one member more.
fn with_member(object: &str, member: &str) -> String {
    let inner = object.strip_suffix('}').unwrap_or(object);
    let comma = if inner == "{" { "" } else { "," };
    format!("{inner}{comma}{member}}}")
}

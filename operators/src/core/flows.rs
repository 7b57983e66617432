//! What goes from part to part of a job, and what waits for what.

use super::parts::{Part, Shape, TripShape};
use crate::gate::Order;
use crate::sinks::Output;

/// What goes from one part to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub from: Part,
    pub to: Part,
    pub carries: Carries,
    /// What `to` waits for before it makes use of what came.
    pub waits: Option<Wait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Rows(&'static str),
    /// Rows that are refused.
    DeadLetters,
    /// How far event time has come, and no rows.
    Progress(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A row's epoch is complete.
    Epoch,
    /// An epoch is complete whose watermark is past the row's event time.
    Watermark,
    /// The epoch of a request is complete at the owner.
    EpochAtOwner,
    /// All rows of a batch have all their answers.
    Answers,
    /// More rows, for a batch of the model.
    MoreRows,
    EndOfPane,
    EndOfWindow,
}

impl Shape {
    /// What goes from part to part.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = self.flows_in();
        flows.extend(self.flows_of_owners());
        flows.extend(self.flows_of_work());
        flows.extend(self.flows_of_drift());
        flows.extend(self.flows_of_dead_letters());
        flows
    }

    fn flows_in(&self) -> Vec<Flow> {
        let mut flows = vec![rows(Part::Events, Part::Admit, "rows")];
        flows.push(progress(Part::Admit, Part::Watermark, "highest event times"));
        for (at, _) in self.tables.iter().enumerate().filter(|(_, table)| !table.eager) {
            flows.push(progress(Part::Table(at), Part::Watermark, "highest event times"));
        }
        let arrive = rows(Part::Admit, Part::Gate, "rows, each to its home");
        match self.order {
            Order::Arrival => flows.push(arrive),
            Order::Epoch => flows.push(arrive.once(Wait::Epoch)),
            Order::EventTime => {
                flows.push(arrive);
                flows.push(progress(Part::Watermark, Part::Gate, "").once(Wait::Watermark));
            }
        }
        for at in 0..self.tables.len() {
            let (table, versions) = (Part::Table(at), Part::Versions(at));
            flows.push(rows(table, versions, "rows, each to the owner of its key"));
            let forgotten = "what no row looks up any more";
            flows.push(progress(Part::Watermark, versions, forgotten));
        }
        flows
    }

    fn flows_of_owners(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (trip, &shape) in self.trips().zip(&self.trips) {
            let asked = match shape {
                TripShape::Windows => "requests: key, event time, id, values",
                TripShape::Lookups { .. } => "requests: key, event time",
            };
            let asks = rows(Part::Gate, trip, asked);
            // In arrival order owners answer from what is there.
            let waits = (self.order != Order::Arrival).then_some(Wait::EpochAtOwner);
            flows.push(Flow { waits, ..asks });
            flows.push(match shape {
                TripShape::Windows => progress(Part::Watermark, trip, "what no row reads any more"),
                TripShape::Lookups { table } => {
                    rows(Part::Versions(table), trip, "versions as of the event time")
                }
            });
        }
        let before = if self.trips.is_empty() { Part::Gate } else { Part::Waiting };
        if !self.trips.is_empty() {
            flows.push(rows(Part::Gate, Part::Waiting, "rows"));
        }
        let answers = |trip| rows(trip, Part::Waiting, "answers").once(Wait::Answers);
        flows.extend(self.trips().map(answers));
        flows.push(rows(before, Part::Features, "rows"));
        let values = |at| rows(Part::StaticTable(at), Part::Features, "values by key");
        flows.extend((0..self.static_tables).map(values));
        flows
    }

    fn flows_of_work(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        let (before, what) = match self.validates() {
            true => {
                flows.push(rows(Part::Features, Part::Validate, "rows with features"));
                (Part::Validate, "valid rows")
            }
            false => (Part::Features, "rows with features"),
        };
        if self.scores() {
            flows.push(rows(before, Part::MicroBatch, what).once(Wait::MoreRows));
            flows.push(rows(Part::MicroBatch, Part::Model, "batches"));
            let predictions = Part::Output(Output::Predictions);
            flows.push(rows(Part::Model, predictions, "a prediction for each row"));
        }
        if self.puts_out(Output::Features) {
            flows.push(rows(before, Part::Export, what));
            flows.push(rows(Part::Export, Part::Output(Output::Features), "rows"));
        }
        if self.scores() && self.puts_out(Output::Alerts) {
            let beyond = "scores and values beyond a threshold";
            flows.push(rows(Part::Model, Part::Output(Output::Alerts), beyond));
        }
        flows
    }

    fn flows_of_drift(&self) -> Vec<Flow> {
        let Some(output) = self.drift_output() else { return Vec::new() };
        let end = |part, wait| progress(Part::Watermark, part, "").once(wait);
        let closed = "closed panes, and late rows of them, by column";
        let mut flows = vec![
            rows(Part::Model, Part::Panes, "inputs and scores"),
            end(Part::Panes, Wait::EndOfPane),
            rows(Part::Panes, Part::DriftWindows, closed),
            end(Part::DriftWindows, Wait::EndOfWindow),
            rows(Part::DriftWindows, Part::Output(output), "a row for each window and column"),
        ];
        if self.puts_out(Output::Alerts) {
            let alerts = Part::Output(Output::Alerts);
            flows.push(rows(Part::DriftWindows, alerts, "windows beyond a threshold"));
        }
        flows
    }

    fn flows_of_dead_letters(&self) -> Vec<Flow> {
        if !self.puts_out(Output::DeadLetters) {
            return Vec::new();
        }
        let of_rules = self.validates().then_some(Part::Validate);
        let of_work = of_rules.into_iter().chain(self.scores().then_some(Part::Model));
        let tables = (0..self.tables.len()).map(Part::Table);
        let to = Part::Output(Output::DeadLetters);
        let refused = |from| Flow { from, to, carries: Carries::DeadLetters, waits: None };
        of_work.chain([Part::Admit]).chain(tables).map(refused).collect()
    }
}

impl Flow {
    fn once(self, wait: Wait) -> Self {
        Flow { waits: Some(wait), ..self }
    }
}

fn rows(from: Part, to: Part, what: &'static str) -> Flow {
    Flow { from, to, carries: Carries::Rows(what), waits: None }
}

fn progress(from: Part, to: Part, what: &'static str) -> Flow {
    Flow { from, to, carries: Carries::Progress(what), waits: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::parts::{Form, Operator, TableShape};
    use super::*;

    /// Shapes of all kinds: every order, with and without tables, trips, scores, drift and alerts.
    fn shapes() -> Vec<Shape> {
        let outputs: [&[Output]; 5] = [
            &[Output::Predictions, Output::DeadLetters],
            &[Output::Predictions, Output::DeadLetters, Output::Drift],
            &[Output::Predictions, Output::DeadLetters, Output::Alerts, Output::Drift],
            &[Output::Baseline, Output::Predictions, Output::DeadLetters],
            &[Output::Features, Output::DeadLetters],
        ];
        let lookups = TripShape::Lookups { table: 1 };
        let trips: [&[TripShape]; 3] = [&[], &[lookups], &[TripShape::Windows, lookups]];
        let mut shapes = Vec::new();
        for order in [Order::EventTime, Order::Epoch, Order::Arrival] {
            for outputs in outputs {
                for (trips, has_rules) in trips.into_iter().flat_map(|t| [(t, false), (t, true)]) {
                    let tables = [TableShape { eager: true }, TableShape { eager: false }];
                    shapes.push(Shape {
                        order,
                        tables: if trips.is_empty() { Vec::new() } else { tables.to_vec() },
                        static_tables: trips.len(),
                        trips: trips.to_vec(),
                        outputs: outputs.to_vec(),
                        has_rules,
                        gathered: None,
                    });
                }
            }
        }
        shapes
    }

    #[test]
    fn flows_are_between_parts_that_are_there_and_leave_none_out() {
        for shape in shapes() {
            let parts = shape.parts();
            let ids: BTreeSet<String> = parts.iter().map(|part| part.id()).collect();
            assert_eq!(ids.len(), parts.len(), "{shape:?}");
            let flows = shape.flows();
            for Flow { from, to, .. } in &flows {
                assert!(parts.contains(from) && parts.contains(to), "{from:?} {to:?} {shape:?}");
            }
            for part in parts {
                let is_source =
                    matches!(part, Part::Events | Part::Table(_) | Part::StaticTable(_));
                let comes_in = flows.iter().any(|flow| flow.to == part);
                assert_ne!(is_source, comes_in, "{part:?} {shape:?}");
                let goes_out = flows.iter().any(|flow| flow.from == part);
                let is_sink = matches!(part, Part::Output(_));
                // In orders by which nothing waits for event time nobody may ask how far it is.
                let may_be_unread = matches!(part, Part::Versions(0) | Part::Watermark);
                assert!(may_be_unread || goes_out != is_sink, "{part:?} {shape:?}");
            }
        }
    }

    /// A part's rows come from parts before it.
    #[test]
    fn parts_are_in_the_order_in_which_rows_reach_them() {
        for shape in shapes() {
            let parts = shape.parts();
            let at = |part: &Part| parts.iter().position(|other| other == part);
            for Flow { from, to, .. } in shape.flows() {
                assert!(at(&from) < at(&to), "{from:?} {to:?} {shape:?}");
            }
        }
    }

    #[test]
    fn each_part_is_in_one_operator_of_each_form() {
        for shape in shapes() {
            for form in [Form::Fused, Form::Split { workers: 2 }] {
                let operators = shape.operators(form);
                let of_all = operators.iter().flat_map(|&operator| shape.parts_of(operator));
                let mut found: Vec<String> = of_all.map(Part::id).collect();
                let known = shape.parts().into_iter();
                let known = known.filter(|part| !matches!(part, Part::StaticTable(_)));
                let mut known: Vec<String> = known.map(Part::id).collect();
                found.sort();
                known.sort();
                assert_eq!(found, known, "{form:?} {shape:?}");
            }
        }
    }

    /// One of each part.
    fn each_part() -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for part in shapes().iter().flat_map(Shape::parts) {
            if parts.iter().all(|known| known.title() != part.title()) {
                parts.push(part);
            }
        }
        parts
    }

    #[test]
    fn the_readme_has_every_part_where_it_is() {
        let readme = include_str!("../../../README.md");
        for part in each_part() {
            let operator = part.operator().map_or("none: read before", Operator::name);
            let (title, structure, place) = (part.title(), part.structure(), part.place().title());
            let line = format!("| {title} | `{structure}` | {place} | {operator} |");
            assert!(readme.lines().any(|found| found == line), "README.md lacks the line\n{line}");
        }
    }

    #[test]
    fn the_struct_of_each_part_is_where_it_is_said_to_be() {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        for part in each_part() {
            let (modules, name) = part.structure().rsplit_once("::").unwrap();
            let path = format!("{sources}/{}.rs", modules.replace("::", "/"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(name), "{path} knows no {name}");
        }
    }
}

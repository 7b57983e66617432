//! A job's dataflow as something to look at.

pub use driftline_operators::core::parts::Place;

/// The stages of a job, in the order that rows reach them, and what flows between them.
#[derive(Debug, Default)]
pub struct Graph {
    pub title: String,
    pub stages: Vec<Stage>,
    pub flows: Vec<Flow>,
    /// What operators a worker has, by heading: the name of each, and the stages that are in it.
    pub operators: Vec<(String, Vec<Line>)>,
    /// What limits the rows that are under way.
    pub bounds: Vec<Line>,
}

#[derive(Debug)]
pub struct Stage {
    /// A word of lower-case letters, digits and `_`, unlike that of any other stage.
    pub id: String,
    pub title: String,
    /// Where it stands.
    pub place: Place,
    pub lines: Vec<Line>,
}

/// Something about a stage and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub text: String,
}

impl Line {
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        Line { name: name.to_owned(), text: text.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Rows,
    /// How far event time has come, and no rows.
    Progress,
}

/// What goes from one stage to another; ends are ids.
#[derive(Debug)]
pub struct Flow {
    pub from: String,
    pub to: String,
    pub carries: Carries,
    pub label: String,
    /// What `to` waits for before it makes use of what came.
    pub waits: Option<String>,
}

impl Graph {
    /// What flows into a stage, in the order declared.
    pub fn into_stage<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Flow> {
        self.flows.iter().filter(move |flow| flow.to == id)
    }

    /// The title of a stage, or `id` where there is no such stage.
    pub fn title_of<'a>(&'a self, id: &'a str) -> &'a str {
        let found = self.stages.iter().find(|stage| stage.id == id);
        found.map_or(id, |stage| &stage.title)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    fn stage(id: &str, title: &str, place: Place, lines: Vec<Line>) -> Stage {
        Stage { id: id.to_owned(), title: title.to_owned(), place, lines }
    }

    fn flow(from: &str, to: &str, carries: Carries, label: &str, waits: Option<&str>) -> Flow {
        let waits = waits.map(str::to_owned);
        Flow { from: from.to_owned(), to: to.to_owned(), carries, label: label.to_owned(), waits }
    }

    /// Rows that wait in a gate for a watermark; texts are hard to quote.
    pub fn small() -> Graph {
        let path = "a \"b\" [c] {d} <e> & #35; `f` | g\nh";
        let marks = vec![Line::new("lowest of", "events")];
        let holds = vec![Line::new("holds at most", "10 rows"), Line::new("", "no name")];
        let waits = Some("the watermark");
        Graph {
            title: "job \"x\": [all]".to_owned(),
            stages: vec![
                stage("events", "events", Place::Inputs, vec![Line::new("path", path)]),
                stage("watermark", "job watermark", Place::Every, marks),
                stage("gate", "order gate", Place::Home, holds),
            ],
            flows: vec![
                flow("events", "watermark", Carries::Progress, "highest times", None),
                flow("events", "gate", Carries::Rows, "rows \"all\"", None),
                flow("watermark", "gate", Carries::Progress, "", waits),
            ],
            operators: vec![(
                "operators of each worker".to_owned(),
                vec![Line::new("Home", "job watermark, order gate")],
            )],
            bounds: vec![Line::new("gate_rows_max", "10 rows")],
        }
    }
}

//! A job's dataflow as something to look at.

/// The stages of a job, in the order that rows reach them, and what flows between them.
#[derive(Debug, Default)]
pub struct Graph {
    pub title: String,
    pub stages: Vec<Stage>,
    pub flows: Vec<Flow>,
    /// What limits the rows that are under way.
    pub bounds: Vec<Line>,
}

#[derive(Debug)]
pub struct Stage {
    /// A word of lower-case letters, digits and `_`, unlike that of any other stage.
    pub id: String,
    pub title: String,
    pub group: Group,
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

/// Where a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Inputs,
    Home,
    Owner,
    Outputs,
}

impl Group {
    pub const ALL: [Group; 4] = [Group::Inputs, Group::Home, Group::Owner, Group::Outputs];

    pub fn id(self) -> &'static str {
        match self {
            Group::Inputs => "inputs",
            Group::Home => "home",
            Group::Owner => "owner",
            Group::Outputs => "outputs",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Group::Inputs => "inputs",
            Group::Home => "home of each row",
            Group::Owner => "owner of each key or column",
            Group::Outputs => "outputs",
        }
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

impl Flow {
    pub fn waits_for(&mut self, what: impl Into<String>) {
        self.waits = Some(what.into());
    }
}

impl Graph {
    pub fn stage(&mut self, id: &str, title: &str, group: Group, lines: Vec<Line>) {
        let (id, title) = (id.to_owned(), title.to_owned());
        self.stages.push(Stage { id, title, group, lines });
    }

    pub fn rows(&mut self, from: &str, to: &str, label: &str) -> &mut Flow {
        self.flow(from, to, Carries::Rows, label)
    }

    pub fn progress(&mut self, from: &str, to: &str, label: &str) -> &mut Flow {
        self.flow(from, to, Carries::Progress, label)
    }

    fn flow(&mut self, from: &str, to: &str, carries: Carries, label: &str) -> &mut Flow {
        let (from, to, label) = (from.to_owned(), to.to_owned(), label.to_owned());
        let at = self.flows.len();
        self.flows.push(Flow { from, to, carries, label, waits: None });
        &mut self.flows[at]
    }

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

    /// Rows that wait in a gate for a watermark; texts are hard to quote.
    pub fn small() -> Graph {
        let mut graph = Graph { title: "job \"x\": [all]".to_owned(), ..Graph::default() };
        let path = "a \"b\" [c] {d} <e> & #35; `f` | g\nh";
        graph.stage("events", "events", Group::Inputs, vec![Line::new("path", path)]);
        let marks = vec![Line::new("lowest of", "events")];
        graph.stage("watermark", "job watermark", Group::Inputs, marks);
        let holds = vec![Line::new("holds at most", "10 rows"), Line::new("", "no name")];
        graph.stage("gate", "order gate", Group::Home, holds);
        graph.progress("events", "watermark", "highest times");
        graph.rows("events", "gate", "rows \"all\"");
        graph.progress("watermark", "gate", "").waits_for("the watermark");
        graph.bounds.push(Line::new("gate_rows_max", "10 rows"));
        graph
    }
}

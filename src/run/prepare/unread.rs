//! Why a name of the job is no column, where the input holds something of that name.

use arrow::datatypes::DataType;
use indexmap::{IndexMap, IndexSet};

use super::tables::LoadedTable;
use crate::config::Problem;
use crate::sources::inputs::Inputs;
use driftline_operators::watermark::EVENTS;

/// What is said of what is there and is no column.
pub struct Explain {
    events: IndexMap<String, String>,
    tables: IndexMap<String, String>,
    /// Columns of the events that are objects.
    objects: IndexSet<String>,
}

impl Explain {
    pub fn new(inputs: &Inputs, static_tables: &IndexMap<String, LoadedTable>) -> Self {
        let schema = inputs.schema(EVENTS);
        let objects = schema.fields().iter();
        let objects = objects.filter(|field| matches!(field.data_type(), DataType::Struct(_)));
        let mut tables = IndexMap::new();
        for stream in EVENTS + 1..inputs.streams() {
            tables.extend(inputs.untyped(stream).clone());
        }
        tables.extend(static_tables.values().flat_map(|table| table.untyped.clone()));
        Explain {
            events: inputs.untyped(EVENTS).clone(),
            tables,
            objects: objects.map(|field| field.name().clone()).collect(),
        }
    }

    /// The error, and why what it misses is not there, if that is known.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Problem>() {
            Ok(Problem { key, message }) => {
                let of_table = message.starts_with("the table") || message.starts_with("table ");
                let of_table = of_table || key.starts_with("tables.");
                let known = if of_table { &self.tables } else { &self.events };
                let why = missing(&message).and_then(|name| self.why(&name, known));
                let message = match why {
                    Some(why) => format!("{message}: {why}"),
                    None => message,
                };
                Problem { key, message }.into()
            }
            Err(other) => other,
        }
    }

    fn why(&self, name: &str, known: &IndexMap<String, String>) -> Option<String> {
        if let Some(why) = known.get(name) {
            return Some(why.clone());
        }
        let inner = format!(".{name}");
        if let Some((_, why)) = known.iter().find(|(path, _)| path.ends_with(&inner)) {
            return Some(why.clone());
        }
        let (first, rest) = name.split_once(['.', '['])?;
        self.objects.contains(first).then(|| {
            let path = rest.split(['.', '[', ']', '\'', '"']).filter(|part| !part.is_empty());
            let path: String = path.map(|part| format!("['{part}']")).collect();
            format!("{first:?} is an object; read what is within it by sql = \"{first}{path}\"")
        })
    }
}

/// The name that an error says there is no column of.
fn missing(message: &str) -> Option<String> {
    let quoted = |after: &str| {
        let rest = message.split_once(after)?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let of_sql = |after: &str| {
        let rest = message.split_once(after)?.1;
        let name = match rest.strip_prefix(['"', '\'']) {
            Some(rest) => rest.split(['"', '\'']).next()?,
            None => rest.split([' ', ',', ';']).next()?.trim_end_matches('.'),
        };
        Some(name.to_owned())
    };
    quoted("is called \"")
        .or_else(|| quoted("has no column \""))
        .or_else(|| of_sql("No field named "))
        .or_else(|| of_sql("not find field "))
        .or_else(|| of_sql("Field "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_missing_is_found_in_messages() {
        for (message, name) in [
            ("neither the event nor an earlier feature is called \"x\"", "x"),
            ("the event has no column \"a b\"; it has t, id", "a b"),
            ("\"x + 1\": No field named x. Valid fields are t, id.", "x"),
            ("\"\\\"X\\\" + 1\": No field named \"X\". Valid fields are t.", "X"),
        ] {
            assert_eq!(missing(message).as_deref(), Some(name), "{message}");
        }
        assert_eq!(missing("it is Float64"), None);
    }
}

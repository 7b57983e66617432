//! A graph as a Mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>).

use super::graph::{Carries, Flow, Graph, Line, Place, Stage};

/// The graph as a flowchart: a subgraph for each place, dotted arrows for what carries no rows.
pub fn render(graph: &Graph) -> String {
    let mut lines = vec!["flowchart LR".to_owned()];
    for place in Place::ALL {
        let stages: Vec<&Stage> =
            graph.stages.iter().filter(|stage| stage.place == place).collect();
        if !stages.is_empty() {
            lines.push(format!("  subgraph group_{}[\"{}\"]", place.id(), escape(place.title())));
            lines.extend(
                stages
                    .into_iter()
                    .map(|stage| format!("    {}", node(&stage.id, &stage.title, &stage.lines))),
            );
            lines.push("  end".to_owned());
        }
    }
    lines.push(format!("  {}", node("bounds", &graph.title, &graph.bounds)));
    lines.extend(graph.flows.iter().map(|flow| format!("  {}", edge(flow))));
    lines.push(String::new());
    lines.join("\n")
}

fn node(id: &str, title: &str, lines: &[Line]) -> String {
    let about = lines.iter().map(|Line { name, text }| match name.is_empty() {
        true => escape(text),
        false => format!("{}: {}", escape(name), escape(text)),
    });
    let label: Vec<String> = std::iter::once(escape(title)).chain(about).collect();
    format!("{id}[\"{}\"]", label.join("<br/>"))
}

fn edge(Flow { from, to, carries, label, waits }: &Flow) -> String {
    let arrow = match carries {
        Carries::Rows => "-->",
        Carries::Progress => "-.->",
    };
    let mut about = Vec::new();
    if !label.is_empty() {
        about.push(escape(label));
    }
    about.extend(waits.as_ref().map(|what| format!("waits for: {}", escape(what))));
    if about.is_empty() {
        return format!("{from} {arrow} {to}");
    }
    format!("{from} {arrow}|\"{}\"| {to}", about.join("<br/>"))
}

/// Text as part of a quoted label: what Mermaid or HTML would take for their own is written as
/// entity codes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '#' | '&' | '<' | '>' | '[' | ']' | '{' | '}' | '|' | '`' | '\\' => {
                escaped.push_str(&format!("#{};", character as u32));
            }
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::graph::testing::small;
    use super::*;

    #[test]
    fn labels_are_quoted_and_progress_is_dotted() {
        let expected = r##"flowchart LR
  subgraph group_inputs["inputs"]
    events["events<br/>path: a #34;b#34; #91;c#93; #123;d#125; #60;e#62; #38; #35;35; #96;f#96; #124; g h"]
  end
  subgraph group_every["every worker"]
    watermark["job watermark<br/>lowest of: events"]
  end
  subgraph group_home["home of each row"]
    gate["order gate<br/>holds at most: 10 rows<br/>no name"]
  end
  bounds["job #34;x#34;: #91;all#93;<br/>gate_rows_max: 10 rows"]
  events -.->|"highest times"| watermark
  events -->|"rows #34;all#34;"| gate
  watermark -.->|"waits for: the watermark"| gate
"##;
        assert_eq!(render(&small()), expected);
    }
}

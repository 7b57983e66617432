//! A graph as text, stage below stage.

use super::graph::{Carries, Graph, Line, Stage};

/// Columns of a line at most, unless a single word has more.
const WIDTH: usize = 96;
/// Names that are longer stand on a line of their own.
const NAME_WIDTH_MAX: usize = 30;

/// The graph as text. `<-` is where rows come from, `<~` where news of event time comes from.
pub fn render(graph: &Graph) -> String {
    let mut text = format!("{}\n", graph.title);
    for stage in &graph.stages {
        text.push_str(&format!("\n{}  ({})\n", stage.title, stage.place.title()));
        block(&mut text, &stage_lines(graph, stage));
    }
    for (heading, operators) in &graph.operators {
        text.push_str(&format!("\n{heading}\n"));
        block(&mut text, operators);
    }
    text.push_str("\nbounds\n");
    block(&mut text, &graph.bounds);
    text
}

/// What flows in, what is waited for, and the stage's own lines.
fn stage_lines(graph: &Graph, stage: &Stage) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for flow in graph.into_stage(&stage.id).filter(|flow| !flow.label.is_empty()) {
        let arrow = match flow.carries {
            Carries::Rows => "<-",
            Carries::Progress => "<~",
        };
        lines.push(Line::new(
            &format!("{arrow} {}", graph.title_of(&flow.from)),
            flow.label.as_str(),
        ));
    }
    for what in graph.into_stage(&stage.id).filter_map(|flow| flow.waits.as_ref()) {
        let waits = Line::new("waits for", what.as_str());
        if !lines.contains(&waits) {
            lines.push(waits);
        }
    }
    lines.extend(stage.lines.iter().cloned());
    lines
}

/// Names in one column, texts in the next.
fn block(text: &mut String, lines: &[Line]) {
    let widths = lines.iter().map(|line| line.name.chars().count());
    let names = widths.filter(|&width| width <= NAME_WIDTH_MAX).max().unwrap_or(0);
    let indent = 2 + names + 2;
    for Line { name, text: about } in lines {
        let mut pieces = wrap(about, WIDTH - indent).into_iter();
        if name.chars().count() > NAME_WIDTH_MAX {
            text.push_str(&format!("  {name}\n"));
        } else {
            let first = format!("  {name:<names$}  {}", pieces.next().unwrap_or_default());
            text.push_str(first.trim_end());
            text.push('\n');
        }
        for piece in pieces {
            text.push_str(&format!("{:indent$}{piece}\n", ""));
        }
    }
}

/// Words in lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let fits = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= width;
        match lines.last_mut().filter(fits) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::graph::testing::small;
    use super::*;

    #[test]
    fn stages_show_what_flows_in_and_what_they_wait_for() {
        let expected = r#"job "x": [all]

events  (inputs)
  path  a "b" [c] {d} <e> & #35; `f` | g h

job watermark  (every worker)
  <~ events  highest times
  lowest of  events

order gate  (home of each row)
  <- events      rows "all"
  waits for      the watermark
  holds at most  10 rows
                 no name

operators of each worker
  Home  job watermark, order gate

bounds
  gate_rows_max  10 rows
"#;
        assert_eq!(render(&small()), expected);
    }

    #[test]
    fn long_texts_are_wrapped_and_long_names_stand_alone() {
        let long_name = "a name beyond the width of names";
        let lines = [Line::new("short", "word ".repeat(40)), Line::new(long_name, "text")];
        let mut text = String::new();
        block(&mut text, &lines);
        let found: Vec<&str> = text.lines().collect();
        assert!(found.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(found[0].starts_with("  short  word") && found[1].starts_with("         word"));
        let last = format!("  {long_name}");
        assert_eq!(found[found.len() - 2..], [last.as_str(), "         text"]);
        assert_eq!(wrap("überlang kurz", 8), ["überlang", "kurz"]);
    }
}

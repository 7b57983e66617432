//! Text in sections whose rows stand in columns.

/// Columns of a line at most, unless a single word has more.
const WIDTH: usize = 100;
/// Cells that are longer do not widen their column.
const CELL_MAX: usize = 28;
const GAP: usize = 2;
/// A space where no line ends.
pub const NO_BREAK: char = '\u{a0}';

/// A text of titles, and below each of them rows of cells.
#[derive(Default)]
pub struct Sheet(String);

impl Sheet {
    pub fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A title and its rows. The cells of a column begin below each other; the last cell of a row
    /// is wrapped.
    pub fn section(&mut self, title: &str, rows: &[Vec<String>]) {
        self.line("");
        self.line(title);
        let widths = widths(rows);
        for row in rows {
            let Some((last, cells)) = row.split_last() else { continue };
            let mut line = " ".repeat(GAP);
            for (cell, &width) in cells.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}{:GAP$}", ""));
            }
            let indent =
                GAP + widths.iter().take(cells.len()).map(|width| width + GAP).sum::<usize>();
            for (at, piece) in wrap(last, WIDTH.saturating_sub(indent)).iter().enumerate() {
                if at > 0 {
                    line = " ".repeat(indent);
                }
                line.push_str(piece);
                self.line(line.trim_end());
            }
        }
    }

    pub fn text(self) -> String {
        self.0.replace(NO_BREAK, " ")
    }
}

/// The widths of all columns, the last cells of rows left out.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| {
        let inner = rows.iter().filter(move |row| column + 1 < row.len());
        inner.map(move |row| row[column].chars().count()).filter(|&width| width <= CELL_MAX)
    };
    (0..columns).map(|column| cells(column).max().unwrap_or(0)).collect()
}

/// Words in lines of at most `width` characters; at least one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let last = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width
        });
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn cells_stand_below_each_other_and_the_last_is_wrapped() {
        let mut sheet = Sheet::default();
        sheet.line("title");
        let long = "word ".repeat(20);
        sheet
            .section("a", &rows(&[&["x", "Int64", "one"], &["longer", "Utf8", ""], &["y", &long]]));
        let text = sheet.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..5], ["title", "", "a", "  x       Int64  one", "  longer  Utf8"]);
        assert!(
            lines[5].starts_with("  y       word word") && lines[6].starts_with("          word")
        );
        assert!(lines.iter().all(|line| line.len() <= WIDTH && line.trim_end() == *line));
    }

    #[test]
    fn a_cell_that_is_too_long_widens_nothing() {
        let mut sheet = Sheet::default();
        sheet.section("a", &rows(&[&["x".repeat(40).as_str(), "one"], &["y", "two"]]));
        assert!(sheet.text().ends_with("x  one\n  y  two\n"));
    }
}

//! What a summary says of each column where windows are too many to be listed one by one.

use std::collections::BTreeMap;

use driftline_operators::drift::calendar::WindowLength;

use crate::config::duration::date_text;
use crate::run::numbers::thousands;

/// Columns that have a line; of more, only their number is told.
const LISTED_MAX: usize = 12;
/// Names that are longer do not push the others to the right.
const NAME_MAX: usize = 28;

/// The windows of one length, as far as one column goes. They come in order of their starts.
#[derive(Default)]
pub struct ColumnTally {
    /// Windows that say something of the column: there was a verdict, or drift without one.
    told: u64,
    drifted: u64,
    /// Starts of the first and the last window that drifted.
    first: Option<i64>,
    last: Option<i64>,
    /// Where the windows begin that drifted without one between them that did not. Those that say
    /// nothing do not count.
    since: Option<i64>,
    strongest: Strongest,
}

#[derive(Default)]
struct Strongest {
    far: f64,
    start: i64,
    figures: String,
}

impl ColumnTally {
    /// A window: how far the column has drifted in it, if it has, and the figures that say so.
    pub fn add(
        &mut self,
        start: i64,
        is_judged: bool,
        far: Option<f64>,
        figures: impl FnOnce() -> String,
    ) {
        let Some(far) = far else {
            if is_judged {
                self.told += 1;
                self.since = None;
            }
            return;
        };
        self.told += 1;
        self.drifted += 1;
        self.first.get_or_insert(start);
        self.since.get_or_insert(start);
        self.last = Some(start);
        if self.drifted == 1 || far > self.strongest.far {
            self.strongest = Strongest { far, start, figures: figures() };
        }
    }

    /// As it is shown.
    fn strength(&self) -> i64 {
        (self.strongest.far * 100.0).round() as i64
    }

    /// Since when the column drifts, or until when it did.
    fn when(&self, length: WindowLength) -> String {
        let date = |start: Option<i64>| start.map_or_else(String::new, |at| date_text(at, length));
        let first = date(self.first);
        match self.since {
            Some(since) if Some(since) == self.first => format!("since {first}"),
            Some(_) => format!("since {}, first {first}", date(self.since)),
            None if self.drifted == 1 => format!("only {first}"),
            None => format!("until {}, first {first}", date(self.last)),
        }
    }
}

/// How many of the columns have drifted.
pub fn drifted(columns: &BTreeMap<String, ColumnTally>) -> usize {
    columns.values().filter(|column| column.drifted > 0).count()
}

/// A line for each column that has drifted, the strongest first.
pub fn lines(columns: &BTreeMap<String, ColumnTally>, length: WindowLength) -> Vec<String> {
    let mut drifted: Vec<_> = columns.iter().filter(|(_, column)| column.drifted > 0).collect();
    drifted.sort_by_key(|(_, column)| std::cmp::Reverse((column.strength(), column.drifted)));
    let (listed, others) = drifted.split_at(drifted.len().min(LISTED_MAX));
    let cells = listed.iter().map(|(name, column)| {
        let share = 100.0 * column.drifted as f64 / column.told as f64;
        let windows =
            format!("{} of {} ({share:.1} %)", thousands(column.drifted), thousands(column.told));
        let Strongest { start, figures, .. } = &column.strongest;
        let strongest = format!("strongest {}: {figures}", date_text(*start, length));
        ([name.to_string(), windows, column.when(length)], strongest)
    });
    let cells: Vec<([String; 3], String)> = cells.collect();
    let width = |at: usize| {
        let widths = cells.iter().map(|(cells, _)| cells[at].chars().count());
        widths.filter(|&width| at > 0 || width <= NAME_MAX).max().unwrap_or(0)
    };
    let (name_width, windows_width, when_width) = (width(0), width(1), width(2));
    let line = |([name, windows, when], strongest): &([String; 3], String)| {
        format!(
            "  {name:<name_width$}  {windows:>windows_width$}  {when:<when_width$}  {strongest}"
        )
    };
    let mut lines: Vec<String> = cells.iter().map(line).collect();
    if let Some((_, strongest)) = others.first() {
        let more = match others.len() {
            1 => "1 more column".to_owned(),
            several => format!("{several} more columns"),
        };
        let figures = &strongest.strongest.figures;
        lines.push(format!("  and {more}, the strongest of them by {figures}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// A column of hourly windows: `#` drifted, `.` did not, `?` had too few values.
    fn column(windows: &str, far: impl Fn(usize) -> f64) -> ColumnTally {
        let mut column = ColumnTally::default();
        for (at, window) in windows.chars().enumerate() {
            let far = (window == '#').then(|| far(at));
            column.add(at as i64 * HOUR, window != '?', far, || format!("D {:.2}", far.unwrap()));
        }
        column
    }

    fn said(columns: Vec<(&str, ColumnTally)>) -> Vec<String> {
        let columns = columns.into_iter().map(|(name, column)| (name.to_owned(), column)).collect();
        lines(&columns, WindowLength::Millis(HOUR))
    }

    #[test]
    fn a_line_says_since_when_how_often_and_how_strongly() {
        for (windows, wanted) in [
            ("####", "4 of 4 (100.0 %)  since 1970-01-01T00:00"),
            ("..##", "2 of 4 (50.0 %)  since 1970-01-01T02:00"),
            ("#.##", "3 of 4 (75.0 %)  since 1970-01-01T02:00, first 1970-01-01T00:00"),
            ("#?##", "3 of 3 (100.0 %)  since 1970-01-01T00:00"),
            ("##??", "2 of 2 (100.0 %)  since 1970-01-01T00:00"),
            (".#..", "1 of 4 (25.0 %)  only 1970-01-01T01:00"),
            ("#.#.", "2 of 4 (50.0 %)  until 1970-01-01T02:00, first 1970-01-01T00:00"),
        ] {
            let strongest = windows.rfind('#').unwrap();
            let column = column(windows, |at| at as f64 / 10.0);
            let wanted =
                format!("  a  {wanted}  strongest 1970-01-01T{strongest:02}:00: D 0.{strongest}0");
            assert_eq!(said(vec![("a", column)]), [wanted], "{windows}");
        }
        assert!(said(vec![("a", column("..?.", |_| 1.0))]).is_empty());
    }

    #[test]
    fn the_strongest_come_first_and_of_many_only_the_number_is_told() {
        let names: Vec<String> = (0..40).map(|at| format!("column_{at:02}")).collect();
        let columns = names.iter().enumerate().map(|(at, name)| {
            let drifted = if at % 8 == 7 { "." } else { "#" };
            (name.as_str(), column(drifted, move |_| at as f64 / 100.0))
        });
        let lines = said(columns.collect());
        assert_eq!(lines.len(), LISTED_MAX + 1);
        assert!(lines[0].starts_with("  column_38  1 of 1 (100.0 %)"), "{}", lines[0]);
        assert!(lines[11].starts_with("  column_26 "), "{}", lines[11]);
        assert_eq!(lines[12], "  and 23 more columns, the strongest of them by D 0.25");
        // Of columns that are equally far, those come first that are so in more windows.
        let often = said(vec![("a", column("#...", |_| 0.501)), ("b", column("##..", |_| 0.499))]);
        assert!(often[0].starts_with("  b "), "{often:?}");
    }
}

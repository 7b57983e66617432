//! Rows that the same scores, on their way to results.

use super::evaluate::{Evaluated, Evaluator};
use crate::control::Turn;
use crate::micro_batch::{BatchBounds, MicroBatcher, Part};
use crate::prediction::{RouteLabels, ScoredColumns};
use crate::routes::table::{RouteTable, Scores};

/// A lane's rows that wait.
pub(super) struct LaneWork {
    pub batcher: MicroBatcher<Turn>,
    /// The models whose features a row must have.
    pub models: Vec<usize>,
    /// What its predictions say of it.
    pub labels: RouteLabels,
}

/// Rows of one batch that came in, scored by the same.
pub(super) struct Group {
    pub part: Part<Turn>,
    pub scores: Scores,
    pub columns: ScoredColumns,
}

impl LaneWork {
    pub fn new(lane: usize, routes: &RouteTable, bounds: BatchBounds) -> Self {
        let of = &routes.lanes[lane];
        let route = routes.routes.get(of.route).map_or("", |route| &route.name);
        LaneWork {
            batcher: MicroBatcher::new(bounds),
            models: routes.models_of(of.chain[0]),
            labels: RouteLabels::new(route, of.variant.as_deref()),
        }
    }
}

/// Adds rows that have a prediction to groups of their batches.
pub(super) fn add(
    groups: &mut Vec<Group>,
    scored: Evaluated,
    is_fallback: bool,
    evaluator: &mut Evaluator,
) {
    let Evaluated { scores, parts, predictions, width, confidences, inputs, runs, notes, .. } =
        scored;
    let rows = parts.iter().map(|part| part.rows).sum::<usize>();
    let per_row = inputs.len() / rows.max(1);
    let mut runs = runs.into_iter().filter(|(rows, ..)| *rows > 0);
    let mut run = runs.next().unwrap_or_default();
    let mut first = 0;
    for part in parts {
        let last = first + part.rows;
        let said = evaluator.said_of(scores);
        match groups.last_mut() {
            Some(group) if group.scores == scores && group.continues_in(&part, is_fallback) => {
                group.part.rows += part.rows;
            }
            _ => {
                let mut columns = ScoredColumns::for_format(said.format, width, part.rows);
                columns.is_fallback = is_fallback;
                groups.push(Group { part: part.clone(), scores, columns });
            }
        }
        let Some(Group { columns, .. }) = groups.last_mut() else { return };
        columns.predictions.extend(&predictions, first * width..last * width);
        if let Some(confidences) = &confidences {
            let own = columns.confidences.get_or_insert_with(|| {
                crate::numbers::Numbers::with_capacity(confidences.are_doubles(), rows)
            });
            own.extend(confidences, first..last);
        }
        if let Some(kept) = &mut columns.inputs {
            kept.extend_from_slice(&inputs[first * per_row..last * per_row]);
        }
        if let Some(notes) = &notes {
            columns.notes.get_or_insert_with(Vec::new).extend_from_slice(&notes[first..last]);
        }
        let mut left = part.rows;
        while left > 0 {
            let (of_run, batch_rows, took) = run;
            let now = left.min(of_run);
            columns.ran(now, batch_rows, took);
            left -= now;
            run.0 -= now;
            if run.0 == 0 {
                match runs.next() {
                    Some(next) => run = next,
                    None => break,
                }
            }
        }
        first = last;
    }
}

impl Group {
    fn continues_in(&self, part: &Part<Turn>, is_fallback: bool) -> bool {
        self.columns.is_fallback == is_fallback && self.part.continues_in(part)
    }
}

/// Where each of some parts begins among all their rows.
pub(super) struct Starts(Vec<usize>);

impl Starts {
    pub fn of(parts: &[Part<Turn>]) -> Self {
        let begin = |first: &mut usize, part: &Part<Turn>| {
            let start = *first;
            *first += part.rows;
            Some(start)
        };
        Starts(parts.iter().scan(0, begin).collect())
    }

    /// A row alone, by its number among all.
    pub fn row(&self, parts: &[Part<Turn>], row: usize) -> Part<Turn> {
        let at = self.0.partition_point(|&start| start <= row) - 1;
        let part = &parts[at];
        Part { start: part.start + row - self.0[at], rows: 1, ..part.clone() }
    }
}

/// The rows of parts that are selected, by their number among all.
pub(super) fn select(parts: &[Part<Turn>], is_selected: impl Fn(usize) -> bool) -> Vec<Part<Turn>> {
    let mut selected: Vec<Part<Turn>> = Vec::new();
    let mut first = 0;
    for part in parts {
        let mut row = 0;
        while row < part.rows {
            let from = row;
            while row < part.rows && is_selected(first + row) {
                row += 1;
            }
            if row > from {
                let start = part.start + from;
                selected.push(Part { start, rows: row - from, ..part.clone() });
            }
            row += usize::from(row == from);
        }
        first += part.rows;
    }
    selected
}

/// What is of the rows that are kept, `width` values each.
pub(super) fn kept<T: Clone>(
    values: &[T],
    width: usize,
    is_kept: impl Fn(usize) -> bool,
) -> Vec<T> {
    let rows = values.chunks(width.max(1)).enumerate();
    rows.filter(|(row, _)| is_kept(*row)).flat_map(|(_, row)| row.iter().cloned()).collect()
}

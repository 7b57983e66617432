//! The routes of a job: the first whose condition is true takes a row, and says what scores it.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::assignment::{Buckets, Weights};
use super::ensemble::Ensemble;
use crate::features::sql::Expression;
use crate::key_group::as_key;
use crate::layout::EventLayout;

/// What scores rows, by its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scores {
    Model(usize),
    Ensemble(usize),
    Cascade(usize),
}

/// A model scores all rows, another one again those that it is unsure of.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascade {
    pub name: String,
    /// Places of models.
    pub first: usize,
    pub then: usize,
    /// A row whose largest probability is below it goes on.
    pub confidence_below: f64,
}

/// Rows that the same scores: those of a route, or of one of its variants.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Place of its route.
    pub route: usize,
    pub variant: Option<String>,
    /// What scores its rows, and what does where the ones before have failed.
    pub chain: Vec<Scores>,
    /// What scores them, too, and is only compared.
    pub shadows: Vec<Scores>,
}

/// How a route says which of its lanes a row is in.
#[derive(Clone)]
pub enum Choice {
    One(usize),
    /// By a text that names what is to score the row; null is no name.
    ByName {
        name: Expression,
        lanes: Vec<(String, usize)>,
    },
    /// By the hash of an id; without one, or where it is null, by that of the request id. Lanes from
    /// `first` on.
    Variants {
        id: Option<Expression>,
        salt: String,
        first: usize,
    },
}

#[derive(Clone)]
pub struct Route {
    pub name: String,
    /// All rows where there is none.
    pub when: Option<Expression>,
    pub choice: Choice,
}

/// What may be changed of routes while a run goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSettings {
    /// By route; none of one without variants.
    pub weights: Vec<Option<Weights>>,
    /// By model, which rows are not to be scored by it.
    pub breakers: Vec<Breaker>,
}

/// Which rows a model is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// It is given all rows.
    #[default]
    Closed,
    /// It is given none.
    Open,
    /// It is given those of so many parts of 10,000 ids.
    HalfOpen(u32),
}

/// The routes of a job, their lanes, and what several models make together.
#[derive(Clone, Default)]
pub struct RouteTable {
    pub routes: Vec<Route>,
    pub lanes: Vec<Lane>,
    pub ensembles: Vec<Ensemble>,
    pub cascades: Vec<Cascade>,
    /// The names of models as routes name them.
    pub models: Vec<String>,
}

/// Which rows go where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// `[rows]`; [`NO_ROUTE`] and [`UNKNOWN`] are no lanes.
    pub lanes: Vec<u32>,
    /// What rows that are [`UNKNOWN`] name, in order.
    pub unknown: Vec<String>,
}

/// No route takes the row.
pub const NO_ROUTE: u32 = u32::MAX;
/// It names what there is not.
pub const UNKNOWN: u32 = u32::MAX - 1;

impl RouteTable {
    /// The models that a row must have the features of to be scored, by place.
    pub fn models_of(&self, scores: Scores) -> Vec<usize> {
        match scores {
            Scores::Model(at) => vec![at],
            Scores::Ensemble(at) => self.ensembles[at].models(),
            Scores::Cascade(at) => vec![self.cascades[at].first, self.cascades[at].then],
        }
    }

    pub fn name_of(&self, scores: Scores) -> &str {
        match scores {
            Scores::Model(at) => &self.models[at],
            Scores::Ensemble(at) => &self.ensembles[at].name,
            Scores::Cascade(at) => &self.cascades[at].name,
        }
    }

    /// Positions of the columns that routes read, in enriched rows.
    pub fn columns_read(&self) -> Vec<usize> {
        let of_route = |route: &Route| {
            let chosen = match &route.choice {
                Choice::One(_) => None,
                Choice::ByName { name, .. } => Some(name),
                Choice::Variants { id, .. } => id.as_ref(),
            };
            let all = route.when.iter().chain(chosen);
            all.flat_map(|sql| sql.columns().to_vec()).collect::<Vec<_>>()
        };
        self.routes.iter().flat_map(of_route).collect()
    }

    /// Which lane each of the enriched rows is in.
    ///
    /// # Errors
    /// If a program's own function breaks its word.
    pub fn assign(
        &self,
        rows: &RecordBatch,
        layout: &EventLayout,
        settings: &RouteSettings,
    ) -> Result<Assigned, ArrowError> {
        let count = rows.num_rows();
        let mut lanes = vec![NO_ROUTE; count];
        let mut unknown: Vec<(usize, String)> = Vec::new();
        let mut left = count;
        for (at, route) in self.routes.iter().enumerate() {
            if left == 0 {
                break;
            }
            let when = route.when.as_ref().map(|when| when.evaluate(rows.columns(), count));
            let when = when.transpose()?;
            let when: Option<&BooleanArray> = when.as_ref().map(|when| when.as_boolean());
            let is_taken =
                |row: usize| when.is_none_or(|when| when.is_valid(row) && when.value(row));
            let free = (0..count).filter(|&row| lanes[row] == NO_ROUTE && is_taken(row));
            let free: Vec<usize> = free.collect();
            match &route.choice {
                Choice::One(lane) => free.iter().for_each(|&row| lanes[row] = *lane as u32),
                Choice::ByName { name, lanes: named } => {
                    let names = name.evaluate(rows.columns(), count)?;
                    let names = arrow::compute::cast(&names, &DataType::Utf8)?;
                    let names = names.as_string::<i32>();
                    for &row in free.iter().filter(|&&row| names.is_valid(row)) {
                        let wanted = names.value(row);
                        match named.iter().find(|(name, _)| name == wanted) {
                            Some((_, lane)) => lanes[row] = *lane as u32,
                            None => {
                                lanes[row] = UNKNOWN;
                                unknown.push((row, wanted.to_owned()));
                            }
                        }
                    }
                }
                Choice::Variants { id, salt, first } => {
                    let Some(Some(weights)) = settings.weights.get(at) else { continue };
                    let ids = Ids::of(id.as_ref(), rows, layout)?;
                    let (mut text, mut buckets) = (String::new(), Buckets::new(salt));
                    for &row in &free {
                        let bucket = buckets.of(ids.text(row, &mut text));
                        let variant = weights.variant_of(bucket);
                        lanes[row] = (first + variant) as u32;
                    }
                }
            }
            left = lanes.iter().filter(|&&lane| lane == NO_ROUTE).count();
        }
        unknown.sort_by_key(|(row, _)| *row);
        let unknown = unknown.into_iter().map(|(_, name)| name).collect();
        Ok(Assigned { lanes, unknown })
    }
}

/// The ids of rows as text.
pub struct Ids<'a> {
    column: Option<ArrayRef>,
    rows: &'a RecordBatch,
    layout: &'a EventLayout,
}

impl<'a> Ids<'a> {
    /// Those of an expression; the request ids where there is none.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn of(
        id: Option<&Expression>,
        rows: &'a RecordBatch,
        layout: &'a EventLayout,
    ) -> Result<Self, ArrowError> {
        let column = id.map(|id| id.evaluate(rows.columns(), rows.num_rows())).transpose()?;
        let column = column.map(|column| as_key(&column)).transpose()?;
        Ok(Ids { column, rows, layout })
    }

    /// That of a row; `buffer` is where it is written to if need be.
    pub fn text<'b>(&'b self, row: usize, buffer: &'b mut String) -> &'b str {
        use std::fmt::Write;
        buffer.clear();
        let column = self.column.as_ref().filter(|column| column.is_valid(row));
        let written = match column.map(|column| (column, column.data_type())) {
            Some((ids, DataType::Utf8)) => return ids.as_string::<i32>().value(row),
            Some((ids, DataType::Int64)) => {
                write!(buffer, "{}", ids.as_primitive::<Int64Type>().value(row))
            }
            Some((ids, DataType::UInt64)) => {
                write!(buffer, "{}", ids.as_primitive::<UInt64Type>().value(row))
            }
            _ => {
                self.layout.write_request_id(self.rows, row, buffer);
                Ok(())
            }
        };
        debug_assert!(written.is_ok());
        buffer
    }
}

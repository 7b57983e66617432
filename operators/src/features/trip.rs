//! Side trips: what is asked of the owners of keys.

use arrow::datatypes::DataType;

use crate::as_of::table::AsOfTable;
use crate::features::columns::Columns;
use crate::features::declaration::{Definition, FeatureDeclaration, PlanError, Problem};
use crate::features::refusals::Refused;
use crate::features::sql::Expression;
use crate::features::window::WindowSpec;
use crate::key_group::{can_find, key_type};

/// A narrow request per row to the owner of a key, and what comes back.
pub struct Trip {
    /// What the key is in the job file, for plans and messages.
    pub key_sql: String,
    pub key: Expression,
    /// Utf8, Int64 or UInt64; of lookups, that of the table.
    pub key_type: DataType,
    pub errand: Errand,
    /// The type of each answer.
    pub answers: Vec<DataType>,
}

pub enum Errand {
    /// The windows over the key.
    Windows(Vec<KeyedWindow>),
    /// Values of an as-of table.
    Lookups(AsOfLookups),
}

pub struct KeyedWindow {
    /// The feature that it is.
    pub feature: String,
    /// Float64; a window without a value is over rows.
    pub value: Option<Expression>,
    /// As the job has it.
    pub value_sql: Option<String>,
    pub spec: WindowSpec,
    /// Keys that are held at most, where nothing of them expires.
    pub keys_max: Option<u64>,
}

/// What is looked up in one table by one key.
#[derive(Clone)]
pub struct AsOfLookups {
    /// The position of the table in the job.
    pub table: usize,
    /// Positions in the table's values.
    pub columns: Vec<usize>,
    /// Whether the age of the version is asked for; it is the last answer.
    pub age: bool,
}

impl Trip {
    /// Positions of the event's columns that the trip reads.
    pub fn columns_read(&self) -> impl Iterator<Item = usize> {
        let windows = match &self.errand {
            Errand::Windows(windows) => windows.as_slice(),
            Errand::Lookups(_) => &[],
        };
        let values = windows.iter().filter_map(|window| window.value.as_ref());
        let values = values.flat_map(Expression::columns);
        self.key.columns().iter().chain(values).copied()
    }

    /// What its expressions have refused so far, by feature and key.
    pub(super) fn refused(&self) -> Vec<(String, Refused)> {
        let windows = match &self.errand {
            Errand::Windows(windows) => windows.as_slice(),
            Errand::Lookups(_) => &[],
        };
        let of_value =
            |window: &KeyedWindow| Some((window.feature.clone(), window.value.as_ref()?.refused()));
        let of_key = (key_name(&self.key_sql), self.key.refused());
        windows.iter().filter_map(of_value).chain([of_key]).collect()
    }
}

/// What the expression of a key is called where it refuses rows.
pub(super) fn key_name(sql: &str) -> String {
    format!("key {sql}")
}

/// The trip and the answer that a feature is made of.
#[derive(Clone, Copy)]
struct Place {
    trip: usize,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    Number(usize),
    Last,
}

/// The side trips of the declared features, and for each feature which of all answers is its own.
///
/// Windows of one key share a trip, as do the lookups of one table by one key.
pub(super) fn compile_trips(
    event: &Columns,
    declared: &[FeatureDeclaration],
    tables: &[AsOfTable],
) -> Result<(Vec<Trip>, Vec<Option<usize>>), PlanError> {
    let mut trips = Trips { event, tables, trips: Vec::new() };
    let mut places = Vec::new();
    for feature in declared {
        let place = match &feature.definition {
            Definition::Window { key, value, spec, keys_max } => {
                trips.window(&feature.name, key, value.as_deref(), *spec, *keys_max).map(Some)
            }
            Definition::AsOf { table, key, column } => {
                trips.lookup(*table, key, column.as_deref()).map(Some)
            }
            _ => Ok(None),
        };
        places.push(place.map_err(|problem| PlanError { feature: feature.name.clone(), problem })?);
    }
    let mut trips = trips.trips;
    for trip in &mut trips {
        if matches!(&trip.errand, Errand::Lookups(AsOfLookups { age: true, .. })) {
            trip.answers.push(DataType::Float64);
        }
    }
    let before = |trip: usize| trips[..trip].iter().map(|t| t.answers.len()).sum::<usize>();
    let answer_of = |Place { trip, answer }: Place| match answer {
        Answer::Number(number) => before(trip) + number,
        Answer::Last => before(trip) + trips[trip].answers.len() - 1,
    };
    let answers = places.iter().map(|place| place.map(answer_of)).collect();
    Ok((trips, answers))
}

struct Trips<'a> {
    event: &'a Columns,
    tables: &'a [AsOfTable],
    trips: Vec<Trip>,
}

impl Trips<'_> {
    fn window(
        &mut self,
        feature: &str,
        key: &str,
        value: Option<&str>,
        spec: WindowSpec,
        keys_max: Option<u64>,
    ) -> Result<Place, Problem> {
        let value_sql = value.map(str::to_owned);
        let value = value.map(|value| self.event.number(value)).transpose()?;
        let trip = self.trip(
            key,
            // What a key that is forgotten takes with it is of one bound.
            |errand| matches!(errand, Errand::Windows(of) if of[0].keys_max == keys_max),
            || Errand::Windows(Vec::new()),
        )?;
        let Errand::Windows(windows) = &mut self.trips[trip].errand else {
            unreachable!("found as a trip of windows")
        };
        let feature = feature.to_owned();
        windows.push(KeyedWindow { feature, value, value_sql, spec, keys_max });
        self.trips[trip].answers.push(DataType::Float64);
        Ok(Place { trip, answer: Answer::Number(self.trips[trip].answers.len() - 1) })
    }

    /// A lookup of `column`, or of the age where there is none.
    fn lookup(&mut self, table: usize, key: &str, column: Option<&str>) -> Result<Place, Problem> {
        let described = &self.tables[table];
        let of_table =
            |errand: &Errand| matches!(errand, Errand::Lookups(found) if found.table == table);
        let trip = self.trip(key, of_table, || {
            Errand::Lookups(AsOfLookups { table, columns: Vec::new(), age: false })
        })?;
        let Trip { key_type, errand, answers, .. } = &mut self.trips[trip];
        if !can_find(key_type, &described.key_type) {
            let table = described.key_type.clone();
            return Err(Problem::KeyMismatch { lookup: key_type.clone(), table });
        }
        key_type.clone_from(&described.key_type);
        let Errand::Lookups(lookups) = errand else { unreachable!("found as a trip of lookups") };
        let Some(column) = column else {
            lookups.age = true;
            return Ok(Place { trip, answer: Answer::Last });
        };
        let known = described.values.iter().position(|field| field.name() == column);
        let column = known.ok_or_else(|| Problem::NoTableColumn {
            table: described.name.clone(),
            column: column.to_owned(),
        })?;
        let answer = lookups.columns.iter().position(|&known| known == column);
        let answer = answer.unwrap_or_else(|| {
            lookups.columns.push(column);
            answers.push(described.values[column].data_type().clone());
            answers.len() - 1
        });
        Ok(Place { trip, answer: Answer::Number(answer) })
    }

    /// The trip by `key` whose errand is of a kind; a new one where there is none.
    fn trip(
        &mut self,
        key: &str,
        is_kind: impl Fn(&Errand) -> bool,
        errand: impl FnOnce() -> Errand,
    ) -> Result<usize, Problem> {
        let same = |trip: &Trip| trip.key_sql == key && is_kind(&trip.errand);
        if let Some(known) = self.trips.iter().position(same) {
            return Ok(known);
        }
        let compiled = self.event.key(key)?;
        let key_type = key_type(compiled.data_type())
            .ok_or_else(|| Problem::NotAKey(compiled.data_type().clone()))?;
        self.trips.push(Trip {
            key_sql: key.to_owned(),
            key: compiled,
            key_type,
            errand: errand(),
            answers: Vec::new(),
        });
        Ok(self.trips.len() - 1)
    }
}

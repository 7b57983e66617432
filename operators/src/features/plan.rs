//! The feature plan: declared features, checked and compiled against the columns of the event.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::{cast, is_null, kernels::zip::zip};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::features::categories::Categories;
use crate::features::sql::{Expression, SqlError};
use crate::features::table::{StaticTable, TableError};
use crate::features::window::WindowSpec;
use crate::key_group::key_type;
use crate::layout::EventLayout;

/// A feature as the job declares it.
pub struct FeatureDeclaration {
    pub name: String,
    pub definition: Definition,
    /// Takes the place of null.
    pub default: Option<Literal>,
    /// Whether the model takes null, as NaN; otherwise a null is a dead letter.
    pub allow_null: bool,
}

pub enum Definition {
    /// A column of the event.
    Column(String),
    /// An expression over columns of the event and earlier features.
    Sql(String),
    /// A keyed sliding window; key and value are expressions over columns of the event.
    Window { key: String, value: String, spec: WindowSpec },
    /// A column of the table's row of the key, an expression over columns and earlier features.
    Lookup { table: StaticTable, key: String, column: String },
    /// The code of a text, which is a column of the event or an earlier feature.
    Encode { input: String, categories: Categories },
}

/// A value written in the job file.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Number(f64),
    Text(String),
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Literal::Number(number) => write!(f, "{number}"),
            Literal::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Why declared features do not fit the event.
#[derive(Debug, thiserror::Error)]
#[error("feature {feature:?}: {problem}")]
pub struct PlanError {
    pub feature: String,
    pub problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("neither the event nor an earlier feature is called {0:?}")]
    UnknownColumn(String),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("a value of type {0} cannot be a feature; make it a number or a text with sql")]
    NotAFeature(DataType),
    #[error("{0} cannot be a key; a key is a string or an integer")]
    NotAKey(DataType),
    #[error("the key is {lookup}, but the table is keyed by {table}")]
    KeyMismatch { lookup: DataType, table: DataType },
    #[error("only text can be encoded, and this is {0}")]
    NotText(DataType),
    #[error("the default {default} does not fit a value of type {data_type}")]
    Default { default: Literal, data_type: DataType },
}

/// A side trip: the windows over one key, answered by the owner of the key.
pub struct Trip {
    /// What the key is in the job file, for plans and messages.
    pub key_sql: String,
    pub key: Expression,
    pub key_type: DataType,
    /// The value column and the window of each, in the order of the answers.
    pub windows: Vec<(Expression, WindowSpec)>,
}

struct Step {
    name: String,
    kind: StepKind,
    default: Option<Literal>,
    to: DataType,
}

enum StepKind {
    Take(usize),
    Evaluate(Expression),
    Lookup { table: StaticTable, key: Expression, column: usize },
    Encode { input: usize, categories: Categories },
}

/// Compiled features. The columns that steps read are, by position: the admitted event's, then the
/// answers of the side trips in order, then the features so far.
pub struct FeaturePlan {
    pub trips: Vec<Trip>,
    steps: Vec<Step>,
    allow_null: Vec<bool>,
    fields: Vec<Field>,
}

/// Names and types of the columns seen so far, while compiling.
struct Columns(Vec<(String, DataType)>);

impl Columns {
    fn position(&self, name: &str) -> Result<usize, Problem> {
        let found = self.0.iter().rposition(|(known, _)| known == name);
        found.ok_or_else(|| Problem::UnknownColumn(name.to_owned()))
    }

    /// A column by its name, whatever characters that has, else an SQL expression.
    fn expression(&self, text: &str, to: Option<&str>) -> Result<Expression, SqlError> {
        let plain = match self.position(text) {
            Ok(_) => format!("\"{}\"", text.replace('"', "\"\"")),
            Err(_) => text.to_owned(),
        };
        match to {
            Some(to) => Expression::compile(&format!("CAST(({plain}) AS {to})"), &self.0),
            None => Expression::compile(&plain, &self.0),
        }
    }
}

impl FeaturePlan {
    /// # Errors
    /// The first feature that does not fit.
    pub fn compile(
        layout: &EventLayout,
        declared: Vec<FeatureDeclaration>,
    ) -> Result<Self, PlanError> {
        let own = &layout.schema.fields()[..layout.event_columns];
        let event: Vec<(String, DataType)> = layout
            .schema
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect();
        let event_only = Columns(event[..own.len()].to_vec());
        let (trips, answers) = compile_trips(&event_only, &declared)?;

        let mut columns = Columns(event);
        let trip_columns = trips.iter().map(|trip| trip.windows.len()).sum::<usize>();
        columns.0.extend((0..trip_columns).map(|i| (format!("__window_{i}"), DataType::Float64)));
        let mut plan =
            FeaturePlan { trips, steps: Vec::new(), allow_null: Vec::new(), fields: Vec::new() };
        let first_answer = layout.schema.fields().len();
        for (feature, answer) in declared.into_iter().zip(answers) {
            let name = feature.name.clone();
            let step = compile_step(&columns, feature.definition, answer.map(|a| first_answer + a))
                .and_then(|(kind, from)| with_default(&name, kind, from, feature.default))
                .map_err(|problem| PlanError { feature: name.clone(), problem })?;
            plan.fields.push(Field::new(&name, step.to.clone(), true));
            plan.allow_null.push(feature.allow_null);
            columns.0.push((name, step.to.clone()));
            plan.steps.push(step);
        }
        Ok(plan)
    }

    /// Positions of the columns that steps and side trips read, in the order of the plan's columns.
    pub fn columns_read(&self) -> Vec<usize> {
        let trips = self.trips.iter().flat_map(|trip| {
            let values = trip.windows.iter().flat_map(|(value, _)| value.columns());
            trip.key.columns().iter().chain(values).copied()
        });
        let steps = self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Take(at) | StepKind::Encode { input: at, .. } => vec![*at],
            StepKind::Evaluate(expression) => expression.columns().to_vec(),
            StepKind::Lookup { key, .. } => key.columns().to_vec(),
        });
        trips.chain(steps).collect()
    }

    /// Features by name and type (Float64 or Utf8), in the order declared.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether the feature may be null when it reaches the model.
    pub fn allows_null(&self, feature: usize) -> bool {
        self.allow_null[feature]
    }

    /// The schema of a batch after [`FeaturePlan::append`]: the event's columns, then the features.
    pub fn enriched_schema(&self, layout: &EventLayout) -> SchemaRef {
        let mut fields: Vec<Field> =
            layout.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend(self.fields.iter().cloned());
        Arc::new(Schema::new(fields))
    }

    /// Computes the features of admitted events, given the answers of the side trips (Float64,
    /// `[rows]` each), and appends them.
    ///
    /// # Errors
    /// What an expression refuses, such as an integer division by zero.
    pub fn append(
        &self,
        events: &RecordBatch,
        answers: Vec<ArrayRef>,
        enriched: &SchemaRef,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = events.num_rows();
        let mut columns = events.columns().to_vec();
        columns.extend(answers);
        let first_feature = columns.len();
        for step in &self.steps {
            let value = step.run(&columns, rows).map_err(|error| {
                ArrowError::ComputeError(format!("feature {:?}: {error}", step.name))
            })?;
            columns.push(value);
        }
        let features = columns.split_off(first_feature);
        columns.truncate(events.num_columns());
        columns.extend(features);
        RecordBatch::try_new(enriched.clone(), columns)
    }
}

/// The side trips of the declared windows, and for each feature which answer is its own.
fn compile_trips(
    event: &Columns,
    declared: &[FeatureDeclaration],
) -> Result<(Vec<Trip>, Vec<Option<usize>>), PlanError> {
    let mut trips: Vec<Trip> = Vec::new();
    let mut places = Vec::new();
    for feature in declared {
        let Definition::Window { key, value, spec } = &feature.definition else {
            places.push(None);
            continue;
        };
        let error = |problem| PlanError { feature: feature.name.clone(), problem };
        let value = event.expression(value, Some("DOUBLE")).map_err(|e| error(e.into()))?;
        let trip = match trips.iter().position(|trip| trip.key_sql == *key) {
            Some(trip) => trip,
            None => {
                let compiled = event.expression(key, None).map_err(|e| error(e.into()))?;
                let key_type = key_type(compiled.data_type())
                    .ok_or_else(|| error(Problem::NotAKey(compiled.data_type().clone())))?;
                trips.push(Trip {
                    key_sql: key.clone(),
                    key: compiled,
                    key_type,
                    windows: Vec::new(),
                });
                trips.len() - 1
            }
        };
        places.push(Some((trip, trips[trip].windows.len())));
        trips[trip].windows.push((value, *spec));
    }
    let before = |trip: usize| trips[..trip].iter().map(|t| t.windows.len()).sum::<usize>();
    let answers =
        places.iter().map(|place| place.map(|(trip, window)| before(trip) + window)).collect();
    Ok((trips, answers))
}

/// How a feature is computed, and the type of what comes out.
fn compile_step(
    columns: &Columns,
    definition: Definition,
    answer: Option<usize>,
) -> Result<(StepKind, DataType), Problem> {
    match definition {
        Definition::Column(name) => {
            let at = columns.position(&name)?;
            Ok((StepKind::Take(at), columns.0[at].1.clone()))
        }
        Definition::Sql(sql) => {
            let expression = Expression::compile(&sql, &columns.0)?;
            let data_type = expression.data_type().clone();
            Ok((StepKind::Evaluate(expression), data_type))
        }
        Definition::Window { .. } => {
            Ok((StepKind::Take(answer.expect("each window has an answer")), DataType::Float64))
        }
        Definition::Lookup { table, key, column } => {
            let key = columns.expression(&key, None)?;
            let lookup = key_type(key.data_type())
                .ok_or_else(|| Problem::NotAKey(key.data_type().clone()))?;
            if lookup != table.key_type() {
                return Err(Problem::KeyMismatch { lookup, table: table.key_type() });
            }
            let column = table.column(&column)?;
            let data_type = table.column_type(column);
            Ok((StepKind::Lookup { table, key, column }, data_type))
        }
        Definition::Encode { input, categories } => {
            let input = columns.position(&input)?;
            match &columns.0[input].1 {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                    Ok((StepKind::Encode { input, categories }, DataType::Float64))
                }
                other => Err(Problem::NotText(other.clone())),
            }
        }
    }
}

fn with_default(
    name: &str,
    kind: StepKind,
    from: DataType,
    default: Option<Literal>,
) -> Result<Step, Problem> {
    let to = match &from {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Boolean | DataType::Decimal128(..) => DataType::Float64,
        number if number.is_numeric() => DataType::Float64,
        other => return Err(Problem::NotAFeature(other.clone())),
    };
    match (&default, &to) {
        (Some(Literal::Number(_)), DataType::Float64)
        | (Some(Literal::Text(_)), DataType::Utf8) => {}
        (None, _) => {}
        (Some(default), _) => {
            return Err(Problem::Default { default: default.clone(), data_type: from });
        }
    }
    Ok(Step { name: name.to_owned(), kind, default, to })
}

impl Step {
    /// The feature, `[rows]`, as Float64 or Utf8.
    fn run(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
        let value = match &self.kind {
            StepKind::Take(at) => columns[*at].clone(),
            StepKind::Evaluate(expression) => expression.evaluate(columns, rows)?,
            StepKind::Lookup { table, key, column } => {
                table.values(*column, &table.find(&key.evaluate(columns, rows)?)?)?
            }
            StepKind::Encode { input, categories } => {
                let text = as_type(&columns[*input], &DataType::Utf8)?;
                Arc::new(categories.encode(&text))
            }
        };
        self.fill(as_type(&value, &self.to)?)
    }

    fn fill(&self, value: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let Some(default) = self.default.as_ref().filter(|_| value.null_count() > 0) else {
            return Ok(value);
        };
        let nulls: BooleanArray = is_null(&value)?;
        match default {
            Literal::Number(number) => zip(&nulls, &Float64Array::new_scalar(*number), &value),
            Literal::Text(text) => zip(&nulls, &StringArray::new_scalar(text), &value),
        }
    }
}

fn as_type(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to { Ok(column.clone()) } else { cast(column, to) }
}

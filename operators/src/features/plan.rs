//! The feature plan: declared features, checked and compiled against the columns of the event.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::as_of::table::AsOfTable;
use crate::features::categories::Categories;
use crate::features::columns::{Column, Columns};
use crate::features::declaration::{Definition, FeatureDeclaration, Literal, PlanError, Problem};
use crate::features::functions::Functions;
use crate::features::missing::without_nan;
use crate::features::refusals::Refused;
use crate::features::sql::Expression;
use crate::features::table::StaticTable;
use crate::features::trip::{Trip, compile_trips, key_name};
use crate::key_group::{can_find, key_type};
use crate::layout::{EventLayout, INTERNAL};

struct Step {
    name: String,
    kind: StepKind,
    default: Option<Literal>,
    to: DataType,
}

enum StepKind {
    Take(usize),
    Evaluate(Expression),
    /// A column of a table, at the rows of the find of this number.
    Lookup {
        find: usize,
        column: usize,
    },
    Encode {
        input: usize,
        categories: Categories,
    },
}

/// The rows of a table that a key is looked up in; lookups of several columns share it.
struct Find {
    table: StaticTable,
    key_sql: String,
    key: Expression,
}

/// Compiled features. The columns that steps read are, by position: the admitted event's, then the
/// answers of the side trips in order, then the features so far.
pub struct FeaturePlan {
    pub trips: Vec<Trip>,
    finds: Vec<Find>,
    steps: Vec<Step>,
    allow_null: Vec<bool>,
    fields: Vec<Field>,
}

impl FeaturePlan {
    /// # Errors
    /// The first feature that does not fit.
    pub fn compile(
        layout: &EventLayout,
        declared: Vec<FeatureDeclaration>,
        tables: &[AsOfTable],
        functions: &Functions,
    ) -> Result<Self, PlanError> {
        let event: Vec<Column> = layout
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| Column {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                is_integer: layout.integers.get(at).copied().unwrap_or(false),
                is_named: at < layout.event_columns && !field.name().starts_with(INTERNAL),
            })
            .collect();
        let columns = |columns| Columns { columns, functions: functions.clone() };
        let event_only = columns(event[..layout.event_columns].to_vec());
        let (trips, answers) = compile_trips(&event_only, &declared, tables)?;

        let mut columns = columns(event);
        let types = trips.iter().flat_map(|trip| trip.answers.iter().cloned()).enumerate();
        columns.columns.extend(types.map(|(i, data_type)| Column {
            name: format!("answer {i}"),
            is_integer: data_type == DataType::Int64,
            is_named: false,
            data_type,
        }));
        let mut plan = FeaturePlan {
            trips,
            finds: Vec::new(),
            steps: Vec::new(),
            allow_null: Vec::new(),
            fields: Vec::new(),
        };
        let first_answer = layout.schema.fields().len();
        for (feature, answer) in declared.into_iter().zip(answers) {
            let name = feature.name.clone();
            let answer = answer.map(|answer| first_answer + answer);
            let step = compile_step(&columns, feature.definition, answer, &mut plan.finds)
                .and_then(|(kind, from)| with_default(&name, kind, from, feature.default))
                .map_err(|problem| PlanError { feature: name.clone(), problem })?;
            plan.fields.push(Field::new(&name, step.to.clone(), true));
            plan.allow_null.push(feature.allow_null);
            let (data_type, is_integer) = (step.to.clone(), step.to == DataType::Int64);
            columns.columns.push(Column { name, data_type, is_integer, is_named: true });
            plan.steps.push(step);
        }
        Ok(plan)
    }

    /// Positions of the columns that steps and side trips read, in the order of the plan's columns.
    pub fn columns_read(&self) -> Vec<usize> {
        let trips = self.trips.iter().flat_map(Trip::columns_read);
        let steps = self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Take(at) | StepKind::Encode { input: at, .. } => vec![*at],
            StepKind::Evaluate(expression) => expression.columns().to_vec(),
            StepKind::Lookup { find, .. } => self.finds[*find].key.columns().to_vec(),
        });
        trips.chain(steps).collect()
    }

    /// What the expressions of features have refused so far: by feature, and of keys by the key.
    pub fn refused(&self) -> Vec<(String, Refused)> {
        let of_steps = self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Evaluate(expression) => Some((step.name.clone(), expression.refused())),
            _ => None,
        });
        let of_finds = self.finds.iter().map(|find| (key_name(&find.key_sql), find.key.refused()));
        let of_trips = self.trips.iter().flat_map(Trip::refused);
        of_steps.chain(of_finds).chain(of_trips).collect()
    }

    /// Features by name and type (Float64, Utf8, or Int64 where a column is declared so), in the order
    /// declared.
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

    /// Computes the features of admitted events, given the answers of the side trips (`[rows]`
    /// each), and appends them.
    ///
    /// # Errors
    /// If a function of an expression fails whatever the values are.
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
        let mut found: Vec<Option<UInt32Array>> = vec![None; self.finds.len()];
        for step in &self.steps {
            let value = self.run(step, &columns, rows, &mut found).map_err(|error| {
                ArrowError::ComputeError(format!("feature {:?}: {error}", step.name))
            })?;
            columns.push(value);
        }
        let features = columns.split_off(first_feature);
        columns.truncate(events.num_columns());
        columns.extend(features);
        RecordBatch::try_new(enriched.clone(), columns)
    }

    /// The feature of a step, `[rows]`, of its type. `found` are the rows of the finds so far.
    fn run(
        &self,
        step: &Step,
        columns: &[ArrayRef],
        rows: usize,
        found: &mut [Option<UInt32Array>],
    ) -> Result<ArrayRef, ArrowError> {
        let value = match &step.kind {
            StepKind::Take(at) => columns[*at].clone(),
            StepKind::Evaluate(expression) => expression.evaluate(columns, rows)?,
            StepKind::Lookup { find, column } => {
                let Find { table, key, .. } = &self.finds[*find];
                let at = match found[*find].take() {
                    Some(at) => at,
                    None => table.find(&key.evaluate(columns, rows)?)?,
                };
                table.values(*column, found[*find].insert(at))?
            }
            StepKind::Encode { input, categories } => {
                let text = as_type(&columns[*input], &DataType::Utf8)?;
                Arc::new(categories.encode(&text))
            }
        };
        step.fill(as_type(&value, &step.to)?)
    }
}

/// How a feature is computed, and the type of what comes out.
fn compile_step(
    columns: &Columns,
    definition: Definition,
    answer: Option<usize>,
    finds: &mut Vec<Find>,
) -> Result<(StepKind, DataType), Problem> {
    match definition {
        Definition::Column(name) => {
            let at = columns.position(&name)?;
            Ok((StepKind::Take(at), columns.columns[at].value_type()))
        }
        Definition::Sql(sql) => {
            let expression = columns.sql(&sql)?;
            let data_type = match expression.data_type() {
                integer if integer.is_integer() => DataType::Float64,
                other => other.clone(),
            };
            Ok((StepKind::Evaluate(expression), data_type))
        }
        Definition::Window { .. } | Definition::AsOf { .. } => {
            let at = answer.expect("each side trip has an answer");
            Ok((StepKind::Take(at), columns.columns[at].value_type()))
        }
        Definition::Lookup { table, key: key_sql, column } => {
            let key = columns.key(&key_sql)?;
            let lookup = key_type(key.data_type())
                .ok_or_else(|| Problem::NotAKey(key.data_type().clone()))?;
            if !can_find(&lookup, &table.key_type()) {
                return Err(Problem::KeyMismatch { lookup, table: table.key_type() });
            }
            let column = table.column(&column)?;
            let data_type = table.column_type(column);
            // A name means something else once a feature has it: the columns tell.
            let is_same = |find: &Find| {
                find.table.is_same(&table)
                    && find.key_sql == key_sql
                    && find.key.columns() == key.columns()
            };
            let find = finds.iter().position(is_same).unwrap_or(finds.len());
            if find == finds.len() {
                finds.push(Find { table, key_sql, key });
            }
            Ok((StepKind::Lookup { find, column }, data_type))
        }
        Definition::Encode { input, categories } => {
            let input = columns.position(&input)?;
            match &columns.columns[input].data_type {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
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
        // Without a value; the default tells what it would be.
        DataType::Null if matches!(default, Some(Literal::Text(_))) => DataType::Utf8,
        DataType::Null => DataType::Float64,
        DataType::Int64 => DataType::Int64,
        DataType::Boolean | DataType::Decimal128(..) => DataType::Float64,
        number if number.is_numeric() => DataType::Float64,
        other => return Err(Problem::NotAFeature(other.clone())),
    };
    match (&default, &to) {
        (Some(Literal::Number(_)), DataType::Float64)
        | (Some(Literal::Text(_)), DataType::Utf8) => {}
        (Some(Literal::Number(number)), DataType::Int64) if as_integer(*number).is_some() => {}
        (None, _) => {}
        (Some(default), _) => {
            return Err(Problem::Default { default: default.clone(), data_type: from });
        }
    }
    Ok(Step { name: name.to_owned(), kind, default, to })
}

impl Step {
    /// The feature where it is known; where it is null or NaN the default, or null.
    fn fill(&self, value: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let value = without_nan(value);
        let Some(default) = self.default.as_ref().filter(|_| value.null_count() > 0) else {
            return Ok(value);
        };
        match default {
            Literal::Number(number) if self.to == DataType::Int64 => {
                let default = as_integer(*number).unwrap_or_default();
                let filled = value.as_primitive::<Int64Type>().iter();
                let filled = filled.map(|value| value.unwrap_or(default));
                Ok(Arc::new(Int64Array::from_iter_values(filled)))
            }
            Literal::Number(number) => {
                let filled = value.as_primitive::<Float64Type>().iter();
                let filled = filled.map(|value| value.unwrap_or(*number));
                Ok(Arc::new(Float64Array::from_iter_values(filled)))
            }
            Literal::Text(text) => {
                let filled = value.as_string::<i32>().iter();
                let filled = filled.map(|value| value.unwrap_or(text));
                Ok(Arc::new(StringArray::from_iter_values(filled)))
            }
        }
    }
}

/// A number as the integer that it is, if it is one.
fn as_integer(number: f64) -> Option<i64> {
    let whole = number as i64;
    // 2^63 is a float, and i64::MAX is not.
    (whole as f64 == number && number < 9_223_372_036_854_775_808.0).then_some(whole)
}

fn as_type(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to { Ok(column.clone()) } else { cast(column, to) }
}

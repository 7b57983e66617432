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
use crate::features::rules::{Failures, FeatureRules, Rules, as_integer};
use crate::features::sql::{Expression, SqlError};
use crate::features::table::StaticTable;
use crate::features::trip::{Trip, compile_trips, key_name};
use crate::features::validity::{Check, Unsound, Validity};
use crate::key_group::{can_find, key_type};
use crate::layout::{EventLayout, INTERNAL};

struct Step {
    name: String,
    kind: StepKind,
    default: Option<Literal>,
    to: DataType,
    /// Whether nobody has said of what type the values are, since there are none.
    is_untyped: bool,
    rules: Option<FeatureRules>,
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
    /// What features and rows must be.
    pub rules: Arc<Rules>,
    /// Rules of rows, by number.
    checks: Vec<(u32, Expression)>,
}

/// What features and rows must be, as the job declares it.
#[derive(Default)]
pub struct DeclaredRules {
    /// By the name of the feature.
    pub features: Vec<(String, Validity)>,
    pub checks: Vec<Check>,
}

/// Why a rule does not fit the features.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("feature {feature:?}: {}", problem.message)]
    Feature { feature: String, problem: Unsound },
    #[error("check {check:?}: {problem}")]
    Check { check: String, problem: Problem },
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
        let event = event_columns(layout);
        let columns = |columns| Columns { columns, functions: functions.clone() };
        let event_only = columns(event[..layout.event_columns].to_vec());
        let (trips, answers) = compile_trips(&event_only, &declared, tables)?;

        let mut columns = columns(event);
        columns.columns.extend(answer_columns(&trips));
        let mut plan = FeaturePlan {
            trips,
            finds: Vec::new(),
            steps: Vec::new(),
            allow_null: Vec::new(),
            fields: Vec::new(),
            rules: Arc::default(),
            checks: Vec::new(),
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
            columns.columns.push(feature_column(name, step.to.clone()));
            plan.steps.push(step);
        }
        Ok(plan)
    }

    /// The same plan, whose features and rows must keep rules.
    ///
    /// # Errors
    /// The first rule that does not fit the features.
    pub fn with_rules(
        mut self,
        layout: &EventLayout,
        declared: &DeclaredRules,
        functions: &Functions,
    ) -> Result<Self, RuleError> {
        let mut rules = Rules::default();
        for (position, step) in self.steps.iter_mut().enumerate() {
            let is_of = |(feature, _): &&(String, Validity)| *feature == step.name;
            let Some((feature, valid)) = declared.features.iter().find(is_of) else { continue };
            // Values that never come break no rule but that they must.
            let only_required =
                || Validity { required: valid.required, ..Validity::none(valid.on_fail) };
            let valid = if step.is_untyped { &only_required() } else { valid };
            let of = (position, feature.as_str(), &step.to);
            step.rules = rules
                .add_feature(of, valid, step.default.as_ref())
                .map_err(|problem| RuleError::Feature { feature: feature.clone(), problem })?;
        }
        let mut columns = event_columns(layout);
        columns.extend(answer_columns(&self.trips));
        let features = self.fields.iter();
        columns.extend(
            features.map(|field| feature_column(field.name().clone(), field.data_type().clone())),
        );
        let columns = Columns { columns, functions: functions.clone() };
        for check in &declared.checks {
            let compiled = columns.sql(&check.sql).map_err(Problem::from).and_then(|expression| {
                match expression.data_type() {
                    DataType::Boolean => Ok(expression),
                    other => Err(Problem::NotACheck(other.clone())),
                }
            });
            let wrong = |problem| RuleError::Check { check: check.name.clone(), problem };
            self.checks.push((rules.add_check(check), compiled.map_err(wrong)?));
        }
        self.rules = Arc::new(rules);
        Ok(self)
    }

    /// A column by its name, or an SQL expression over columns of the event and features, to be evaluated on
    /// enriched rows.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn of_enriched(
        &self,
        layout: &EventLayout,
        text: &str,
        functions: &Functions,
    ) -> Result<Expression, SqlError> {
        self.enriched_columns(layout, functions).key(text)
    }

    /// The same of a condition.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn condition_of_enriched(
        &self,
        layout: &EventLayout,
        sql: &str,
        functions: &Functions,
    ) -> Result<Expression, SqlError> {
        self.enriched_columns(layout, functions).sql(sql)
    }

    fn enriched_columns(&self, layout: &EventLayout, functions: &Functions) -> Columns {
        let mut columns = event_columns(layout);
        let features = self.fields.iter();
        columns.extend(
            features.map(|field| feature_column(field.name().clone(), field.data_type().clone())),
        );
        Columns { columns, functions: functions.clone() }
    }

    /// Positions of the columns that steps and side trips read, in the order of the plan's columns.
    pub fn columns_read(&self) -> Vec<usize> {
        let trips = self.trips.iter().flat_map(Trip::columns_read);
        let steps = self.steps.iter().flat_map(|step| match &step.kind {
            StepKind::Take(at) | StepKind::Encode { input: at, .. } => vec![*at],
            StepKind::Evaluate(expression) => expression.columns().to_vec(),
            StepKind::Lookup { find, .. } => self.finds[*find].key.columns().to_vec(),
        });
        let checks = self.checks.iter().flat_map(|(_, check)| check.columns().iter().copied());
        trips.chain(steps).chain(checks).collect()
    }

    /// What expressions have refused so far: by feature, of keys by the key, of rules of rows by theirs.
    pub fn refused(&self) -> Vec<(String, Refused)> {
        let of_steps = self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Evaluate(expression) => Some((step.name.clone(), expression.refused())),
            _ => None,
        });
        let of_finds = self.finds.iter().map(|find| (key_name(&find.key_sql), find.key.refused()));
        let of_trips = self.trips.iter().flat_map(Trip::refused);
        let of_checks = self.checks.iter().map(|(number, check)| {
            (format!("checks.{}", self.rules.get(*number).name), check.refused())
        });
        of_steps.chain(of_finds).chain(of_trips).chain(of_checks).collect()
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

    /// The schema of a batch after [`FeaturePlan::append`]: the event's columns, then the features, then,
    /// where there are rules, what rows failed.
    pub fn enriched_schema(&self, layout: &EventLayout) -> SchemaRef {
        let mut fields: Vec<Field> =
            layout.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend(self.fields.iter().cloned());
        fields.extend((!self.rules.is_empty()).then(Rules::field));
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
        let mut failures = Failures::default();
        for step in &self.steps {
            let value = self.run(step, &columns, rows, &mut found).and_then(|value| {
                let value = match &step.rules {
                    Some(rules) => rules.apply(value, &mut failures),
                    None => value,
                };
                step.fill(value)
            });
            columns.push(value.map_err(|error| {
                ArrowError::ComputeError(format!("feature {:?}: {error}", step.name))
            })?);
        }
        for (number, check) in &self.checks {
            failures.check(*number, check, &columns, rows).map_err(|error| {
                let name = &self.rules.get(*number).name;
                ArrowError::ComputeError(format!("check {name:?}: {error}"))
            })?;
        }
        let features = columns.split_off(first_feature);
        columns.truncate(events.num_columns());
        columns.extend(features);
        if !self.rules.is_empty() {
            columns.push(failures.column(rows)?);
        }
        RecordBatch::try_new(enriched.clone(), columns)
    }

    /// What a step comes to, `[rows]`, of its type; null where that is unknown or NaN. `found` are the rows of the finds so far.
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
        Ok(without_nan(as_type(&value, &step.to)?))
    }
}

/// The columns of admitted events.
fn event_columns(layout: &EventLayout) -> Vec<Column> {
    let column = |(at, field): (usize, &Arc<Field>)| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        is_integer: layout.integers.get(at).copied().unwrap_or(false),
        is_named: at < layout.event_columns && !field.name().starts_with(INTERNAL),
    };
    layout.schema.fields().iter().enumerate().map(column).collect()
}

/// The columns of answers, over all trips.
fn answer_columns(trips: &[Trip]) -> impl Iterator<Item = Column> {
    let types = trips.iter().flat_map(|trip| trip.answers.iter().cloned()).enumerate();
    types.map(|(at, data_type)| Column {
        name: format!("answer {at}"),
        is_integer: data_type == DataType::Int64,
        is_named: false,
        data_type,
    })
}

fn feature_column(name: String, data_type: DataType) -> Column {
    let is_integer = data_type == DataType::Int64;
    Column { name, data_type, is_integer, is_named: true }
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
    let is_untyped = from == DataType::Null;
    Ok(Step { name: name.to_owned(), kind, default, to, is_untyped, rules: None })
}

impl Step {
    /// The feature where it is known; where it is null the default, or null.
    fn fill(&self, value: ArrayRef) -> Result<ArrayRef, ArrowError> {
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

fn as_type(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to { Ok(column.clone()) } else { cast(column, to) }
}

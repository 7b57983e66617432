//! A job made in code: the same keys as in a job file, the same checks.

use std::path::Path;

use toml::{Table, Value};

use super::job::Job;
use super::origin::ConfigError;

/// Makes a [`Job`] step by step. What has no method here is set by its key, as the environment would
/// set it in a job file.
///
/// ```
/// use driftline::{Feature, JobBuilder, Model, Window};
///
/// let job = JobBuilder::new("orders", "ordered_at")
///     .id("order_id")
///     .key("customer")
///     .feature("amount", Feature::column("amount").default(0.0))
///     .feature("spent_1d", Feature::window(Window::aggregate("sum", "customer", "amount", "1d")))
///     .model(Model::onnx("risk.onnx", ["amount", "spent_1d"]).version("3"))
///     .set("realtime_ml.max_batch_size", 64)
///     .build(".".as_ref())?;
/// assert_eq!(job.features.len(), 2);
/// # Ok::<(), driftline::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct JobBuilder(Table);

impl JobBuilder {
    /// A job called `name` whose events have their time in the column `time`.
    pub fn new(name: &str, time: &str) -> Self {
        JobBuilder(Table::new()).set("job.name", name).set("event.time", time)
    }

    /// The column of the event's id.
    #[must_use]
    pub fn id(self, column: &str) -> Self {
        self.set("event.id", column)
    }

    /// The column of the output key.
    #[must_use]
    pub fn key(self, column: &str) -> Self {
        self.set("event.key", column)
    }

    /// Where events come from, if the program does not bring them: a file or a folder.
    #[must_use]
    pub fn source(self, path: &str) -> Self {
        self.set("sources.events.path", path)
    }

    /// A static table: one row a key.
    #[must_use]
    pub fn table(self, name: &str, path: &str, key: &str) -> Self {
        self.set(&format!("tables.{name}.path"), path).set(&format!("tables.{name}.key"), key)
    }

    /// A table that changes: a row holds from its `time` on.
    #[must_use]
    pub fn changing_table(self, name: &str, path: &str, key: &str, time: &str) -> Self {
        self.table(name, path, key).set(&format!("tables.{name}.time"), time)
    }

    /// The next feature; it may use those before it.
    #[must_use]
    pub fn feature(self, name: &str, feature: Feature) -> Self {
        self.set(&format!("features.{name}"), feature.0)
    }

    /// A rule over whole rows: `sql`, over columns of the event and features, must be true.
    #[must_use]
    pub fn check(self, name: &str, sql: &str) -> Self {
        self.set(&format!("checks.{name}.sql"), sql)
    }

    #[must_use]
    pub fn model(self, model: Model) -> Self {
        self.set("model", model.0)
    }

    /// Sets any key of a job file, such as `realtime_ml.max_batch_size`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (sections, last) =
            key.rsplit_once('.').map_or(("", key), |(before, last)| (before, last));
        let mut at = &mut self.0;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let entry = at.entry(section).or_insert_with(|| Value::Table(Table::new()));
            // What is no section becomes one; the check says what is missing in it.
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            at = entry.as_table_mut().expect("it is a table by now");
        }
        at.insert(last.to_owned(), value.into());
        self
    }

    /// The job file that says the same.
    pub fn to_toml(&self) -> String {
        self.0.to_string()
    }

    /// The job, checked; relative paths in it begin at `folder`.
    ///
    /// # Errors
    /// As [`Job::load`]; lines are those of [`JobBuilder::to_toml`].
    pub fn build(&self, folder: &Path) -> Result<Job, ConfigError> {
        Job::parse(&self.to_toml(), folder)
    }
}

/// How a feature is made.
#[derive(Clone, Debug)]
pub struct Feature(Table);

impl Feature {
    /// A column of the event.
    pub fn column(column: &str) -> Self {
        Feature(Table::new()).with("column", column)
    }

    /// An SQL expression over columns of the event and earlier features. It can call the
    /// [functions](crate::SqlFunction) of the program.
    pub fn sql(sql: &str) -> Self {
        Feature(Table::new()).with("sql", sql)
    }

    pub fn window(window: Window) -> Self {
        Feature(Table::new()).with("window", window.0)
    }

    /// A column of a table's row of the key, as of the event's time if the table changes.
    pub fn lookup(table: &str, key: &str, column: &str) -> Self {
        let lookup = [("table", table), ("key", key), ("column", column)];
        Feature(Table::new()).with("lookup", table_of(lookup))
    }

    /// The age in ms of the row that a lookup in a changing table finds.
    pub fn age(table: &str, key: &str) -> Self {
        let mut lookup = table_of([("table", table), ("key", key)]);
        lookup.insert("age".to_owned(), true.into());
        Feature(Table::new()).with("lookup", lookup)
    }

    /// The position of the column's text in `categories`, `unseen` if it is not there.
    pub fn encode<'a>(
        column: &str,
        categories: impl IntoIterator<Item = &'a str>,
        unseen: f64,
    ) -> Self {
        let mut encode = table_of([("column", column)]);
        encode.insert("categories".to_owned(), list(categories));
        encode.insert("unseen".to_owned(), unseen.into());
        Feature(Table::new()).with("encode", encode)
    }

    /// What null becomes: a number or a text.
    #[must_use]
    pub fn default(self, value: impl Into<Value>) -> Self {
        self.with("default", value)
    }

    /// What values must be: a rule of `valid` in job files, such as `min`, or `on_fail`.
    #[must_use]
    pub fn valid(mut self, rule: &str, value: impl Into<Value>) -> Self {
        let valid = self.0.entry("valid").or_insert_with(|| Value::Table(Table::new()));
        if let Some(valid) = valid.as_table_mut() {
            valid.insert(rule.to_owned(), value.into());
        }
        self
    }

    /// Null reaches the model, as NaN.
    #[must_use]
    pub fn allow_null(self) -> Self {
        self.with("allow_null", true)
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}

/// A sliding window over the rows of a key, (t − length, t] in event time.
#[derive(Clone, Debug)]
pub struct Window(Table);

impl Window {
    /// `sum`, `mean`, `min`, `max`, `std` or `count` of `value`, which is an SQL expression, as is
    /// `key`.
    pub fn aggregate(aggregate: &str, key: &str, value: &str, length: &str) -> Self {
        let fields = [("aggregate", aggregate), ("key", key), ("value", value), ("length", length)];
        Window(table_of(fields))
    }

    /// How many rows.
    pub fn count(key: &str, length: &str) -> Self {
        Window(table_of([("aggregate", "count"), ("key", key), ("length", length)]))
    }

    /// The time in ms since the key's previous row, null beyond `within`.
    pub fn time_since_last(key: &str, within: &str) -> Self {
        Window(table_of([("aggregate", "time_since_last"), ("key", key), ("within", within)]))
    }

    /// The time in ms since the key's previous row, however long ago that was.
    pub fn time_since_last_ever(key: &str) -> Self {
        Window(table_of([("aggregate", "time_since_last"), ("key", key)]))
    }

    /// What a [window function](crate::WindowFunction) of the program says of `value`.
    pub fn function(function: &str, key: &str, value: &str, length: &str) -> Self {
        let fields = [("function", function), ("key", key), ("value", value), ("length", length)];
        Window(table_of(fields))
    }
}

/// The model that scores events.
#[derive(Clone, Debug)]
pub struct Model(Table);

impl Model {
    /// A model that the program [brings](crate::Pipeline::model), and the features it reads.
    pub fn own<'a>(name: &str, features: impl IntoIterator<Item = &'a str>) -> Self {
        Model::onnx(name, features)
    }

    /// An ONNX file or a model of a [registry](Model::registry), and the features it reads in the order of
    /// its input.
    pub fn onnx<'a>(path: &str, features: impl IntoIterator<Item = &'a str>) -> Self {
        let mut model = table_of([("path", path)]);
        model.insert("features".to_owned(), list(features));
        Model(model)
    }

    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with("name", name)
    }

    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.with("version", version)
    }

    /// The MLflow server of a model such as `models:/risk@champion`.
    #[must_use]
    pub fn registry(self, address: &str) -> Self {
        self.with("registry", address)
    }

    /// The features that an input of the model takes, where it is not called like one.
    #[must_use]
    pub fn input<'a>(mut self, input: &str, features: impl IntoIterator<Item = &'a str>) -> Self {
        let inputs = self.0.entry("inputs").or_insert_with(|| Value::Table(Table::new()));
        if let Some(inputs) = inputs.as_table_mut() {
            inputs.insert(input.to_owned(), list(features));
        }
        self
    }

    /// The output to read, where several could be the prediction.
    #[must_use]
    pub fn output(self, output: &str) -> Self {
        self.with("output", output)
    }

    /// `binary`, `multiclass` or `regression`.
    #[must_use]
    pub fn task(self, task: &str) -> Self {
        self.with("task", task)
    }

    /// `auto` or `onnxruntime`.
    #[must_use]
    pub fn engine(self, engine: &str) -> Self {
        self.with("engine", engine)
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}

fn table_of<const N: usize>(fields: [(&str, &str); N]) -> Table {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
    Value::Array(texts.into_iter().map(Value::from).collect())
}

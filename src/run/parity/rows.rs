//! Rows with what the model's trainer predicts for them, in a Parquet file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::error::ArrowError;
use driftline_operators::parity::Expected;
use indexmap::IndexMap;

use crate::models::onnx::TakenInput;
use crate::run::prepare::parquet_batches;

/// What pandas calls the column of an index that it stores.
const INDEX: &str = "__index_level_";

/// The first rows of a file.
pub struct ParityRows {
    pub path: PathBuf,
    columns: RecordBatch,
}

/// The features of a model that nobody has named: columns of the file, those of a list one by one.
pub struct OwnFeatures {
    pub fields: Vec<Field>,
    /// By input the features that it takes, where a list is called like it.
    pub inputs: IndexMap<String, Vec<String>>,
}

impl ParityRows {
    /// # Errors
    /// If it cannot be read, or has no rows.
    pub fn read(path: &Path, rows_max: usize) -> Result<Self> {
        if !path.is_file() {
            bail!("{}: there is no such file of rows", path.display());
        }
        let batches = parquet_batches(path)?;
        let schema = batches.schema.clone();
        let (mut taken, mut rows) = (Vec::new(), 0);
        for batch in batches {
            let batch = batch?;
            taken.push(batch.slice(0, batch.num_rows().min(rows_max - rows)));
            rows += batch.num_rows().min(rows_max - rows);
            if rows == rows_max {
                break;
            }
        }
        if rows == 0 {
            bail!("{}: it has no rows", path.display());
        }
        let columns =
            concat_batches(&schema, &taken).with_context(|| path.display().to_string())?;
        Ok(ParityRows { path: path.to_owned(), columns })
    }

    pub fn count(&self) -> usize {
        self.columns.num_rows()
    }

    /// What is expected of each row. A column of lists is of predictions, one of numbers is of scores;
    /// several columns are the numbers of predictions. Null is NaN, as pandas stores it.
    ///
    /// # Errors
    /// If a column is missing, or of anything else.
    pub fn expected(&self, names: &[String]) -> Result<Expected> {
        let of = |name: &String| match self.columns.column_by_name(name) {
            Some(column) => Ok(column),
            None => Err(self.said(format!(
                "it has no column {name:?} of what is expected; it has {}",
                self.names()
            ))),
        };
        let columns = names.iter().map(of).collect::<Result<Vec<_>>>()?;
        if let ([name], [column]) = (names, columns.as_slice()) {
            if !is_list(column.data_type()) {
                return Ok(Expected::Scores(self.numbers(name, column)?));
            }
            let columns = self.flat(name, column)?;
            return self.predictions(name, columns.iter());
        }
        self.predictions(&names.join(", "), columns.into_iter())
    }

    fn predictions<'a>(
        &self,
        name: &str,
        columns: impl Iterator<Item = &'a ArrayRef>,
    ) -> Result<Expected> {
        let columns =
            columns.map(|column| self.numbers(name, column)).collect::<Result<Vec<_>>>()?;
        let row = |row: usize| columns.iter().map(move |column| column[row]);
        let values = (0..self.count()).flat_map(row).collect();
        Ok(Expected::Predictions { width: columns.len(), values })
    }

    fn numbers(&self, name: &str, column: &ArrayRef) -> Result<Vec<f64>> {
        let numbers = self.convert(column, &Field::new(name, DataType::Float64, true))?;
        let numbers = numbers.as_primitive::<Float64Type>().iter();
        Ok(numbers.map(|number| number.unwrap_or(f64::NAN)).collect())
    }

    /// The features of a model, in their order: the columns called like them; what is missing of these
    /// from the columns called like the `inputs` that take them.
    ///
    /// # Errors
    /// If one is in neither, or of another type.
    pub fn features(&self, fields: &[Field], inputs: &[TakenInput]) -> Result<RecordBatch> {
        let of = |field: &Field| -> Result<ArrayRef> {
            if let Some(column) = self.columns.column_by_name(field.name()) {
                return self.convert(column, field);
            }
            let takes = |input: &&TakenInput| input.features.contains(field.name());
            let input = inputs.iter().find(takes);
            let found =
                input.and_then(|input| Some((input, self.columns.column_by_name(&input.name)?)));
            let Some((input, column)) = found else {
                let name = field.name();
                let or = input
                    .map_or(String::new(), |it| format!(" nor one like its input {:?}", it.name));
                return Err(self.said(format!(
                    "it has no column called like the feature {name:?}{or}; it has {}",
                    self.names()
                )));
            };
            let columns = self.flat(&input.name, column)?;
            if columns.len() != input.features.len() {
                return Err(self.said(format!(
                    "its column {:?} has {} numbers a row; the model's input takes {}",
                    input.name,
                    columns.len(),
                    input.features.len()
                )));
            }
            let position = input.features.iter().position(|feature| feature == field.name());
            self.convert(&columns[position.unwrap_or_default()], field)
        };
        let columns = fields.iter().map(of).collect::<Result<Vec<_>>>()?;
        let fields =
            fields.iter().map(|field| field.clone().with_nullable(true)).collect::<Vec<_>>();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .with_context(|| self.path.display().to_string())
    }

    /// The columns that `names` says, or else all but those `expected`, as features.
    ///
    /// # Errors
    /// If one is not there, or of something else than numbers and text.
    pub fn own_features(
        &self,
        names: Option<&[String]>,
        expected: &[String],
    ) -> Result<OwnFeatures> {
        let is_feature = |name: &&String| !expected.contains(name) && !name.starts_with(INDEX);
        let all: Vec<String> =
            self.columns.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        let names = match names {
            Some(names) => names.to_vec(),
            None => all.iter().filter(is_feature).cloned().collect(),
        };
        let mut own = OwnFeatures { fields: Vec::new(), inputs: IndexMap::new() };
        for name in names {
            let column = self.columns.column_by_name(&name).ok_or_else(|| {
                self.said(format!("it has no column {name:?}; it has {}", self.names()))
            })?;
            if !is_list(column.data_type()) {
                own.fields.push(self.own_field(&name, column.data_type())?);
                continue;
            }
            let mut members = Vec::new();
            for (at, column) in self.flat(&name, column)?.iter().enumerate() {
                members.push(format!("{name}[{at}]"));
                own.fields.push(self.own_field(&members[at], column.data_type())?);
            }
            own.inputs.insert(name, members);
        }
        Ok(own)
    }

    fn own_field(&self, name: &str, stored: &DataType) -> Result<Field> {
        let to = match stored {
            stored if is_text(stored) => DataType::Utf8,
            stored if stored.is_integer() => DataType::Int64,
            stored if stored.is_numeric() || *stored == DataType::Boolean => DataType::Float64,
            other => {
                return Err(self.said(format!(
                    "its column {name:?} is {other}, neither numbers nor text; say with --features which columns the model takes"
                )));
            }
        };
        Ok(Field::new(name, to, true))
    }

    /// A column in the type of a feature.
    fn convert(&self, column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        let stored = column.data_type();
        let (fits, wanted) = match field.data_type() {
            DataType::Utf8 => (is_text(stored), "text"),
            DataType::Int64 => (stored.is_integer(), "integers"),
            _ => (stored.is_numeric() || *stored == DataType::Boolean, "numbers"),
        };
        let name = field.name();
        if !fits {
            return Err(
                self.said(format!("its column {name:?} is {stored}; it must be of {wanted}"))
            );
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, field.data_type(), &strict)
            .map_err(|error| self.said(format!("its column {name:?}: {error}")))
    }

    /// The columns of a column of lists that are all as long; of any other itself.
    fn flat(&self, name: &str, column: &ArrayRef) -> Result<Vec<ArrayRef>> {
        let Some(item) = item_of(column.data_type()) else { return Ok(vec![column.clone()]) };
        let to = DataType::List(item.clone());
        let lists = cast_with_options(column, &to, &CastOptions::default())
            .map_err(|error| self.said(format!("its column {name:?}: {error}")))?;
        let lists = lists.as_list::<i32>();
        let length = lists.value_length(0);
        let is_other = |row: &usize| lists.is_null(*row) || lists.value_length(*row) != length;
        if let Some(row) = (0..lists.len()).find(is_other) {
            return Err(self.said(format!(
                "the lists of its column {name:?} differ in length: {length} in row 0, {} in row {row}",
                if lists.is_null(row) { 0 } else { lists.value_length(row) }
            )));
        }
        let offsets = &lists.value_offsets()[..lists.len()];
        let member = |at: i32| {
            let places = offsets.iter().map(|offset| (offset + at) as u32);
            take(lists.values(), &UInt32Array::from_iter_values(places), None)
        };
        let members = (0..length).map(member).collect::<Result<Vec<ArrayRef>, ArrowError>>();
        members.with_context(|| self.path.display().to_string())
    }

    fn names(&self) -> String {
        let names = self.columns.schema_ref().fields().iter().map(|field| field.name().as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    fn said(&self, what: String) -> anyhow::Error {
        anyhow!("{}: {what}", self.path.display())
    }
}

fn item_of(stored: &DataType) -> Option<&Arc<Field>> {
    match stored {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item)
        }
        _ => None,
    }
}

fn is_list(stored: &DataType) -> bool {
    item_of(stored).is_some()
}

fn is_text(stored: &DataType) -> bool {
    match stored {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

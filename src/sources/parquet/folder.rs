//! The columns of a folder's files, taken together by name.
//!
//! Files of a folder are written on different days, by different versions of a program: what they
//! hold in a column of one name has one type here, [`unify`]. A file without rows says nothing, and a
//! column without a value takes the type that it has elsewhere. What does not go together is an
//! error only for who reads it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, new_empty_array,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::Result as Parquet;

use crate::config::job::JsonType;
use crate::sources::columns::{
    ColumnUse, ColumnUses, Normalised, check_time, declared_type, fits, normal_times, normal_type,
    normalise, time_type, with_declared_members,
};
use crate::sources::files::is_canonical_integer;
use crate::sources::parquet::footers::FileFooter;
use crate::sources::parquet::guard::guarded;
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::stream::Required;
use crate::sources::unify::{has_value, unify};
use crate::sources::{SourceError, failed};
use crate::text::without_prefixes;

/// Rows that are looked at a time for whether a column has a value.
const ROWS_LOOKED_AT: usize = 8_192;

/// Floats below it, 2^53, are the integers that they came from.
const EXACT_BOUND: f64 = 9_007_199_254_740_992.0;

/// What is wanted of the files of a folder, and in which form.
#[derive(Clone)]
pub struct FolderColumns {
    /// All columns, and of them those that are wanted.
    columns: Arc<[FolderColumn]>,
    wanted: Vec<usize>,
    schema: SchemaRef,
    uses: ColumnUses,
}

/// A column over all files.
struct FolderColumn {
    name: String,
    /// As what it is stored in a file.
    stored: Option<DataType>,
    data_type: DataType,
    /// Files in which it has another type and no value.
    empty_in: Vec<usize>,
    /// Files with rows that do not have it.
    missing_in: Vec<usize>,
    /// What is wrong with it, if it cannot be read.
    trouble: Option<Trouble>,
    note: Option<String>,
}

/// The file that something is wrong with, and what.
#[derive(Clone)]
struct Trouble {
    input: String,
    message: String,
}

impl Trouble {
    fn new(path: &Path, message: String) -> Self {
        Trouble { input: path.display().to_string(), message }
    }

    fn error(&self) -> SourceError {
        failed(&self.input, &self.message)
    }
}

/// What some files hold in a column, the same normal type.
struct Kind {
    normal: DataType,
    stored: DataType,
    files: Vec<usize>,
}

/// What all files hold in a column.
struct Findings<'a> {
    name: &'a str,
    column_use: &'a ColumnUse,
    time_unit: Option<TimeUnit>,
    files: &'a [FileFooter],
    kinds: Vec<Kind>,
    unsupported: Option<(usize, &'a str)>,
    /// What folders stand for, where the file has no such column.
    of_folders: Vec<(usize, Option<&'a str>)>,
    missing_in: Vec<usize>,
    is_nullable: bool,
}

impl FolderColumns {
    /// The columns of `files`, each for its use.
    ///
    /// # Errors
    /// If a column that is required is missing or cannot be read.
    pub fn new(
        files: &[FileFooter],
        uses: ColumnUses,
        required: &[Required],
    ) -> Result<Self, SourceError> {
        let with_rows: Vec<usize> = (0..files.len()).filter(|&at| files[at].rows() > 0).collect();
        let counted = if with_rows.is_empty() { (0..files.len()).collect() } else { with_rows };
        let columns = names(files, &counted).into_iter().enumerate().map(|(at, name)| {
            let column_use = uses.of(&name);
            let unit = uses.time_unit;
            let findings = Findings::new((at, &name), &column_use, unit, files, &counted);
            let mut column = FolderColumn::new(&findings);
            match with_declared_members(column.data_type.clone(), &name, &uses) {
                Ok(data_type) => column.data_type = data_type,
                Err(error) => {
                    let message = without_prefixes(&error.to_string());
                    column.trouble = Some(Trouble::new(&files[counted[0]].path, message));
                }
            }
            column
        });
        let columns: Vec<FolderColumn> = columns.collect();
        for Required { column, key } in required {
            let Some(found) = columns.iter().find(|found| found.name == *column) else { continue };
            if let Some(&missing) = found.missing_in.first() {
                let has = counted.iter().find(|at| !found.missing_in.contains(at));
                let has =
                    has.map_or(String::new(), |&at| format!(", which {} has", shown(&files[at])));
                let message = format!("it has no column {column:?} ({key}){has}");
                return Err(failed(shown(&files[missing]), message));
            }
            if let Some(trouble) = &found.trouble {
                let message = format!("{} ({key})", trouble.message);
                return Err(failed(&trouble.input, message));
            }
        }
        let fields = columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let wanted = (0..columns.len()).collect();
        Ok(FolderColumns { columns: columns.into(), wanted, schema, uses })
    }

    /// What is wanted, in the form that it is read in.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position of event time in the schema.
    ///
    /// # Errors
    /// If it is not wanted.
    pub fn time_column(&self) -> Result<usize, ArrowError> {
        self.schema.index_of(self.uses.time.as_deref().unwrap_or_default())
    }

    /// Wants only `columns`, by position in the schema.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn project(&mut self, columns: &[usize]) -> Result<(), SourceError> {
        let wanted: Vec<usize> = columns.iter().map(|&column| self.wanted[column]).collect();
        let troubles = wanted.iter().filter_map(|&column| self.columns[column].trouble.as_ref());
        if let Some(trouble) = troubles.into_iter().next() {
            return Err(trouble.error());
        }
        self.wanted = wanted;
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
        Ok(())
    }

    fn wanted(&self) -> impl Iterator<Item = &FolderColumn> {
        self.wanted.iter().map(|&column| &self.columns[column])
    }

    /// What a column is stored as.
    pub fn stored_type(&self, name: &str) -> Option<&DataType> {
        self.columns.iter().find(|column| column.name == name)?.stored.as_ref()
    }

    /// Of the wanted columns those that cannot be read, and what is wrong.
    pub fn unreadable(&self) -> impl Iterator<Item = (&str, SourceError)> {
        self.wanted().filter_map(|c| Some((c.name.as_str(), c.trouble.as_ref()?.error())))
    }

    /// What is to be said of the wanted columns.
    pub fn notes(&self) -> Vec<String> {
        self.wanted().filter_map(|column| column.note.clone()).collect()
    }

    /// What is to be said of each wanted column of which there is something to say.
    pub fn notes_by_column(&self) -> Vec<(String, String)> {
        self.wanted()
            .filter_map(|column| Some((column.name.clone(), column.note.clone()?)))
            .collect()
    }

    /// Positions of the wanted columns that a file has itself.
    pub fn in_file(&self, file: &FileFooter) -> impl Iterator<Item = usize> {
        let schema = file.metadata.schema();
        self.wanted().filter_map(|column| schema.index_of(&column.name).ok())
    }

    /// The wanted columns in their order and form, of rows that file number `at` holds.
    ///
    /// # Errors
    /// If a column cannot take the form of the schema.
    pub fn arrange(
        &self,
        batch: &RecordBatch,
        at: usize,
        file: &FileFooter,
    ) -> Result<Normalised, ArrowError> {
        let rows = batch.num_rows();
        let columns = self.wanted().map(|column| -> Result<ArrayRef, ArrowError> {
            let stored = batch.column_by_name(&column.name);
            let stored = match (stored, file.of_folders(&column.name)) {
                (Some(_), _) if column.empty_in.contains(&at) => return Ok(column.nulls(rows)),
                (Some(stored), _) => stored.clone(),
                (None, Some(value)) => of_folder(value, &column.data_type, rows)?,
                (None, None) => return Ok(column.nulls(rows)),
            };
            match (self.uses.of(&column.name), &column.data_type) {
                (ColumnUse::Time, to) => cast(&normal_times(&stored, self.uses.time_unit)?, to),
                _ => Ok(stored),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let fields = self.wanted().zip(&columns);
        // Nullability differs between files; it plays no part here.
        let fields =
            fields.map(|(c, stored)| Field::new(&c.name, stored.data_type().clone(), true));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arranged = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let mut normalised = normalise(arranged.columns(), rows, &self.schema, &self.uses)?;
        normalised.refused.extend(self.rounded(&arranged)?);
        normalised.refused.sort_by_key(|(row, _)| *row);
        normalised.refused.dedup_by_key(|(row, _)| *row);
        Ok(normalised)
    }

    /// Rows with an integer of a key that came as a float (as pandas has integers among which some
    /// are missing) and is so large that it may be another one, rounded.
    fn rounded(&self, arranged: &RecordBatch) -> Result<Vec<(usize, String)>, ArrowError> {
        let mut refused = Vec::new();
        for (field, column) in self.schema.fields().iter().zip(arranged.columns()) {
            if !field.data_type().is_integer() || !column.data_type().is_floating() {
                continue;
            }
            let floats = cast(column, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>().iter().enumerate();
            let large = floats.filter_map(|(row, value)| Some((row, value?)));
            let large = large.filter(|(_, value)| value.is_finite() && value.abs() >= EXACT_BOUND);
            refused.extend(large.map(|(row, value)| {
                let name = field.name();
                let message = format!(
                    "column {name:?} is {value} and came as a float, which from 2^53 on may be \
                     another integer: write the column as integers"
                );
                (row, message)
            }));
        }
        Ok(refused)
    }
}

fn shown(file: &FileFooter) -> String {
    file.path.display().to_string()
}

/// Names of the columns of all files in the order in which they come, those of folders last.
fn names(files: &[FileFooter], counted: &[usize]) -> Vec<String> {
    let own = counted.iter().flat_map(|&at| files[at].metadata.schema().fields().iter());
    let own = own.map(|field| field.name());
    let of_folders = counted.iter().flat_map(|&at| files[at].hive.iter().map(|(name, _)| name));
    let mut names: indexmap::IndexSet<&String> = indexmap::IndexSet::new();
    names.extend(own);
    names.extend(of_folders);
    names.into_iter().cloned().collect()
}

impl<'a> Findings<'a> {
    /// `name`: and where the column is in most files.
    fn new(
        (near, name): (usize, &'a str),
        column_use: &'a ColumnUse,
        time_unit: Option<TimeUnit>,
        files: &'a [FileFooter],
        counted: &[usize],
    ) -> Self {
        let mut found = Findings {
            name,
            column_use,
            time_unit,
            files,
            kinds: Vec::new(),
            unsupported: None,
            of_folders: Vec::new(),
            missing_in: Vec::new(),
            is_nullable: false,
        };
        for &at in counted {
            match (files[at].own(name, near), files[at].of_folders(name)) {
                (Some(Ok(field)), _) => found.add(at, field),
                (Some(Err(data_type)), _) => {
                    found.unsupported.get_or_insert((at, data_type));
                }
                (None, Some(value)) => found.of_folders.push((at, value)),
                (None, None) => found.missing_in.push(at),
            }
        }
        found
    }

    fn add(&mut self, file: usize, field: &Field) {
        self.is_nullable |= field.is_nullable();
        let stored = field.data_type().clone();
        let normal = self.normal(&stored);
        // Types that are declared the same may not all be what is declared.
        let is_declared = matches!(self.column_use, ColumnUse::Declared(_));
        let same =
            |kind: &&mut Kind| kind.normal == normal && (!is_declared || kind.stored == stored);
        match self.kinds.iter_mut().find(same) {
            Some(kind) => kind.files.push(file),
            None => self.kinds.push(Kind { normal, stored, files: vec![file] }),
        }
    }

    fn normal(&self, stored: &DataType) -> DataType {
        if *stored == DataType::Null {
            return DataType::Null;
        }
        match self.column_use {
            ColumnUse::Time => {
                let times = normal_times(&new_empty_array(stored), self.time_unit);
                times.map_or_else(|_| stored.clone(), |times| times.data_type().clone())
            }
            column_use => normal_type(stored, column_use),
        }
    }

    /// The type of the files' own columns; with it the files where it has another type and no value.
    fn own_type(&self) -> Result<(Option<DataType>, Vec<usize>), Trouble> {
        match self.together(&self.kinds.iter().collect::<Vec<_>>()) {
            Ok(data_type) => return Ok((data_type, Vec::new())),
            Err(_) if self.kinds.is_empty() => return Ok((None, Vec::new())),
            Err(_) => {}
        }
        let (full, empty): (Vec<&Kind>, Vec<&Kind>) =
            self.kinds.iter().partition(|kind| self.has_values(kind));
        if full.is_empty() {
            return Ok((Some(self.kinds[0].normal.clone()), self.all_but_first()));
        }
        let data_type = self.together(&full)?;
        Ok((data_type, empty.iter().flat_map(|kind| kind.files.clone()).collect()))
    }

    fn all_but_first(&self) -> Vec<usize> {
        self.kinds[1..].iter().flat_map(|kind| kind.files.clone()).collect()
    }

    /// The type that `kinds` have together; `None` of none.
    fn together(&self, kinds: &[&Kind]) -> Result<Option<DataType>, Trouble> {
        let mut whole: Option<DataType> = None;
        for (at, kind) in kinds.iter().enumerate() {
            if *self.column_use == ColumnUse::Time
                && let Err(error) = check_time(&kind.stored, self.time_unit)
                && kind.normal != DataType::Null
            {
                let reason = without_prefixes(&error.to_string());
                let message = format!("column {:?}: {reason}", self.name);
                return Err(Trouble::new(&self.files[kind.files[0]].path, message));
            }
            if let ColumnUse::Declared(declared) = self.column_use
                && !fits(&kind.stored, *declared)
            {
                return Err(self.not_as_declared(kind, *declared));
            }
            whole = match whole {
                None => Some(kind.normal.clone()),
                Some(before) => match unify(&before, &kind.normal, self.column_use) {
                    Some(both) => Some(both),
                    None => return Err(self.conflict(&kinds[..at], kind)),
                },
            };
        }
        Ok(whole)
    }

    fn conflict(&self, before: &[&Kind], kind: &Kind) -> Trouble {
        let differs =
            |other: &&&Kind| unify(&other.normal, &kind.normal, self.column_use).is_none();
        let other = before.iter().find(differs).unwrap_or(&before[0]);
        let (file, first) = (&self.files[kind.files[0]], &self.files[other.files[0]]);
        let (name, stored, first_stored) = (self.name, &kind.stored, &other.stored);
        let message = format!(
            "column {name:?} is {stored}, and {first_stored} in {}: write it as one type in all files",
            shown(first)
        );
        Trouble::new(&file.path, message)
    }

    fn not_as_declared(&self, kind: &Kind, declared: JsonType) -> Trouble {
        let (name, stored, declared) = (self.name, &kind.stored, declared_type(declared));
        let message = format!("column {name:?} is declared {declared} and is {stored} in the file");
        Trouble::new(&self.files[kind.files[0]].path, message)
    }

    /// Whether one of its files has a value in the column. What cannot be read is taken to have one.
    fn has_values(&self, kind: &Kind) -> bool {
        kind.normal != DataType::Null
            && kind.files.iter().any(|&at| holds_value(&self.files[at], self.name).unwrap_or(true))
    }

    /// The type of the column with what folders stand for.
    fn with_folders(&self, own: Option<DataType>) -> Result<DataType, Trouble> {
        let Some((first, _)) = self.of_folders.first() else {
            return Ok(self.type_of_nulls(own));
        };
        let of_folders = self.normal(&self.type_of_folders());
        let to = match own {
            Some(own) if own != DataType::Null => own,
            _ => of_folders.clone(),
        };
        let unfit = self.of_folders.iter().find(|(_, value)| {
            let column = of_folder(*value, &to, 1).and_then(|column| match self.column_use {
                ColumnUse::Time => normal_times(&column, self.time_unit),
                _ => cast(&column, &to),
            });
            value.is_some() && !column.is_ok_and(|column| column.null_count() == 0)
        });
        let Some((at, value)) = unfit else { return Ok(to) };
        let (name, value) = (self.name, value.unwrap_or_default());
        let why = match (self.column_use, self.kinds.first()) {
            (ColumnUse::Declared(declared), _) => {
                format!("it is declared {}", declared_type(*declared))
            }
            (_, Some(kind)) => {
                format!("it is {} in {}", kind.stored, shown(&self.files[kind.files[0]]))
            }
            (_, None) => format!("it is {to} in {}", shown(&self.files[*first])),
        };
        let message = format!("column {name:?} of its folder is {value:?}, and {why}");
        Err(Trouble::new(&self.files[*at].path, message))
    }

    /// A column without any value has the type that its use gives it.
    fn type_of_nulls(&self, own: Option<DataType>) -> DataType {
        match own {
            Some(own) if own != DataType::Null => own,
            _ => match self.column_use {
                ColumnUse::Time => time_type(),
                column_use => normal_type(&DataType::Null, column_use),
            },
        }
    }

    /// Integers if each value is written as integers are, else text.
    fn type_of_folders(&self) -> DataType {
        let mut values = self.of_folders.iter().filter_map(|(_, value)| *value).peekable();
        let has_values = values.peek().is_some();
        if has_values && values.all(is_canonical_integer) {
            DataType::Int64
        } else {
            DataType::Utf8
        }
    }

    fn required_but_missing(&self) -> Option<Trouble> {
        let missing = self.missing_in.first().filter(|_| !self.is_nullable)?;
        let kind = self.kinds.first()?;
        let (name, has) = (self.name, shown(&self.files[kind.files[0]]));
        let message = format!("it has no column {name:?}, which {has} has and requires (not null)");
        Some(Trouble::new(&self.files[*missing].path, message))
    }

    fn unsupported(&self) -> Option<Trouble> {
        let (at, data_type) = self.unsupported?;
        let message = format!(
            "column {:?} is of the type {data_type}, which is not supported: cast it to another \
             before it is written",
            self.name
        );
        Some(Trouble::new(&self.files[at].path, message))
    }

    /// What the column is stored as; where files differ the first integers among them, which may be
    /// of any unit where they are times.
    fn stored(&self) -> Option<DataType> {
        let integers = self.kinds.iter().find(|kind| kind.stored.is_integer());
        integers.or(self.kinds.first()).map(|kind| kind.stored.clone())
    }

    fn note(&self) -> Option<String> {
        let (first, others) = self.missing_in.split_first()?;
        let (name, first) = (self.name, shown(&self.files[*first]));
        let files = match others.len() {
            0 => first,
            1 => format!("{first} and 1 more file"),
            more => format!("{first} and {more} more files"),
        };
        let has = if others.is_empty() { "has" } else { "have" };
        Some(format!("column {name:?} is null in {files}, which {has} no such column"))
    }
}

impl FolderColumn {
    fn new(found: &Findings) -> Self {
        let own = match found.unsupported() {
            Some(trouble) => Err(trouble),
            None => found.own_type(),
        };
        let typed = own.and_then(|(own, empty)| Ok((found.with_folders(own)?, empty)));
        let (data_type, empty_in, trouble) = match typed {
            Ok((data_type, empty_in)) => (data_type, empty_in, found.required_but_missing()),
            // Whatever is compiled with it first, it is the trouble that is told.
            Err(trouble) => (found.type_of_nulls(None), Vec::new(), Some(trouble)),
        };
        FolderColumn {
            name: found.name.to_owned(),
            stored: found.stored(),
            data_type,
            empty_in,
            missing_in: found.missing_in.clone(),
            trouble,
            note: found.note(),
        }
    }
}

impl FolderColumn {
    fn nulls(&self, rows: usize) -> ArrayRef {
        new_null_array(&self.data_type, rows)
    }
}

/// What a folder stands for, `[rows]`, in a type that [`normalise`] takes to `to`.
fn of_folder(value: Option<&str>, to: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let Some(value) = value else { return Ok(new_null_array(to, rows)) };
    let text = || StringArray::from_iter_values(std::iter::repeat_n(value, rows));
    Ok(match to {
        DataType::Utf8 => Arc::new(text()),
        DataType::Timestamp(..) if !is_canonical_integer(value) => Arc::new(text()),
        _ if is_canonical_integer(value) => Arc::new(Int64Array::from_iter_values(
            std::iter::repeat_n(value.parse::<i64>().unwrap_or_default(), rows),
        )),
        _ => cast(&text(), to)?,
    })
}

/// Whether a file has a value in a column: statistics tell, or else its rows.
fn holds_value(file: &FileFooter, name: &str) -> Parquet<bool> {
    if let Some(known) = told_by_statistics(file, name) {
        return Ok(known);
    }
    guarded(|| {
        let metadata = &file.metadata;
        let root = metadata.schema().index_of(name)?;
        let columns = metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(columns, [root]);
        let handle = WholeFile(File::open(&file.path)?);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, metadata.clone());
        let reader = reader.with_projection(mask).with_batch_size(ROWS_LOOKED_AT).build()?;
        for batch in reader {
            if has_value(batch?.column(0)) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Nulls that are counted are no values; a lowest value is one.
fn told_by_statistics(file: &FileFooter, name: &str) -> Option<bool> {
    let metadata = file.metadata.metadata();
    let columns = metadata.file_metadata().schema_descr();
    let leaf =
        (0..columns.num_columns()).find(|&leaf| columns.column(leaf).path().parts() == [name])?;
    let groups = metadata.row_groups().iter().filter(|group| group.num_rows() > 0);
    let chunks = groups.map(|group| (group.num_rows(), group.column(leaf).statistics()));
    let mut all_null = true;
    for (rows, statistics) in chunks {
        let statistics = statistics?;
        if statistics.min_bytes_opt().is_some() {
            return Some(true);
        }
        all_null &= statistics.null_count_opt() == u64::try_from(rows).ok();
    }
    all_null.then_some(false)
}

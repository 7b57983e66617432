//! From a chunk of a table as it was read to rows of versions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, filter_record_batch, or};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::admit::{Admitted, END_OF_TIME, event_times};
use crate::chunk::Chunk;
use crate::dead_letter::DeadLetters;
use crate::features::sql::Expression;
use crate::key_group::as_key_of;
use crate::partition_names::PartitionNames;

/// Columns of a batch of versions, by position; the values come after them.
pub const KEY: usize = 0;
/// `valid_from`, Int64 ms.
pub const TIME: usize = 1;
/// The table's own sequence or the epoch, Int64.
pub const SEQUENCE: usize = 2;
/// Whether the version says that the key has no values from then on, Boolean.
pub const DELETED: usize = 3;
pub const PARTITION: usize = 4;
pub const OFFSET: usize = 5;
pub const VALUES: usize = 6;

/// What the graph knows of an as-of table.
#[derive(Clone, Debug)]
pub struct AsOfTable {
    pub name: String,
    /// Utf8, Int64 or UInt64.
    pub key_type: DataType,
    /// Of Int64 where the job declares it; other numbers are Float64.
    pub values: Vec<Field>,
    /// A version older than this is not found.
    pub max_age_ms: Option<i64>,
    /// Events do not wait for the table.
    pub eager: bool,
}

impl AsOfTable {
    /// The columns of a batch of versions.
    pub fn schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new("key", self.key_type.clone(), true),
            Field::new("time", DataType::Int64, false),
            Field::new("sequence", DataType::Int64, false),
            Field::new("deleted", DataType::Boolean, false),
            Field::new("partition", DataType::UInt32, false),
            Field::new("offset", DataType::UInt64, false),
        ];
        fields.extend(self.values.iter().cloned());
        Arc::new(Schema::new(fields))
    }
}

/// The rules by which rows of a table become versions; columns are positions in its chunks.
pub struct TableAdmission {
    pub table: AsOfTable,
    pub key: usize,
    pub time: usize,
    pub sequence: Option<usize>,
    /// True for rows that delete their key.
    pub delete: Option<Expression>,
    /// The columns of `table.values`.
    pub values: Vec<usize>,
    pub allowed_lateness_ms: i64,
    pub partition_names: PartitionNames,
    pub counters: Counters,
}

impl TableAdmission {
    /// Admits a chunk of the table. Rows that cannot be versions are dead letters.
    ///
    /// # Errors
    /// If a column is not of its type, or `delete` fails.
    pub fn admit(&self, chunk: &Chunk) -> Result<Admitted, ArrowError> {
        let rows = chunk.rows.num_rows();
        let column = |at: usize| chunk.rows.column(at);
        let times = event_times(column(self.time))?;
        let keys = as_key_of(column(self.key), &self.table.key_type)?;
        let sequences = self.sequences(chunk)?;
        let is_unfit = |row| self.sequence.is_some_and(|at| column(at).is_valid(row));
        let fault = |row: usize| match times.is_valid(row).then(|| times.value(row)) {
            None => Some("without its time"),
            Some(END_OF_TIME) => Some("that holds from the end of time on"),
            Some(_) if keys.is_null(row) => Some("without its key"),
            Some(_) if sequences.is_null(row) && is_unfit(row) => {
                Some("whose sequence is beyond 9223372036854775807")
            }
            Some(_) => None,
        };
        let faults: Vec<Option<&str>> = (0..rows).map(fault).collect();
        let dead_letters = self.dead_letters(chunk, &faults)?;
        let mut columns: Vec<ArrayRef> = vec![
            keys,
            Arc::new(Int64Array::new(times.values().clone(), None)),
            Arc::new(sequences.iter().map(|n| Some(n.unwrap_or(i64::MIN))).collect::<Int64Array>()),
            self.deleted(chunk)?,
            Arc::new(UInt32Array::from_value(chunk.partition, rows)),
            Arc::new(chunk.offsets.clone()),
        ];
        for (&at, field) in self.values.iter().zip(&self.table.values) {
            // A key or a sequence is an integer in its chunk, and a number as a value.
            columns.push(match column(at).data_type() == field.data_type() {
                true => column(at).clone(),
                false => cast(column(at), field.data_type())?,
            });
        }
        let versions = RecordBatch::try_new(self.table.schema(), columns)?;
        let versions = if faults.iter().all(Option::is_none) {
            versions
        } else {
            let sound = faults.iter().map(|fault| Some(fault.is_none()));
            filter_record_batch(&versions, &sound.collect::<BooleanArray>())?
        };
        let (late, highest) = late_rows(&times, chunk.highest_before, self.allowed_lateness_ms);
        let letters = dead_letters.num_rows() as u64;
        self.counters.table_rows_read(&self.table.name, rows as u64, late);
        // A record that ends as a dead letter is in the account, wherever it came from.
        self.counters.rows_read(letters);
        Ok(Admitted { rows: versions, dead_letters, marks: chunk.marks(highest) })
    }

    /// Null where there is none, or it does not fit.
    fn sequences(&self, chunk: &Chunk) -> Result<Int64Array, ArrowError> {
        let Some(sequence) = self.sequence else {
            return Ok(Int64Array::from_value(chunk.epoch as i64, chunk.rows.num_rows()));
        };
        let column = cast(chunk.rows.column(sequence), &DataType::Int64)?;
        Ok(column.as_primitive::<Int64Type>().clone())
    }

    fn deleted(&self, chunk: &Chunk) -> Result<ArrayRef, ArrowError> {
        let rows = chunk.rows.num_rows();
        let by_predicate = match &self.delete {
            Some(delete) => {
                let deleted = delete.evaluate(chunk.rows.columns(), rows)?;
                let deleted = deleted.as_boolean();
                deleted.iter().map(|deleted| Some(deleted == Some(true))).collect()
            }
            None => BooleanArray::from(vec![false; rows]),
        };
        Ok(Arc::new(match &chunk.deleted {
            Some(deleted) => or(&by_predicate, deleted)?,
            None => by_predicate,
        }))
    }

    fn dead_letters(
        &self,
        chunk: &Chunk,
        faults: &[Option<&str>],
    ) -> Result<RecordBatch, ArrowError> {
        let mut letters = DeadLetters::new(self.partition_names.clone());
        for record in &chunk.undecoded {
            letters.undecoded(chunk.partition, record);
        }
        for (row, fault) in faults.iter().enumerate() {
            let Some(fault) = fault else { continue };
            let detail = format!("a row of table {:?} {fault}", self.table.name);
            letters.table_row(chunk, &detail, row)?;
        }
        Ok(letters.finish())
    }
}

/// How many rows come behind the watermark of their partition, and its highest time after them.
fn late_rows(times: &Int64Array, highest_before: i64, allowed_lateness_ms: i64) -> (u64, i64) {
    let (mut late, mut highest) = (0, highest_before);
    for time in times.iter().flatten().filter(|&time| time != END_OF_TIME) {
        late += u64::from(time < highest.saturating_sub(allowed_lateness_ms));
        highest = highest.max(time);
    }
    (late, highest)
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;
    use arrow::datatypes::UInt64Type;

    use super::*;

    #[test]
    fn late_rows_are_told_by_those_before_them() {
        let times = Int64Array::from(vec![Some(5), Some(9), None, Some(3), Some(20), Some(11)]);
        assert_eq!(late_rows(&times, 6, 5), (2, 20));
        assert_eq!(late_rows(&times.slice(3, 1), 9, 6), (0, 9));
        assert_eq!(late_rows(&Int64Array::from(vec![4, END_OF_TIME]), i64::MIN, 0), (0, 4));
    }

    #[test]
    fn rows_that_cannot_be_versions_are_dead_letters_that_say_why() {
        let table = AsOfTable {
            name: "t".to_owned(),
            key_type: DataType::Int64,
            values: Vec::new(),
            max_age_ms: None,
            eager: false,
        };
        let admission = TableAdmission {
            table,
            key: 0,
            time: 1,
            sequence: Some(2),
            delete: None,
            values: Vec::new(),
            allowed_lateness_ms: 0,
            partition_names: ["p".to_owned()].into(),
            counters: Counters::default(),
        };
        let beyond = i64::MAX as u64 + 1;
        let keys = Int64Array::from(vec![Some(1), Some(1), None, Some(1), Some(1), Some(1)]);
        let times = [Some(5), Some(i64::MAX), Some(6), None, Some(7), Some(8)];
        let sequences = [None, Some(1), Some(2), Some(3), Some(beyond), Some(beyond - 1)];
        let columns: [(&str, ArrayRef); 3] = [
            ("key", Arc::new(keys)),
            ("time", Arc::new(Int64Array::from(times.to_vec()))),
            ("sequence", Arc::new(UInt64Array::from(sequences.to_vec()))),
        ];
        let chunk = Chunk {
            epoch: 1,
            stream: 1,
            partition: 0,
            rows: RecordBatch::try_from_iter(columns).unwrap(),
            offsets: UInt64Array::from_iter_values(0..6),
            raw: None,
            envelopes: None,
            deleted: None,
            undecoded: Vec::new(),
            highest_before: i64::MIN,
            finished: Vec::new(),
            idle: Vec::new(),
            was_idle: false,
            joined: false,
        };
        let Admitted { rows, dead_letters, .. } = admission.admit(&chunk).unwrap();
        let sequences = rows.column(SEQUENCE).as_primitive::<Int64Type>();
        assert_eq!(sequences.values(), &[i64::MIN, i64::MAX]);
        let offsets = dead_letters.column_by_name("offset").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(offsets.values(), &[1, 2, 3, 4]);
        let details = dead_letters.column_by_name("detail").unwrap().as_string::<i32>();
        let wanted =
            ["end of time", "without its key", "without its time", "beyond 92233720368547"];
        for (detail, wanted) in details.iter().flatten().zip(wanted) {
            assert!(detail.contains(wanted), "{detail}");
        }
    }
}

//! From a chunk of a table as it was read to rows of versions.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::compute::{cast, filter_record_batch, or};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::sequence::{Sequences, has_low, sequences};
use crate::accounting::Counters;
use crate::admit::{Admitted, END_OF_TIME};
use crate::chunk::Chunk;
use crate::dead_letter::DeadLetters;
use crate::features::sql::Expression;
use crate::fine_time::{FineTimes, fine_times, is_fine};
use crate::key_group::as_key_of;
use crate::partition_names::PartitionNames;

/// Columns of a batch of versions, by position; the values come after them, and behind these what is
/// beyond the whole numbers of time and sequence, where there may be such ([`pack`]).
pub const KEY: usize = 0;
/// `valid_from`, Int64 ms.
pub const TIME: usize = 1;
/// The high part of the table's own sequence, or the epoch, or 0, Int64.
pub const SEQUENCE: usize = 2;
/// Whether the version says that the key has no values from then on, Boolean.
pub const DELETED: usize = 3;
pub const PARTITION: usize = 4;
pub const OFFSET: usize = 5;
pub const VALUES: usize = 6;

/// The ns within the ms of a `valid_from`, and the low part of a sequence.
pub fn pack(ns: u32, low: u32) -> u64 {
    u64::from(ns) << 32 | u64::from(low)
}

/// The parts of [`pack`].
pub fn unpack(fine: u64) -> (u32, u32) {
    ((fine >> 32) as u32, fine as u32)
}

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
    /// Times may be finer than ms, or sequences than their high part.
    pub fine: bool,
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
        fields.extend(self.fine.then(|| Field::new("fine", DataType::UInt64, false)));
        Arc::new(Schema::new(fields))
    }

    /// The position of the column of [`pack`] in that schema.
    pub fn fine_column(&self) -> Option<usize> {
        self.fine.then_some(VALUES + self.values.len())
    }

    /// Whether a table whose times and sequences are of these types is `fine`.
    pub fn is_fine(time: &DataType, sequence: Option<&DataType>) -> bool {
        is_fine(time) || sequence.is_some_and(has_low)
    }
}

/// The rules by which rows of a table become versions; columns are positions in its chunks.
pub struct TableAdmission {
    pub table: AsOfTable,
    /// That of `table`.
    pub schema: SchemaRef,
    pub key: usize,
    pub time: usize,
    pub sequence: Option<usize>,
    /// True for rows that delete their key.
    pub delete: Option<Expression>,
    /// The columns of `table.values`.
    pub values: Vec<usize>,
    /// Of rows of equal key and time that have no sequence of their own the one that came in the later
    /// epoch counts: that of topics, whose partitions have no order. Of files the later row counts,
    /// however they are cut into epochs.
    pub by_epoch: bool,
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
        let times = fine_times(column(self.time))?;
        let keys = as_key_of(column(self.key), &self.table.key_type)?;
        let Sequences { high, low } = self.sequences(chunk)?;
        let is_unfit =
            |row| self.sequence.filter(|&at| high.is_null(row) && column(at).is_valid(row));
        let fault = |row: usize| -> Result<Option<Cow<str>>, ArrowError> {
            Ok(match times.ms.is_valid(row).then(|| times.ms.value(row)) {
                None => Some("without its time".into()),
                Some(END_OF_TIME) => Some("that holds from the end of time on".into()),
                Some(_) if keys.is_null(row) => Some("without its key".into()),
                Some(_) => match is_unfit(row) {
                    Some(at) => Some(unfit_sequence(column(at), row)?.into()),
                    None => None,
                },
            })
        };
        let faults = (0..rows).map(fault).collect::<Result<Vec<_>, _>>()?;
        let dead_letters = self.dead_letters(chunk, &faults)?;
        let high_or_first = high.iter().map(|high| Some(high.unwrap_or(i64::MIN)));
        let mut columns: Vec<ArrayRef> = vec![
            keys,
            Arc::new(Int64Array::new(times.ms.values().clone(), None)),
            Arc::new(high_or_first.collect::<Int64Array>()),
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
        columns.extend(self.table.fine.then(|| fine_column(&times, low.as_ref())));
        let versions = RecordBatch::try_new(self.schema.clone(), columns)?;
        let versions = if faults.iter().all(Option::is_none) {
            versions
        } else {
            let sound = faults.iter().map(|fault| Some(fault.is_none()));
            filter_record_batch(&versions, &sound.collect::<BooleanArray>())?
        };
        let Late { rows: late, behind_ms, highest } =
            late_rows(&times.ms, chunk.highest_before, self.allowed_lateness_ms);
        let letters = dead_letters.num_rows() as u64;
        self.counters.table_rows_read(&self.table.name, rows as u64, late, behind_ms);
        // A record that ends as a dead letter is in the account, wherever it came from.
        self.counters.rows_read(letters);
        Ok(Admitted { rows: versions, dead_letters, marks: chunk.marks(highest, None) })
    }

    /// The high part is null where there is none, or the value is none.
    fn sequences(&self, chunk: &Chunk) -> Result<Sequences, ArrowError> {
        if let Some(at) = self.sequence {
            return sequences(chunk.rows.column(at));
        }
        let high = if self.by_epoch { chunk.epoch as i64 } else { 0 };
        Ok(Sequences { high: Int64Array::from_value(high, chunk.rows.num_rows()), low: None })
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
        faults: &[Option<Cow<str>>],
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

/// What of times and sequences is beyond their whole numbers, `[rows]`.
fn fine_column(times: &FineTimes, low: Option<&UInt32Array>) -> ArrayRef {
    let of =
        |column: Option<&UInt32Array>, row: usize| column.map_or(0, |column| column.value(row));
    let fine = (0..times.ms.len()).map(|row| pack(of(times.ns.as_ref(), row), of(low, row)));
    Arc::new(UInt64Array::from_iter_values(fine))
}

fn unfit_sequence(column: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let value = arrow::util::display::array_value_to_string(column, row)?;
    Ok(format!("whose sequence {value:?} is no time (RFC 3339) within reach"))
}

/// The rows of a chunk that come behind the watermark of their partition.
#[derive(Debug, PartialEq, Eq)]
struct Late {
    rows: u64,
    /// How far (ms) the last of them in time is behind the highest time before it: the lateness that
    /// would have them all in time.
    behind_ms: i64,
    /// The highest time (ms) of the partition after the chunk.
    highest: i64,
}

fn late_rows(times: &Int64Array, highest_before: i64, allowed_lateness_ms: i64) -> Late {
    let (mut rows, mut behind_ms, mut highest) = (0, 0, highest_before);
    for time in times.iter().flatten().filter(|&time| time != END_OF_TIME) {
        if time < highest.saturating_sub(allowed_lateness_ms) {
            rows += 1;
            behind_ms = behind_ms.max(highest.saturating_sub(time));
        }
        highest = highest.max(time);
    }
    Late { rows, behind_ms, highest }
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Int64Type, TimeUnit, UInt64Type};

    use super::*;

    #[test]
    fn late_rows_are_told_by_those_before_them() {
        let times = Int64Array::from(vec![Some(5), Some(9), None, Some(3), Some(20), Some(11)]);
        let late = |rows, behind_ms, highest| Late { rows, behind_ms, highest };
        assert_eq!(late_rows(&times, 6, 5), late(2, 9, 20));
        assert_eq!(late_rows(&times.slice(3, 1), 9, 6), late(0, 0, 9));
        let end = Int64Array::from(vec![4, END_OF_TIME]);
        assert_eq!(late_rows(&end, i64::MIN, 0), late(0, 0, 4));
    }

    fn admission(time: &DataType, sequence: Option<&DataType>) -> TableAdmission {
        let table = AsOfTable {
            name: "t".to_owned(),
            key_type: DataType::Int64,
            values: Vec::new(),
            max_age_ms: None,
            eager: false,
            fine: AsOfTable::is_fine(time, sequence),
        };
        TableAdmission {
            schema: table.schema(),
            table,
            key: 0,
            time: 1,
            sequence: sequence.map(|_| 2),
            delete: None,
            values: Vec::new(),
            by_epoch: false,
            allowed_lateness_ms: 0,
            partition_names: ["p".to_owned()].into(),
            counters: Counters::default(),
        }
    }

    fn chunk(columns: Vec<(&str, ArrayRef)>) -> Chunk {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let offsets = UInt64Array::from_iter_values(0..rows.num_rows() as u64);
        Chunk::new(7, 1, 0, rows, offsets)
    }

    fn details(dead_letters: &RecordBatch) -> Vec<&str> {
        let details = dead_letters.column_by_name("detail").unwrap().as_string::<i32>();
        details.iter().flatten().collect()
    }

    #[test]
    fn rows_that_cannot_be_versions_are_dead_letters_that_say_why() {
        let admission = admission(&DataType::Int64, Some(&DataType::UInt64));
        let beyond = i64::MAX as u64 + 1;
        let keys = Int64Array::from(vec![Some(1), Some(1), None, Some(1), Some(1), Some(1)]);
        let times = [Some(5), Some(i64::MAX), Some(6), None, Some(7), Some(8)];
        let sequences = [None, Some(1), Some(2), Some(3), Some(beyond), Some(beyond - 1)];
        let chunk = chunk(vec![
            ("key", Arc::new(keys)),
            ("time", Arc::new(Int64Array::from(times.to_vec()))),
            ("sequence", Arc::new(UInt64Array::from(sequences.to_vec()))),
        ]);
        let Admitted { rows, dead_letters, .. } = admission.admit(&chunk).unwrap();
        let high = rows.column(SEQUENCE).as_primitive::<Int64Type>();
        assert_eq!(high.values(), &[i64::MIN, 1 << 62, (1 << 62) - 1]);
        let fine = rows.column(VALUES).as_primitive::<UInt64Type>();
        assert_eq!(fine.values(), &[0, 1, 2]);
        let offsets = dead_letters.column_by_name("offset").unwrap().as_primitive::<UInt64Type>();
        assert_eq!(offsets.values(), &[1, 2, 3]);
        let wanted = ["end of time", "without its key", "without its time"];
        for (detail, wanted) in details(&dead_letters).into_iter().zip(wanted) {
            assert!(detail.contains(wanted), "{detail}");
        }
    }

    #[test]
    fn a_sequence_of_text_that_is_no_time_is_said_with_its_value() {
        let admission = admission(&DataType::Int64, Some(&DataType::Utf8));
        let sequences = [Some("2022-11-23T10:00:00.000000002Z"), None, Some("v 12")];
        let chunk = chunk(vec![
            ("key", Arc::new(Int64Array::from(vec![1, 1, 1]))),
            ("time", Arc::new(Int64Array::from(vec![5, 5, 5]))),
            ("sequence", Arc::new(StringArray::from(sequences.to_vec()))),
        ]);
        let Admitted { rows, dead_letters, .. } = admission.admit(&chunk).unwrap();
        let high = rows.column(SEQUENCE).as_primitive::<Int64Type>();
        assert_eq!(high.values(), &[1_669_197_600_000, i64::MIN]);
        let fine = rows.column(VALUES).as_primitive::<UInt64Type>();
        assert_eq!(fine.values(), &[pack(0, 3), 0]);
        let said = details(&dead_letters);
        assert!(said.len() == 1 && said[0].contains("sequence \"v 12\" is no time"), "{said:?}");
    }

    #[test]
    fn times_keep_what_is_beyond_their_ms() {
        let micro = DataType::Timestamp(TimeUnit::Microsecond, None);
        let admission = admission(&micro, None);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(Int64Array::from(vec![1, 1]))),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![-1, 5_600]))),
        ];
        let rows = admission.admit(&chunk(columns.clone())).unwrap().rows;
        assert_eq!(rows.column(TIME).as_primitive::<Int64Type>().values(), &[-1, 5]);
        let fine = rows.column(VALUES).as_primitive::<UInt64Type>();
        assert_eq!(fine.values(), &[pack(999_000, 0), pack(600_000, 0)]);
        assert_eq!(unpack(fine.value(1)), (600_000, 0));
        // Of equal time the later row counts, or, of topics, the one of the later epoch.
        assert_eq!(rows.column(SEQUENCE).as_primitive::<Int64Type>().values(), &[0, 0]);
        let by_epoch = TableAdmission { by_epoch: true, ..admission };
        let rows = by_epoch.admit(&chunk(columns)).unwrap().rows;
        assert_eq!(rows.column(SEQUENCE).as_primitive::<Int64Type>().values(), &[7, 7]);
    }
}

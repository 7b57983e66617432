//! Where things stand in a batch of events.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type};

use crate::beside::BESIDE;
use crate::fine_time::is_fine;
use crate::sort::OrderColumns;

/// Event time in milliseconds since 1970-01-01T00:00:00Z, Int64.
pub const TIME: &str = "__time";
/// Whether the row came later than the allowed lateness, Boolean.
pub const LATE: &str = "__late";
/// The number of the partition (file, topic partition) the row came from, UInt32.
pub const PARTITION: &str = "__partition";
/// The position of the row in its partition, UInt64.
pub const OFFSET: &str = "__offset";
/// When the row was read, in µs of the run's clock, Int64.
pub const READ_AT: &str = "__read_at";
/// The bytes the event came as, views ([`crate::beside`]); absent where events come as columns.
pub const RAW: &str = "__raw";
/// What came around those bytes (key, headers, time of a message), views, for sinks; absent where
/// events are no messages.
pub const ENVELOPE: &str = "__envelope";

/// What events come as, beside their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameAs {
    Columns,
    Bytes,
    Messages,
}

impl CameAs {
    /// Whether they come as bytes, in messages or not.
    pub fn is_bytes(self) -> bool {
        self != CameAs::Columns
    }
}

/// What the names of columns begin with that are for operators and sinks, and not published. They
/// come last in predictions. No job may name them.
pub const INTERNAL: &str = "__";

fn published_columns(schema: &Schema) -> usize {
    schema.fields().iter().take_while(|field| !field.name().starts_with(INTERNAL)).count()
}

/// The columns that are published: all but the internal ones at the end.
pub fn published_schema(schema: &SchemaRef) -> SchemaRef {
    Published::default().schema_of(schema)
}

/// What is published of batches, worked out anew only where their schema is another: one for each
/// sink.
#[derive(Default)]
pub struct Published {
    /// The names of columns that nobody wants.
    left_out: Arc<[String]>,
    last: Option<Projection>,
}

/// What of a schema is published.
struct Projection {
    whole: SchemaRef,
    published: SchemaRef,
    /// Positions in the whole.
    columns: Vec<usize>,
}

impl Published {
    /// All that is published but some columns, by name.
    pub fn without(left_out: Arc<[String]>) -> Self {
        Published { left_out, last: None }
    }

    /// The columns of a schema that are published.
    pub fn schema_of(&self, schema: &SchemaRef) -> SchemaRef {
        self.projection(schema).published
    }

    /// The columns of a batch that are published.
    pub fn of(&mut self, batch: &RecordBatch) -> RecordBatch {
        let projection = match self.last.take() {
            Some(last) if Arc::ptr_eq(&last.whole, batch.schema_ref()) => last,
            _ => self.projection(batch.schema_ref()),
        };
        let columns = projection.columns.iter().map(|&at| batch.column(at).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = projection.published.clone();
        let published = RecordBatch::try_new_with_options(schema, columns, &options)
            .expect("columns are those of the schema");
        self.last = Some(projection);
        published
    }

    fn projection(&self, whole: &SchemaRef) -> Projection {
        let is_wanted = |&at: &usize| !self.left_out.contains(whole.field(at).name());
        let columns: Vec<usize> = (0..published_columns(whole)).filter(is_wanted).collect();
        let published = Arc::new(whole.project(&columns).expect("positions in the schema"));
        Projection { whole: whole.clone(), published, columns }
    }
}

/// A batch of admitted events: the source's columns as they are, then the columns above.
#[derive(Clone, Debug)]
pub struct EventLayout {
    pub schema: SchemaRef,
    /// How many of the first columns are the event's own.
    pub event_columns: usize,
    /// By column of the event, whether its integers are integers to every expression: the job
    /// declares them so. To others than keys all other numbers are Float64.
    pub integers: Vec<bool>,
    /// The request id: a Utf8, Int64 or UInt64 column, or the origin where there is none.
    pub id: Option<usize>,
    /// The output key.
    pub key: Option<usize>,
    pub time: usize,
    /// The event's own column of its time, where that is stored finer than ms.
    pub fine_time: Option<usize>,
    pub late: usize,
    pub partition: usize,
    pub offset: usize,
    pub read_at: usize,
    pub raw: Option<usize>,
    pub envelope: Option<usize>,
}

impl EventLayout {
    /// The layout over the columns `event`, with `id` and `key` as positions in it.
    pub fn new(event: &Schema, id: Option<usize>, key: Option<usize>, came_as: CameAs) -> Self {
        let own = event.fields().len();
        let mut fields: Vec<Field> = event.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend([
            Field::new(TIME, DataType::Int64, false),
            Field::new(LATE, DataType::Boolean, false),
            Field::new(PARTITION, DataType::UInt32, false),
            Field::new(OFFSET, DataType::UInt64, false),
            Field::new(READ_AT, DataType::Int64, false),
        ]);
        if came_as.is_bytes() {
            fields.push(Field::new(RAW, BESIDE, false));
        }
        if came_as == CameAs::Messages {
            fields.push(Field::new(ENVELOPE, BESIDE, false));
        }
        EventLayout {
            schema: Arc::new(Schema::new(fields)),
            event_columns: own,
            integers: vec![false; own],
            id,
            key,
            time: own,
            fine_time: None,
            late: own + 1,
            partition: own + 2,
            offset: own + 3,
            read_at: own + 4,
            raw: came_as.is_bytes().then_some(own + 5),
            envelope: (came_as == CameAs::Messages).then_some(own + 6),
        }
    }

    /// The same layout of events whose own column `time` holds their time.
    #[must_use]
    pub fn with_own_time(self, time: usize, stored: &DataType) -> Self {
        EventLayout { fine_time: is_fine(stored).then_some(time), ..self }
    }

    /// The same layout, in which the columns that `is_declared` names are declared to be integers.
    #[must_use]
    pub fn with_integers(mut self, is_declared: impl Fn(&str) -> bool) -> Self {
        let own = &self.schema.fields()[..self.event_columns];
        self.integers = own.iter().map(|field| is_declared(field.name())).collect();
        self
    }

    /// The columns that order rows.
    pub fn order_columns(&self) -> OrderColumns {
        OrderColumns {
            time: self.time,
            id: self.id,
            partition: self.partition,
            offset: self.offset,
        }
    }

    pub fn times<'a>(&self, batch: &'a RecordBatch) -> &'a Int64Array {
        batch.column(self.time).as_primitive::<Int64Type>()
    }

    pub fn late<'a>(&self, batch: &'a RecordBatch) -> &'a BooleanArray {
        batch.column(self.late).as_boolean()
    }

    pub fn partitions<'a>(&self, batch: &'a RecordBatch) -> &'a UInt32Array {
        batch.column(self.partition).as_primitive::<UInt32Type>()
    }

    pub fn offsets<'a>(&self, batch: &'a RecordBatch) -> &'a UInt64Array {
        batch.column(self.offset).as_primitive::<UInt64Type>()
    }

    pub fn read_at<'a>(&self, batch: &'a RecordBatch) -> &'a Int64Array {
        batch.column(self.read_at).as_primitive::<Int64Type>()
    }

    /// The request id of a row as text: the id column's value, else `partition-offset`.
    pub fn request_id(&self, batch: &RecordBatch, row: usize) -> String {
        let mut id = String::new();
        self.write_request_id(batch, row, &mut id);
        id
    }

    /// Writes the same to where nothing fails.
    pub fn write_request_id(&self, batch: &RecordBatch, row: usize, to: &mut impl Write) {
        let column = self.id.map(|id| batch.column(id)).filter(|column| column.is_valid(row));
        let written = match column.map(|column| (column, column.data_type())) {
            Some((ids, DataType::Utf8)) => to.write_str(ids.as_string::<i32>().value(row)),
            Some((ids, DataType::Int64)) => {
                write!(to, "{}", ids.as_primitive::<Int64Type>().value(row))
            }
            Some((ids, DataType::UInt64)) => {
                write!(to, "{}", ids.as_primitive::<UInt64Type>().value(row))
            }
            _ => {
                let (partitions, offsets) = (self.partitions(batch), self.offsets(batch));
                write!(to, "{}-{}", partitions.value(row), offsets.value(row))
            }
        };
        debug_assert!(written.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    fn batch(columns: &[&str], value: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value, value + 1]));
        RecordBatch::try_from_iter(columns.iter().map(|&name| (name, column.clone()))).unwrap()
    }

    #[test]
    fn what_is_published_is_worked_out_once_for_all_batches_of_a_schema() {
        let mut published = Published::default();
        let first = batch(&["a", "b", PARTITION, "c"], 1);
        let second = RecordBatch::try_new(
            first.schema(),
            batch(&["a", "b", "c", "d"], 7).columns().to_vec(),
        );
        let [one, two] = [&first, &second.unwrap()].map(|batch| published.of(batch));
        assert_eq!(one, batch(&["a", "b"], 1));
        assert_eq!(two, batch(&["a", "b"], 7));
        assert!(Arc::ptr_eq(one.schema_ref(), two.schema_ref()));
        // Batches of another schema, and of the first again.
        assert_eq!(published.of(&batch(&["x", READ_AT], 3)), batch(&["x"], 3));
        assert_eq!(published.of(&first), one);
        let none = published.of(&batch(&[OFFSET], 3));
        assert_eq!((none.num_columns(), none.num_rows()), (0, 2));
    }

    #[test]
    fn columns_that_nobody_wants_are_left_out() {
        let mut published = Published::without(["a", "c"].map(str::to_owned).into());
        let whole = batch(&["a", "b", "c", "d", OFFSET], 5);
        assert_eq!(published.of(&whole), batch(&["b", "d"], 5));
        assert_eq!(published.schema_of(whole.schema_ref()), batch(&["b", "d"], 5).schema());
        assert_eq!(published.of(&batch(&["c", "x"], 3)), batch(&["x"], 3));
    }

    #[test]
    fn a_request_without_an_id_is_called_by_its_origin() {
        let ids: [ArrayRef; 4] = [
            Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0)])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(7)])),
            Arc::new(BooleanArray::from(vec![true; 3])),
        ];
        let wanted = [
            ["a", "9-41", ""],
            ["-9223372036854775808", "9-41", "0"],
            ["18446744073709551615", "9-41", "7"],
            ["9-40", "9-41", "9-42"],
        ];
        for (column, wanted) in ids.into_iter().zip(wanted) {
            let own = Schema::new(vec![Field::new("id", column.data_type().clone(), true)]);
            let layout = EventLayout::new(&own, Some(0), None, CameAs::Columns);
            let numbers = Int64Array::from(vec![0; 3]);
            let columns: Vec<ArrayRef> = vec![
                column,
                Arc::new(numbers.clone()),
                Arc::new(BooleanArray::from(vec![false; 3])),
                Arc::new(UInt32Array::from(vec![9; 3])),
                Arc::new(UInt64Array::from(vec![40, 41, 42])),
                Arc::new(numbers),
            ];
            let batch = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
            assert_eq!([0, 1, 2].map(|row| layout.request_id(&batch, row)), wanted);
        }
    }
}

//! Small Parquet files of columns of every type, written in many ways.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch,
    StringArray, UInt32Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};

pub struct Made {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Bytes of the footer, without its length and magic.
    pub footer: usize,
    pub rows: usize,
}

const ROWS: usize = 23;

fn integers() -> ArrayRef {
    Arc::new(Int64Array::from_iter((0..ROWS as i64).map(|at| (at % 7 != 3).then_some(at * 3))))
}

fn to(data_type: DataType) -> ArrayRef {
    cast(&integers(), &data_type).unwrap_or_else(|error| panic!("{data_type}: {error}"))
}

/// Numbers of all widths and floats of all kinds.
fn numbers() -> Vec<(&'static str, ArrayRef)> {
    let strange = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 1.5];
    let floats = (0..ROWS).map(|at| (at % 5 != 2).then(|| strange[at % strange.len()]));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter(floats));
    vec![
        ("i8", to(DataType::Int8)),
        ("i16", to(DataType::Int16)),
        ("i32", to(DataType::Int32)),
        ("u8", to(DataType::UInt8)),
        ("u16", to(DataType::UInt16)),
        ("u32", to(DataType::UInt32)),
        ("u64", to(DataType::UInt64)),
        ("f16", cast(&floats, &DataType::Float16).unwrap()),
        ("f32", cast(&floats, &DataType::Float32).unwrap()),
        ("f64", floats),
        ("d32", to(DataType::Decimal32(6, 2))),
        ("d64", to(DataType::Decimal64(15, 3))),
        ("d128", to(DataType::Decimal128(38, 10))),
        ("whole", to(DataType::Decimal128(38, 0))),
        ("d256", to(DataType::Decimal256(60, 10))),
    ]
}

fn times() -> Vec<(&'static str, ArrayRef)> {
    let of = |unit, zone: Option<&str>| to(DataType::Timestamp(unit, zone.map(Into::into)));
    vec![
        ("ts", of(TimeUnit::Second, None)),
        ("tms", of(TimeUnit::Millisecond, Some("UTC"))),
        ("tus", of(TimeUnit::Microsecond, Some("+02:00"))),
        ("tns", of(TimeUnit::Nanosecond, None)),
        ("date32", cast(&to(DataType::Int32), &DataType::Date32).unwrap()),
        ("date64", to(DataType::Date64)),
        ("time32", cast(&to(DataType::Int32), &DataType::Time32(TimeUnit::Millisecond)).unwrap()),
        ("time64", to(DataType::Time64(TimeUnit::Nanosecond))),
        ("duration", to(DataType::Duration(TimeUnit::Microsecond))),
        ("interval", interval()),
    ]
}

fn interval() -> ArrayRef {
    arrow::array::new_null_array(&DataType::Interval(IntervalUnit::DayTime), ROWS)
}

fn texts() -> Vec<(&'static str, ArrayRef)> {
    let words = (0..ROWS).map(|at| (at % 4 != 1).then(|| ["é", "", "word", "\u{1f600}"][at % 4]));
    let words: ArrayRef = Arc::new(StringArray::from_iter(words));
    let of = |to: DataType| cast(&words, &to).unwrap();
    let by = |key: DataType| DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8));
    vec![
        ("utf8", words.clone()),
        ("large", of(DataType::LargeUtf8)),
        ("view", of(DataType::Utf8View)),
        ("binary", of(DataType::Binary)),
        ("uuid", Arc::new(uuids())),
        ("none", arrow::array::new_null_array(&DataType::Null, ROWS)),
        ("dictionary8", of(by(DataType::Int8))),
        ("dictionary", of(by(DataType::Int32))),
        ("truth", Arc::new(BooleanArray::from_iter((0..ROWS).map(|at| Some(at % 3 == 0))))),
    ]
}

fn uuids() -> FixedSizeBinaryArray {
    let bytes = (0..ROWS).map(|at| (at % 5 != 1).then_some([at as u8; 16]));
    FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 16).unwrap()
}

fn nested() -> Vec<(&'static str, ArrayRef)> {
    use arrow::array::{ListArray, StructArray};
    use arrow::buffer::OffsetBuffer;

    let item = || Arc::new(Field::new("item", DataType::Int64, true));
    let lengths = OffsetBuffer::from_lengths((0..ROWS).map(|at| usize::from(at % 3 == 0)));
    let values = integers().slice(0, *lengths.last().unwrap() as usize);
    let list: ArrayRef = Arc::new(ListArray::new(item(), lengths, values, None));
    let fields = Fields::from(vec![
        Field::new("inner", DataType::Int64, true),
        Field::new("list", list.data_type().clone(), true),
    ]);
    let structure = StructArray::new(fields, vec![integers(), list.clone()], None);
    vec![("list", list), ("struct", Arc::new(structure))]
}

fn batch(time: ArrayRef, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let all: Vec<(&str, ArrayRef)> = std::iter::once(("t", time)).chain(columns).collect();
    let fields =
        all.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let columns = all.iter().map(|(_, column)| column.clone()).collect();
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// One of the ways to write a file.
fn properties(way: usize) -> WriterProperties {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(Default::default()),
    ];
    let level = [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page];
    let version = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    WriterProperties::builder()
        .set_compression(codecs[way % codecs.len()])
        .set_statistics_enabled(level[way % level.len()])
        .set_writer_version(version[way % version.len()])
        .set_dictionary_enabled(!way.is_multiple_of(4))
        .set_max_row_group_row_count(Some([9, 100][way % 2]))
        .set_data_page_row_count_limit(5)
        .set_write_batch_size(5)
        .build()
}

fn write(name: String, batch: &RecordBatch, way: usize) -> Made {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties(way)))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let end = bytes.len() - 8;
    let footer = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    Made { name, bytes, footer, rows: batch.num_rows() }
}

/// The event time as every type that it may have.
fn event_times() -> Vec<ArrayRef> {
    let mut all: Vec<ArrayRef> = times().into_iter().take(6).map(|(_, column)| column).collect();
    let indices = UInt32Array::from_iter_values((0..ROWS as u32).rev());
    let text = cast(&all[1], &DataType::Utf8).unwrap();
    all.extend([integers(), to(DataType::Int32), to(DataType::UInt64)]);
    let by = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
    all.push(cast(&text, &by).unwrap());
    all.push(arrow::compute::take(&text, &indices, None).unwrap());
    all.push(text);
    all
}

pub fn all() -> Vec<Made> {
    let mut made = Vec::new();
    for (way, time) in event_times().into_iter().enumerate() {
        let columns = match way % 4 {
            0 => numbers(),
            1 => times().into_iter().filter(|(name, _)| *name != "interval").collect(),
            2 => texts(),
            _ => nested(),
        };
        let name = format!("way {way}, time {}", time.data_type());
        made.push(write(name, &batch(time, columns), way));
    }
    // Every type by itself with one way more.
    let every = [numbers(), times(), texts(), nested()].concat();
    for (way, column) in every.into_iter().enumerate() {
        let name = format!("column {}", column.0);
        made.push(write(name, &batch(integers(), vec![column]), way));
    }
    made
}

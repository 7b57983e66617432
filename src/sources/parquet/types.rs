//! The types of a Parquet file's columns in Arrow, and those that the library cannot read.
//!
//! A file may say in its metadata which Arrow types it was written from. The library (59.3) takes that
//! schema as a whole or not at all: with a single column that it does not know (the 128-bit integers
//! of Polars) it refuses the file. Here such a column is left to whoever reads it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use arrow::ipc;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;

use crate::sources::parquet::guard::guarded;

/// A footer, with the types that its columns are read as.
pub struct FileTypes {
    pub metadata: ArrowReaderMetadata,
    /// Columns that cannot be read, and what type they are of.
    pub unsupported: Vec<(String, String)>,
}

impl FileTypes {
    /// Of a footer that was read without regard to its Arrow schema.
    ///
    /// # Errors
    /// If the Arrow schema contradicts the file, or is none.
    pub fn new(plain: &ArrowReaderMetadata) -> Result<Self> {
        let metadata = plain.metadata();
        let as_stored =
            guarded(|| ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new()));
        match as_stored {
            Ok(read) => Ok(FileTypes { metadata: whole_int96(read), unsupported: Vec::new() }),
            Err(error) => column_by_column(plain).ok_or(error),
        }
    }
}

/// The columns whose Arrow type can be read, and those that cannot; nothing if that cannot be told.
fn column_by_column(plain: &ArrowReaderMetadata) -> Option<FileTypes> {
    let encoded = arrow_schema(plain.metadata())?;
    let bytes = base64(encoded)?;
    // A prefix of eight bytes: the mark of a continuation, and the length.
    let message = if bytes.starts_with(&[0xff; 4]) { bytes.get(8..)? } else { &bytes };
    let schema = ipc::root_as_message(message).ok()?.header_as_schema()?;
    let (mut hints, mut unsupported) = (Vec::new(), Vec::new());
    for stored in schema.fields()? {
        let name = stored.name().unwrap_or_default().to_owned();
        match guarded(|| Ok(Field::from(stored))) {
            Ok(field) => hints.push(field),
            Err(_) => unsupported.push((name, type_name(&stored))),
        }
    }
    if unsupported.is_empty() {
        return None;
    }
    Some(FileTypes { metadata: whole_int96(hinted(plain, &hints)), unsupported })
}

/// The footer with the Arrow types of `hints` where they suit the columns of these names.
fn hinted(plain: &ArrowReaderMetadata, hints: &[Field]) -> ArrowReaderMetadata {
    let mut read = plain.clone();
    for (at, field) in plain.schema().fields().iter().enumerate() {
        let Some(hint) = hints.iter().find(|hint| hint.name() == field.name()) else { continue };
        if hint.data_type() != field.data_type() {
            let mut fields: Vec<FieldRef> = read.schema().fields().to_vec();
            let hint = field.as_ref().clone().with_data_type(hint.data_type().clone());
            fields[at] = Arc::new(hint);
            read = with_fields(&read, fields).unwrap_or(read);
        }
    }
    read
}

fn with_fields(read: &ArrowReaderMetadata, fields: Vec<FieldRef>) -> Result<ArrowReaderMetadata> {
    let schema = Schema::new_with_metadata(fields, read.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    guarded(|| ArrowReaderMetadata::try_new(read.metadata().clone(), options))
}

/// What the library reads as nanoseconds wraps outside 1677 to 2262, and INT96 reaches further: where
/// the file does not say that nanoseconds were meant, it is read as microseconds.
fn whole_int96(read: ArrowReaderMetadata) -> ArrowReaderMetadata {
    if arrow_schema(read.metadata()).is_some() {
        return read;
    }
    let columns = read.metadata().file_metadata().schema_descr();
    let leaves = (0..columns.num_columns())
        .filter(|&leaf| columns.column(leaf).physical_type() == PhysicalType::INT96);
    let roots: BTreeSet<usize> = leaves.map(|leaf| columns.get_column_root_idx(leaf)).collect();
    if roots.is_empty() {
        return read;
    }
    let fields = read.schema().fields().iter().enumerate();
    let fields = fields
        .map(|(at, field)| if roots.contains(&at) { in_micros(field) } else { field.clone() });
    with_fields(&read, fields.collect()).unwrap_or(read)
}

fn in_micros(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        DataType::List(item) => DataType::List(in_micros(item)),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(in_micros).collect::<Fields>())
        }
        DataType::Map(entries, sorted) => DataType::Map(in_micros(entries), *sorted),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn arrow_schema(metadata: &ParquetMetaData) -> Option<&str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == ARROW_SCHEMA_META_KEY)?.value.as_deref()
}

/// What a type is called that the library has no name for.
fn type_name(field: &ipc::Field) -> String {
    match field.type_as_int() {
        Some(int) => format!("{}Int{}", if int.is_signed() { "" } else { "U" }, int.bitWidth()),
        None => field.type_type().variant_name().unwrap_or("unknown").to_owned(),
    }
}

/// The bytes of a text in base64 (RFC 4648).
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::data_type::{Int64Type, Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::sources::parquet::guard;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("Zg==").unwrap(), b"f");
        assert_eq!(base64("Zm9vYg==").unwrap(), b"foob");
        assert_eq!(base64("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        assert_eq!(base64("Zm 9"), None);
    }

    #[test]
    fn int96_is_read_as_microseconds() {
        let text = "message m { optional int96 t; optional int64 n (TIMESTAMP(NANOS,true)); }";
        let schema = Arc::new(parse_message_type(text).unwrap());
        let path = tempfile::NamedTempFile::new().unwrap();
        let properties = Arc::new(WriterProperties::default());
        let handle = File::create(path.path()).unwrap();
        let mut writer = SerializedFileWriter::new(handle, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let mut value = Int96::new();
        // Julian day 5373484 is 9999-12-31.
        value.set_data(0, 0, 5_373_484);
        column.typed::<Int96Type>().write_batch(&[value], Some(&[1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1], Some(&[1]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let read = guard::footer(&File::open(path.path()).unwrap()).unwrap();
        let units = read.schema().fields().iter().map(|field| field.data_type().clone());
        assert_eq!(
            units.collect::<Vec<_>>(),
            [
                DataType::Timestamp(TimeUnit::Microsecond, None),
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
            ]
        );
    }
}

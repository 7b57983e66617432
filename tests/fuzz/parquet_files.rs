//! Parquet files with columns of every type, damaged: refused, or read without harm.

use std::path::Path;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::datatypes::TimeUnit;
use driftline::config::job::JsonType;
use driftline::sources::{Inputs, StreamSpec};
use driftline_operators::ingest::{Allowance, Polled};
use indexmap::IndexMap;

use crate::campaign::run;
use crate::mutate::{mutate, mutate_tail};
use crate::parquet_made::{Made, all};
use crate::random::Random;

const DECLARED: [JsonType; 4] =
    [JsonType::Int64, JsonType::Float64, JsonType::Utf8, JsonType::Boolean];
/// Polls without a row, one a millisecond at most, before a source is taken to hang.
const IDLE_POLLS_MAX: usize = 20_000;

#[derive(Default)]
pub struct Read {
    pub rows: usize,
    pub undecoded: usize,
    pub batches: Vec<RecordBatch>,
}

fn spec(path: &Path, time: &str) -> StreamSpec {
    StreamSpec {
        path: path.to_owned(),
        own: None,
        topics: None,
        format: None,
        time: time.to_owned(),
        columns: IndexMap::new(),
        keys: Vec::new(),
        key_parts: Vec::new(),
        required: Vec::new(),
        time_unit: None,
        from: i64::MIN,
        to: i64::MAX,
        idle_timeout_ms: None,
        future: None,
        time_key: "event.time".to_owned(),
        columns_key: "[event.columns]".to_owned(),
        allowed_lateness_ms: 0,
    }
}

/// Opens the file or folder as a job does, and reads it to its end.
pub fn read_all(path: &Path, time: &str, epoch_rows_max: usize) -> Result<Read, String> {
    let inputs = Inputs::open(spec(path, time), Vec::new(), None, epoch_rows_max);
    read_to_the_end(&inputs.map_err(|error| error.to_string())?)
}

fn read_to_the_end(inputs: &Inputs) -> Result<Read, String> {
    let said = |error: driftline::sources::SourceError| error.to_string();
    let mut source = inputs.open_worker(0, 1).map_err(said)?;
    let mut read = Read::default();
    let mut idle = 0;
    while source.next_epoch().is_some() {
        match source.poll(&Allowance::default()).map_err(said)? {
            Polled::Chunk(chunk) => {
                if chunk.offsets.len() != chunk.rows.num_rows() {
                    return Err(format!("fuzz: {} offsets of rows", chunk.offsets.len()));
                }
                read.rows += chunk.rows.num_rows();
                read.undecoded += chunk.undecoded.len();
                read.batches.push(chunk.rows);
                idle = 0;
            }
            Polled::Wait(delay) => {
                idle += 1;
                assert!(idle < IDLE_POLLS_MAX, "it waits for ever");
                std::thread::sleep(delay);
            }
            Polled::Held(partition) => panic!("{partition} is held, and nothing holds it"),
            Polled::End => break,
        }
    }
    Ok(read)
}

fn made() -> &'static [Made] {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    MADE.get_or_init(all)
}

fn damaged(random: &mut Random, made: &Made) -> Vec<u8> {
    let mut bytes = made.bytes.clone();
    let tail = 8 + made.footer;
    match random.below(4) {
        // The length and the magic stay: what is in the footer is looked at.
        0 => {
            let end = bytes.split_off(bytes.len() - 8);
            mutate_tail(random, &mut bytes, made.footer);
            bytes.extend(end);
            let footer = (bytes.len() - 8).saturating_sub(made.bytes.len() - tail);
            let at = bytes.len() - 8;
            bytes[at..at + 4].copy_from_slice(&(footer as u32).to_le_bytes());
        }
        1 => mutate_tail(random, &mut bytes, tail),
        2 => {
            let end = bytes.split_off(bytes.len() - tail);
            mutate(random, &mut bytes);
            bytes.extend(end);
        }
        _ => mutate(random, &mut bytes),
    }
    bytes
}

#[test]
fn undamaged_parquet_is_read_whole() {
    for made in made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, &made.bytes).unwrap();
        let read = read_all(&path, "t", 7).unwrap_or_else(|error| panic!("{}: {error}", made.name));
        assert_eq!(read.rows, made.rows, "{}", made.name);
    }
}

#[test]
fn parquet_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    run("parquet_files", 5_000, |random, given| {
        let made = random.of(made());
        given.0 = damaged(random, made);
        std::fs::write(&path, &given.0).unwrap();
        let epoch_rows_max = random.pick(&[1, 7, 8_192]);
        match read_all(&path, "t", epoch_rows_max) {
            Err(error) if error.starts_with("fuzz:") || error.contains('\n') => Err(error),
            // No row is made up, and none is lost without a word: rows are what all columns hold.
            Ok(read) if read.rows + read.undecoded != made.rows && !may_differ(&given.0, made) => {
                Err(format!("{} of {} rows of {}", read.rows, made.rows, made.name))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    });
}

/// Files of a folder that differ in their types, some of their columns read as ids and keys, or as what
/// the job declares: refused, or each row is there or told.
#[test]
fn parquet_folders() {
    let folder = tempfile::tempdir().unwrap();
    run("parquet_folders", 600, |random, given| {
        let files: Vec<&Made> = (0..2 + random.below(2)).map(|_| random.of(made())).collect();
        for at in 0..3 {
            let path = folder.path().join(format!("{at}.parquet"));
            match files.get(at) {
                Some(made) => std::fs::write(&path, &made.bytes).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
        }
        let names: Vec<&str> = files.iter().map(|made| made.name.as_str()).collect();
        given.0 = names.join("; ").into_bytes();
        let rows: usize = files.iter().map(|made| made.rows).sum();
        match read_some(random, folder.path()) {
            Err(error) if error.starts_with("fuzz:") || error.contains('\n') => Err(error),
            Ok(read) if read.rows + read.undecoded != rows => {
                Err(format!("{} rows and {} told of {rows}", read.rows, read.undecoded))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    });
}

/// Reads the time and some of the columns of a folder, with uses that are drawn.
fn read_some(random: &mut Random, folder: &Path) -> Result<Read, String> {
    let said = |error: driftline::sources::SourceError| error.to_string();
    let columns = Inputs::open(spec(folder, "t"), Vec::new(), None, 7).map_err(said)?.schema(0);
    let mut spec = spec(folder, "t");
    spec.time_unit = random.pick(&[None, None, Some(TimeUnit::Second), Some(TimeUnit::Nanosecond)]);
    let mut wanted = Vec::new();
    for (at, field) in columns.fields().iter().enumerate() {
        let name = field.name().clone();
        if name != "t" && random.one_in(2) {
            continue;
        }
        wanted.push(at);
        match random.below(4) {
            0 => spec.keys.push(name),
            1 => spec.key_parts.push(name),
            2 => drop(spec.columns.insert(name, random.pick(&DECLARED))),
            _ => {}
        }
    }
    let epoch_rows_max = random.pick(&[1, 7, 8_192]);
    let mut inputs = Inputs::open(spec, Vec::new(), None, epoch_rows_max).map_err(said)?;
    inputs.project(0, &wanted).map_err(said)?;
    read_to_the_end(&inputs)
}

/// Whether the damage is in the footer, which has no checksum.
fn may_differ(bytes: &[u8], made: &Made) -> bool {
    let tail = 8 + made.footer;
    bytes.len() != made.bytes.len()
        || bytes[bytes.len() - tail..] != made.bytes[made.bytes.len() - tail..]
}

/// A footer whose schema is nested without end would end the stack of its reader.
#[test]
fn a_schema_that_is_nested_deep_is_refused() {
    let levels = 200_000;
    // version = 1, then a list of groups: name "a", one child each.
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    let mut length = levels as u32;
    while length >= 0x80 {
        footer.push(length as u8 | 0x80);
        length >>= 7;
    }
    footer.push(length as u8);
    footer.extend([0x48, 0x01, b'a', 0x15, 0x02, 0x00].repeat(levels));
    footer.push(0);
    let length = (footer.len() as u32).to_le_bytes();
    let bytes = [b"PAR1", footer.as_slice(), &length, b"PAR1"].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, bytes).unwrap();
    let error = read_all(&path, "t", 7).err().unwrap();
    assert!(error.contains("200000 levels deep"), "{error}");
}

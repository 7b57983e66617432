//! A stream of Parquet files: footers say what is to be read.

pub mod feed;
pub mod footers;
pub mod guard;
mod nesting;
pub mod row_groups;
pub mod schedule;
pub mod whole_file;

use std::sync::Arc;

use crate::sinks::without_prefixes;
use crate::sources::columns::check_time;
use crate::sources::files::{InputFile, describe};
use crate::sources::parquet::footers::FileFooter;
use crate::sources::parquet::schedule::{Group, Lane};
use crate::sources::stored_columns::StoredColumns;
use crate::sources::stream::{Partition, StreamSpec};
use crate::sources::{SourceError, failed};

/// Parquet files with the same columns. A file with statistics of the event time is a partition of
/// its own; those without form one, in the order of their names.
pub struct ParquetStream {
    pub files: Arc<[FileFooter]>,
    pub columns: StoredColumns,
    pub partitions: Vec<Partition>,
    /// What is wanted of each partition.
    pub lanes: Vec<Lane>,
}

impl ParquetStream {
    /// Reads the footers of `files`, whose partitions are numbered from `first_partition`.
    ///
    /// # Errors
    /// If a file is no Parquet, its columns are not those of the first, or there is no column of
    /// event time.
    pub fn open(
        files: Vec<InputFile>,
        spec: &StreamSpec,
        stream: usize,
        first_partition: u32,
    ) -> Result<Self, SourceError> {
        let footers =
            files.into_iter().map(|file| FileFooter::read(file, &spec.time, spec.time_unit));
        let mut footers = footers.collect::<Result<Vec<_>, _>>()?;
        let stored = footers[0].stored_schema();
        footers[1..].iter().try_for_each(|footer| footer.check_columns(&stored))?;
        let time = stored.field_with_name(&spec.time).map_err(|_| {
            let names: Vec<&str> = stored.fields().iter().map(|f| f.name().as_str()).collect();
            let (time, key, names) = (&spec.time, &spec.time_key, names.join(", "));
            let message = format!("no column {time:?} ({key}); there are {names}");
            failed(footers[0].path.display(), message)
        })?;
        check_time(time.data_type(), spec.time_unit).map_err(|error| {
            let reason = without_prefixes(&error.to_string());
            let message = format!("column {:?} ({}): {reason}", spec.time, spec.time_key);
            failed(footers[0].path.display(), message)
        })?;
        let columns = StoredColumns::new(stored, spec.uses()).map_err(|error| {
            failed(footers[0].path.display(), without_prefixes(&error.to_string()))
        })?;
        let members = group_into_partitions(&mut footers);
        let partition = |files: &Vec<usize>| Partition {
            stream,
            name: describe(files.iter().map(|&file| footers[file].path.as_path())),
            floor: footers[files[0]].floor(),
        };
        let partitions = members.iter().map(partition).collect();
        let lanes = members.iter().zip(first_partition..).map(|(files, partition)| {
            let groups = files.iter().flat_map(|&file| wanted(&footers, file, spec));
            Lane { stream, partition, groups: groups.collect() }
        });
        let lanes = lanes.collect();
        Ok(ParquetStream { files: footers.into(), columns, partitions, lanes })
    }
}

/// The files of each partition.
fn group_into_partitions(footers: &mut [FileFooter]) -> Vec<Vec<usize>> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    let mut without_times: Option<usize> = None;
    let mut rows_without_times = 0;
    for (file, footer) in footers.iter_mut().enumerate() {
        if footer.has_times() {
            members.push(vec![file]);
            continue;
        }
        footer.follow(rows_without_times);
        rows_without_times += footer.rows();
        match without_times {
            Some(partition) => members[partition].push(file),
            None => {
                without_times = Some(members.len());
                members.push(vec![file]);
            }
        }
    }
    members
}

/// The row groups of a file that may hold rows that are wanted.
fn wanted(footers: &[FileFooter], file: usize, spec: &StreamSpec) -> impl Iterator<Item = Group> {
    let (from, to) = (spec.from, spec.to);
    footers[file].groups.iter().enumerate().filter_map(move |(group, about)| {
        let inside = about.times.is_none_or(|(low, high)| high >= from && low < to);
        let group = Group { file, group, rows: about.rows, times: about.times };
        (about.rows > 0 && inside).then_some(group)
    })
}

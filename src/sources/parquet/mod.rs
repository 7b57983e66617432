//! A stream of Parquet files: footers say what is to be read.

pub mod feed;
pub mod folder;
pub mod footers;
pub mod guard;
mod nesting;
pub mod row_groups;
pub mod schedule;
mod time_order;
mod too_early;
pub mod types;
pub mod whole_file;
pub mod whole_folder;

use std::collections::HashSet;
use std::sync::Arc;

use driftline_operators::watermark::EVENTS;

use crate::sources::files::{InputFile, describe};
use crate::sources::parquet::folder::FolderColumns;
use crate::sources::parquet::footers::FileFooter;
use crate::sources::parquet::schedule::{Group, Lane};
use crate::sources::stream::{Future, Partition, StreamSpec};
use crate::sources::{SourceError, failed};

/// Parquet files, read together by name of column. A file with statistics of the event time is a
/// partition of its own; those without form one, in the order of their names.
pub struct ParquetStream {
    pub files: Arc<[FileFooter]>,
    pub columns: FolderColumns,
    pub partitions: Vec<Partition>,
    /// What is wanted of each partition.
    pub lanes: Vec<Lane>,
    pub future: Option<Future>,
}

impl ParquetStream {
    /// Reads the footers of `files`, whose partitions are numbered from `first_partition`.
    ///
    /// # Errors
    /// If a file is no Parquet, or the column of event time or of a key is missing in one.
    pub fn open(
        files: Vec<InputFile>,
        spec: &StreamSpec,
        stream: usize,
        first_partition: u32,
    ) -> Result<Self, SourceError> {
        let footers =
            files.into_iter().map(|file| FileFooter::read(file, &spec.time, spec.time_unit));
        let mut footers = footers.collect::<Result<Vec<_>, _>>()?;
        let columns = FolderColumns::new(&footers, spec.uses(), &spec.required)?;
        if columns.time_column().is_err() {
            let schema = columns.schema();
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let (time, key, names) = (&spec.time, &spec.time_key, names.join(", "));
            let message = format!("no column {time:?} ({key}); there are {names}");
            return Err(failed(footers[0].path.display(), message));
        }
        if stream != EVENTS {
            let mut files = footers.iter_mut().enumerate();
            files.try_for_each(|(at, footer)| time_order::look_at(footer, at, &columns))?;
        }
        if let Some(future) = &spec.future {
            let mut files = footers.iter_mut().enumerate();
            files.try_for_each(|(at, footer)| too_early::look_at(footer, at, &columns, future))?;
        }
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
        let (files, future) = (footers.into(), spec.future.clone());
        let mut stream = ParquetStream { files, columns, partitions, lanes, future };
        stream.weigh();
        Ok(stream)
    }

    /// Wants only `columns`, by position in the schema.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn project(&mut self, columns: &[usize]) -> Result<(), SourceError> {
        self.columns.project(columns)?;
        self.weigh();
        Ok(())
    }

    /// Has the groups know how wide their rows are, of the columns that are wanted.
    fn weigh(&mut self) {
        let Self { files, columns, lanes, .. } = self;
        let wanted: Vec<HashSet<usize>> =
            files.iter().map(|file| columns.in_file(file).collect()).collect();
        for group in lanes.iter_mut().flat_map(|lane| &mut lane.groups) {
            let file = &files[group.file];
            group.row_bytes = file.row_bytes(group.group, &wanted[group.file]);
        }
    }

    /// The files of a table whose rows are not in order of time.
    pub fn sorted(&self) -> Vec<String> {
        let sorted = self.files.iter().filter(|file| file.is_sorted);
        sorted.map(|file| file.path.display().to_string()).collect()
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
        let one_reader = about.times.is_none() || footers[file].is_sorted;
        let (rows, times) = (about.rows, about.times);
        let group = Group { file, group, rows, row_bytes: 0, times, one_reader };
        (about.rows > 0 && inside).then_some(group)
    })
}

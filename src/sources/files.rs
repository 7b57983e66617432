//! The files of an input, and the columns that their folders stand for.

use std::path::{Path, PathBuf};

use super::{SourceError, failed, unreadable};
use crate::config::job::Format;

/// A file, and the values of its hive partitions (`year=2013/month=1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    pub path: PathBuf,
    pub hive: Vec<(String, String)>,
}

/// The files at `path`: itself, or those below it, in natural order of name (`part-2` before
/// `part-10`). Names that begin with `.` or `_` are passed over.
///
/// # Errors
/// If nothing is there, or no file is.
pub fn list(path: &Path) -> Result<Vec<InputFile>, SourceError> {
    let mut files = Vec::new();
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if kind.is_dir() {
        walk(path, path, &mut files)?;
        files.sort_by(|a, b| natural(&a.path.to_string_lossy(), &b.path.to_string_lossy()));
    } else {
        files.push(InputFile { path: path.to_owned(), hive: Vec::new() });
    }
    if files.is_empty() {
        return Err(failed(path.display(), "the folder holds no files"));
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<InputFile>) -> Result<(), SourceError> {
    let error = |error: std::io::Error| unreadable(folder, &error);
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        let path = entry.path();
        if std::fs::metadata(&path).map_err(error)?.is_dir() {
            walk(root, &path, files)?;
        } else {
            let hive = hive_values(path.strip_prefix(root).unwrap_or(&path));
            files.push(InputFile { path, hive });
        }
    }
    Ok(())
}

fn hive_values(relative: &Path) -> Vec<(String, String)> {
    let folders = relative.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|folder| {
            let folder = folder.as_os_str().to_string_lossy().into_owned();
            let (name, value) = folder.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Text with its numbers compared as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let pieces = |text: &str| -> Vec<Result<u128, char>> {
        let mut pieces: Vec<Result<u128, char>> = Vec::new();
        let mut last_was_digit = false;
        for c in text.chars() {
            match (c.to_digit(10), pieces.last_mut()) {
                (Some(digit), Some(Ok(number))) if last_was_digit => {
                    *number = number.saturating_mul(10).saturating_add(u128::from(digit));
                }
                (Some(digit), _) => pieces.push(Ok(u128::from(digit))),
                (None, _) => pieces.push(Err(c)),
            }
            last_was_digit = c.is_ascii_digit();
        }
        pieces
    };
    pieces(a).cmp(&pieces(b)).then_with(|| a.cmp(b))
}

/// What a partition of several files is called.
pub fn describe<'a>(mut paths: impl ExactSizeIterator<Item = &'a Path>) -> String {
    let Some(first) = paths.next() else { return "standard input".to_owned() };
    match paths.len() {
        0 => first.display().to_string(),
        more => format!("{} and {more} more", first.display()),
    }
}

/// The format that a file's name tells, if it does.
pub fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    if name.ends_with(".parquet") || name.ends_with(".pq") {
        return Some(Format::Parquet);
    }
    let ends = |ends: &[&str]| ends.iter().any(|end| plain.ends_with(end));
    match () {
        () if ends(&[".jsonl", ".ndjson", ".json"]) => Some(Format::Json),
        () if ends(&[".csv", ".tsv"]) => Some(Format::Csv),
        () => None,
    }
}

/// The format of files: as the job says, else as the name of the first tells.
///
/// # Errors
/// If neither does.
pub fn format(files: &[InputFile], said: Option<Format>) -> Result<Format, SourceError> {
    let first = &files[0].path;
    said.or_else(|| format_of(first)).ok_or_else(|| {
        let message = "the name does not tell whether it is Parquet, JSON lines or CSV; set format \
                       beside the path in the job";
        failed(first.display(), message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["p-10", "p-9", "p-1b", "p-1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["p-1", "p-1b", "p-9", "p-10"]);
    }

    #[test]
    fn folders_are_walked_and_their_names_become_columns() {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["year=2013/month=10/a.parquet", "year=2013/month=9/a.parquet", "_SUCCESS", ".x/b"]
        {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let files = list(root.path()).unwrap();
        let hive: Vec<_> = files.iter().map(|file| file.hive[1].1.as_str()).collect();
        assert_eq!(hive, ["9", "10"]);
    }

    #[test]
    fn names_tell_formats() {
        let of = |name: &str| format_of(Path::new(name));
        assert_eq!(of("a/b.PARQUET"), Some(Format::Parquet));
        assert_eq!(of("a.jsonl.zst"), Some(Format::Json));
        assert_eq!((of("a.CSV.gz"), of("a.tsv")), (Some(Format::Csv), Some(Format::Csv)));
        assert_eq!(of("a.txt"), None);
    }
}

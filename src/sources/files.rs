//! The files of an input, and the columns that their folders stand for.

use std::path::{Path, PathBuf};

use super::{SourceError, failed, unreadable};
use crate::config::job::Format;

/// The name of a folder whose rows have no value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file, and the values of its hive partitions (`year=2013/month=1`), decoded; `None` is null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    pub path: PathBuf,
    pub hive: Vec<(String, Option<String>)>,
}

/// The files at `path`: itself, or those below it, in natural order of name (`part-2` before
/// `part-10`). Names that begin with `.` or `_` are passed over, `_year=2013` apart, and so are
/// checksums (`.crc`).
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
        if is_passed_over(&entry.file_name().to_string_lossy()) {
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

fn is_passed_over(name: &str) -> bool {
    let is_column = name.contains('=');
    name.starts_with('.') || (name.starts_with('_') && !is_column) || name.ends_with(".crc")
}

/// Whether `text` is how an integer of 64 bits is written: `007` and `-0` are not.
pub fn is_canonical_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

fn hive_values(relative: &Path) -> Vec<(String, Option<String>)> {
    let folders = relative.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|folder| {
            let folder = folder.as_os_str().to_string_lossy().into_owned();
            let (name, value) = folder.split_once('=')?;
            // The name of null is compared as it stands: a text that equals it is written `%5F_HIVE…`.
            let value = (value != HIVE_NULL).then(|| percent_decoded(value));
            (!name.is_empty()).then(|| (percent_decoded(name), value))
        })
        .collect()
}

/// Text with its escapes (RFC 3986, section 2.1) as the bytes that they stand for. What is no escape
/// is left as it is, and so is all of it if it would not be UTF-8; a plus sign is one.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
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

/// The format of files: as the job says, else as their names tell.
///
/// # Errors
/// Those of [`common_format`].
pub fn format(files: &[InputFile], said: Option<Format>) -> Result<Format, SourceError> {
    said.map_or_else(|| common_format(files), Ok)
}

/// The format of all `files`, told by their names.
///
/// # Errors
/// If the names tell none, or a file is of another format than the others; it is named.
pub fn common_format(files: &[InputFile]) -> Result<Format, SourceError> {
    let formats: Vec<Option<Format>> = files.iter().map(|file| format_of(&file.path)).collect();
    let count = |format: Format| formats.iter().filter(|found| **found == Some(format)).count();
    // What most files are; of equally many the first.
    let mut common: Option<Format> = None;
    for format in formats.iter().flatten().copied() {
        if common.is_none_or(|common| count(format) > count(common)) {
            common = Some(format);
        }
    }
    let Some(common) = common else {
        let message = "the name does not tell whether it is Parquet, JSON lines or CSV; set format \
                       beside the path in the job";
        return Err(failed(files[0].path.display(), message));
    };
    let Some(stray) = formats.iter().position(|format| *format != Some(common)) else {
        return Ok(common);
    };
    let what = match formats[stray] {
        Some(other) => format!("it is {}", in_words(other)),
        None => "its name tells no format".to_owned(),
    };
    let message = format!(
        "{what}, and others in the folder are {}: move it out of the folder, or have its name begin \
         with _ and it is passed over; if all are of one format, set format beside the path in the job",
        in_words(common)
    );
    Err(failed(files[stray].path.display(), message))
}

fn in_words(format: Format) -> &'static str {
    match format {
        Format::Parquet => "Parquet",
        Format::Json => "JSON lines",
        Format::Csv => "CSV",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<InputFile> {
        let file = |name: &&str| InputFile { path: PathBuf::from(name), hive: Vec::new() };
        names.iter().map(file).collect()
    }

    #[test]
    fn a_stray_file_is_named() {
        assert_eq!(common_format(&named(&["a.parquet", "b.pq"])).unwrap(), Format::Parquet);
        assert_eq!(common_format(&named(&["a.jsonl.gz", "b.json"])).unwrap(), Format::Json);
        for (names, stray, what) in [
            (&["a.parquet", "notes.txt", "z.parquet"][..], "notes.txt", "tells no format"),
            (&["1.txt", "a.parquet"], "1.txt", "tells no format"),
            (&["a.parquet", "b.jsonl", "c.parquet"], "b.jsonl", "it is JSON lines"),
            (&["a.jsonl", "b.parquet", "c.parquet"], "a.jsonl", "it is JSON lines"),
            (&["a.jsonl", "b.parquet", "c.jsonl"], "b.parquet", "it is Parquet"),
            (&["a.parquet", "b.jsonl"], "b.jsonl", "it is JSON lines"),
            (&["a.txt", "b.dat"], "a.txt", "does not tell whether"),
        ] {
            let error = common_format(&named(names)).unwrap_err();
            assert!(error.input == stray && error.message.contains(what), "{error}");
        }
    }

    #[test]
    fn escapes_are_what_they_stand_for() {
        for (written, read) in [
            ("a%2Fb", "a/b"),
            ("a%2fb%3Dc", "a/b=c"),
            ("50%25", "50%"),
            ("50%", "50%"),
            ("100%zz%2", "100%zz%2"),
            ("a+b", "a+b"),
            ("a%2Bb", "a+b"),
            ("%C3%BC", "ü"),
            ("ü%20", "ü "),
            ("%FF", "%FF"),
            ("%2525", "%25"),
            ("%+1", "%+1"),
            ("", ""),
        ] {
            assert_eq!(percent_decoded(written), read, "{written}");
        }
    }

    #[test]
    fn folders_say_names_values_and_nulls() {
        let values = |path: &str| hive_values(Path::new(path));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            values("a%20b=1%2F2/plain/k=/x=__HIVE_DEFAULT_PARTITION__/=y/0.parquet"),
            [("a b".to_owned(), text("1/2")), ("k".to_owned(), text("")), ("x".to_owned(), None)]
        );
        let escaped = values("k=%5F_HIVE_DEFAULT_PARTITION__/z=a=b/k=v.parquet");
        let null_name = text("__HIVE_DEFAULT_PARTITION__");
        assert_eq!(escaped, [("k".to_owned(), null_name), ("z".to_owned(), text("a=b"))]);
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["p-10", "p-9", "p-1b", "p-1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["p-1", "p-1b", "p-9", "p-10"]);
    }

    #[test]
    fn folders_are_walked_and_their_names_become_columns() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "year=2013/_month=10/a.parquet",
            "year=2013/_month=9/a.parquet",
            "_SUCCESS",
            ".x/b",
            "_delta_log/0.json",
            "year=2013/.a.parquet.crc",
            "year=2013/b.parquet.crc",
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let files = list(root.path()).unwrap();
        let hive: Vec<_> = files.iter().map(|file| file.hive[1].1.as_deref()).collect();
        assert_eq!(hive, [Some("9"), Some("10")]);
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

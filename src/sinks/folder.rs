//! Output folders: files are written under temporary names and appear together, or not at all.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::in_words;

/// Why a folder cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{}: holds the output of a run already; use --overwrite to replace it or --out for another place", .0.display())]
    HoldsARun(PathBuf),
    #[error("{}: another run is writing there; wait for it, or use --out for another place", .0.display())]
    Busy(PathBuf),
    #[error("{}", in_words(path, error))]
    Io { path: PathBuf, error: std::io::Error },
}

const LOCK: &str = ".driftline.lock";

/// The output folders of one run. Dropped without [`Publication::publish`], nothing of the run stays.
#[derive(Clone)]
pub struct Publication(Arc<Inner>);

struct Inner {
    folders: Vec<(PathBuf, File)>,
    /// Temporary and final names.
    files: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Publication {
    /// Takes `folders`, which are made if need be; no other run can take them meanwhile.
    ///
    /// # Errors
    /// If one holds a run already and is not to be overwritten, or cannot be written to.
    pub fn prepare(folders: &[&Path], overwrite: bool) -> Result<Self, FolderError> {
        // Dropped on an error, it gives back what it has taken.
        let mut inner = Inner { folders: Vec::new(), files: Mutex::new(Vec::new()) };
        for &folder in folders {
            let io = |error| FolderError::Io { path: folder.to_owned(), error };
            fs::create_dir_all(folder).map_err(io)?;
            let path = folder.join(LOCK);
            let lock = File::create(&path).map_err(io)?;
            if lock.try_lock().is_err() || !lies_at(&lock, &path) {
                return Err(FolderError::Busy(folder.to_owned()));
            }
            inner.folders.push((folder.to_owned(), lock));
            if !overwrite && !results(folder).map_err(io)?.is_empty() {
                return Err(FolderError::HoldsARun(folder.to_owned()));
            }
            remove_leftovers(folder).map_err(io)?;
        }
        Ok(Publication(Arc::new(inner)))
    }

    /// A new file `name` in `folder`: the temporary path to write to.
    pub fn file(&self, folder: &Path, name: &str) -> PathBuf {
        let temporary = folder.join(format!(".{name}.tmp-{}", std::process::id()));
        let mut files = self.0.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        files.push((temporary.clone(), folder.join(name)));
        temporary
    }

    /// Replaces what the folders held by what was written, which must be complete and synced. What
    /// was there goes when all that is new has its place.
    ///
    /// # Errors
    /// If a file cannot be moved or removed.
    pub fn publish(&self) -> Result<(), FolderError> {
        let mut files = self.0.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut new = HashSet::new();
        while let Some((temporary, last)) = files.last() {
            if temporary.exists() {
                let io = |error| FolderError::Io { path: last.clone(), error };
                fs::rename(temporary, last).map_err(io)?;
                new.insert(last.clone());
            }
            files.pop();
        }
        for (folder, _) in &self.0.folders {
            let io = |error| FolderError::Io { path: folder.clone(), error };
            for old in results(folder).map_err(io)?.iter().filter(|path| !new.contains(*path)) {
                fs::remove_file(old).map_err(io)?;
            }
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let files = self.files.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (temporary, _) in files.drain(..) {
            let _ = fs::remove_file(temporary);
        }
        // Removed while it is held: who has opened it meanwhile holds a file that lies nowhere.
        for (folder, _) in &self.folders {
            let _ = fs::remove_file(folder.join(LOCK));
        }
    }
}

/// Whether `file` is what lies at `path` now, and not one that was removed.
fn lies_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().and_then(|held| Ok(same(held, fs::metadata(path)?))).unwrap_or(false)
}

/// The path that a result has when it is published, for that of its temporary file.
pub fn final_name(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    match name.strip_prefix('.').and_then(|name| name.split_once(".tmp-")) {
        Some((name, _)) => Path::new(folder).join(name).display().to_string(),
        None => path.to_owned(),
    }
}

/// Removes the temporary files of runs that were killed; the lock says that none is running.
fn remove_leftovers(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        if name.starts_with(".part-") && name.contains(".tmp-") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Result files in a folder, ours by their names.
fn results(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        let is_ours = |end: &&str| plain.ends_with(*end);
        if name.starts_with("part-") && [".parquet", ".jsonl", ".csv"].iter().any(is_ours) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_stays_if_what_is_new_cannot_be_put_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("part-0.parquet"), "one").unwrap();
        fs::create_dir_all(path.join("part-1.in-the-way/is-not-empty")).unwrap();
        let run = Publication::prepare(&[path], true).unwrap();
        fs::write(run.file(path, "part-1.in-the-way"), "two").unwrap();
        assert!(matches!(run.publish(), Err(FolderError::Io { .. })));
        drop(run);
        assert_eq!(names(path), ["part-0.parquet", "part-1.in-the-way"]);
        assert_eq!(fs::read_to_string(path.join("part-0.parquet")).unwrap(), "one");
    }

    #[test]
    fn a_folder_has_one_run_at_a_time_even_if_another_opened_its_lock_before_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = Publication::prepare(&[path], false).unwrap();
        let opened = File::open(path.join(LOCK)).unwrap();
        drop(first);
        // What was opened can be locked now, and locks nothing: a third run may hold the folder.
        opened.try_lock().unwrap();
        assert!(!lies_at(&opened, &path.join(LOCK)));
        let third = Publication::prepare(&[path], false).unwrap();
        assert!(!lies_at(&opened, &path.join(LOCK)));
        assert!(matches!(Publication::prepare(&[path], false), Err(FolderError::Busy(_))));
        drop(third);
        assert!(fs::read_dir(path).unwrap().next().is_none());
    }

    #[test]
    fn results_of_all_formats_are_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let ours = ["part-0.parquet", "part-1.jsonl.gz", "part-2.csv", "part-3.csv.zst"];
        let others = ["part-4.txt.gz", "notes.csv", "part-5.csv.bz2"];
        for name in ours.iter().chain(&others) {
            fs::write(path.join(name), "old").unwrap();
        }
        assert!(matches!(Publication::prepare(&[path], false), Err(FolderError::HoldsARun(_))));
        let run = Publication::prepare(&[path], true).unwrap();
        fs::write(run.file(path, "part-2.csv"), "new").unwrap();
        run.publish().unwrap();
        drop(run);
        assert_eq!(names(path), ["notes.csv", "part-2.csv", "part-4.txt.gz", "part-5.csv.bz2"]);
    }

    #[test]
    fn a_run_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let run = Publication::prepare(&[path], false).unwrap();
        fs::write(run.file(path, "part-0.parquet"), "new").unwrap();
        drop(run);
        assert!(names(path).is_empty());

        fs::write(path.join(".part-0.parquet.tmp-1"), "left by a killed run").unwrap();
        let run = Publication::prepare(&[path], false).unwrap();
        fs::write(run.file(path, "part-0.parquet"), "one").unwrap();
        fs::write(run.file(path, "part-1.parquet"), "one").unwrap();
        assert!(matches!(Publication::prepare(&[path], true), Err(FolderError::Busy(_))));
        run.publish().unwrap();
        drop(run);
        assert_eq!(names(path), ["part-0.parquet", "part-1.parquet"]);

        assert!(matches!(Publication::prepare(&[path], false), Err(FolderError::HoldsARun(_))));
        assert_eq!(names(path), ["part-0.parquet", "part-1.parquet"]);
        let run = Publication::prepare(&[path], true).unwrap();
        fs::write(run.file(path, "part-0.parquet"), "two").unwrap();
        assert_eq!(fs::read_to_string(path.join("part-0.parquet")).unwrap(), "one");
        run.publish().unwrap();
        drop(run);
        assert_eq!(names(path), ["part-0.parquet"]);
        assert_eq!(fs::read_to_string(path.join("part-0.parquet")).unwrap(), "two");
    }
}

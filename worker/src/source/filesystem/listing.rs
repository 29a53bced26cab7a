//! Which splits there are, and whose they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_api::log::SplitState;
use serde::{Deserialize, Serialize};

use crate::source::SourceError;

/// Larger files are read in ranges of this size, by different tasks.
const RANGE_BYTES: u64 = 64 << 20;
/// Files of one table; a folder with more is almost surely the wrong one.
const FILES_MAX: usize = 100_000;

/// A file, or a range of it: the lines that begin in `[start, end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSplit {
    name: String,
    pub file: String,
    pub start: u64,
    pub end: u64,
    /// Where the next line begins; `start` before the first one was found.
    pub offset: u64,
    pub finished: bool,
}

/// The position of a split in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Position {
    file: String,
    start: u64,
    end: u64,
    offset: u64,
}

impl FileSplit {
    /// The task that reads it. By hash of its name: the answer needs no other split.
    pub fn owner(&self, parallelism: u32) -> u32 {
        let hash = xxhash_rust::xxh3::xxh3_64(self.name.as_bytes());
        u32::try_from(hash % u64::from(parallelism)).expect("below a u32")
    }

    pub fn restored(state: &SplitState) -> Result<Self, SourceError> {
        let position = serde_json::from_value(state.position.clone());
        let Position { file, start, end, offset } = position.map_err(|e| SourceError::User {
            reason: format!("the position of split {} in the checkpoint is not one of a file: {e}", state.split),
        })?;
        Ok(Self { name: state.split.clone(), file, start, end, offset, finished: state.finished })
    }

    pub fn state(&self) -> SplitState {
        let Self { file, start, end, offset, .. } = self.clone();
        SplitState {
            split: self.name.clone(),
            position: serde_json::to_value(Position { file, start, end, offset }).expect("numbers and text"),
            watermark: None,
            idle: false,
            finished: self.finished,
        }
    }
}

/// A metadata column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Metadata {
    FilePath,
    FileName,
}

impl Metadata {
    pub fn of(key: Option<&str>, table: &str) -> Result<Option<Self>, SourceError> {
        Ok(match key {
            None => None,
            Some("file.path") => Some(Self::FilePath),
            Some("file.name") => Some(Self::FileName),
            Some(other) => {
                let reason = format!("table {table}: metadata '{other}' is none of 'file.path', 'file.name'");
                return Err(SourceError::User { reason });
            }
        })
    }

    pub fn value(self, split: &FileSplit) -> &str {
        match self {
            Self::FilePath => &split.file,
            Self::FileName => split.file.rsplit('/').next().unwrap_or(&split.file),
        }
    }
}

/// Lists the splits of a path, in the order of their names.
pub(super) fn list(path: &str, table: &str) -> Result<Vec<FileSplit>, SourceError> {
    let plain = path.strip_prefix("file://").unwrap_or(path);
    let failed = |at: &Path, e: &io::Error| SourceError::User {
        reason: format!(
            "failed to read {}: {e}; 'path' of table {table} must name a readable file or folder",
            at.display()
        ),
    };
    let root = Path::new(plain);
    let mut files: Vec<(PathBuf, u64)> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let metadata = fs::metadata(root).map_err(|e| failed(root, &e))?;
    if metadata.is_dir() {
        folders.push(root.to_owned())
    } else {
        files.push((root.to_owned(), metadata.len()))
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| failed(&folder, &e))? {
            let path = entry.map_err(|e| failed(&folder, &e))?.path();
            // Flink's default filter: what writers hide while it is not complete.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name.starts_with('_') {
                continue;
            }
            let metadata = fs::metadata(&path).map_err(|e| failed(&path, &e))?;
            if metadata.is_dir() { folders.push(path) } else { files.push((path, metadata.len())) }
        }
        if files.len() > FILES_MAX {
            let reason = format!("{plain} holds more than {FILES_MAX} files; 'path' of table {table} is too wide");
            return Err(SourceError::User { reason });
        }
    }
    let mut splits = Vec::with_capacity(files.len());
    for (path, len) in files {
        let Some(file) = path.to_str().map(str::to_owned) else {
            return Err(SourceError::User { reason: format!("the file name {} is not UTF-8", path.display()) });
        };
        splits.extend(ranges(&file, len, RANGE_BYTES));
    }
    splits.sort_by(|a, b| (&a.file, a.start).cmp(&(&b.file, b.start)));
    Ok(splits)
}

/// A file of `len` bytes as splits of at most `range` bytes.
pub(super) fn ranges(file: &str, len: u64, range: u64) -> Vec<FileSplit> {
    let split = |name: String, start: u64, end: u64| FileSplit {
        name,
        file: file.to_owned(),
        start,
        end,
        offset: start,
        finished: false,
    };
    if len <= range {
        return vec![split(file.to_owned(), 0, len)];
    }
    let starts = (0..len).step_by(usize::try_from(range).expect("a range fits memory"));
    starts.map(|start| split(format!("{file}@{start}"), start, len.min(start + range))).collect()
}

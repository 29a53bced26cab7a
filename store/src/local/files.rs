//! Files that are whole and durable, or not there.
//!
//! Owns: the order of write, sync, publish, sync. Does not own: what an error means to a caller.

use crate::object_path::RESERVED_COMPONENT;
use crate::{ObjectMeta, PutOutcome};
use bytes::Bytes;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How often a writer starts over when its unfinished file or a folder was taken from under it.
const TRIES_MAX: u32 = 16;

/// A directory that holds objects.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

/// A failed write, and whether the object may be there nevertheless.
#[derive(Debug)]
pub(super) struct FileError {
    pub(super) error: io::Error,
    /// The file has its name already; only its durability is in doubt.
    pub(super) published: bool,
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self { error, published: false }
    }
}

/// A file under a name of its own that nobody else sees. Dropped, it is gone.
struct Unfinished {
    path: PathBuf,
    /// Locked as long as its writer lives: so `sweep` knows what a killed process left.
    _lock: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; what stays for another reason is swept at the next open.
        let _ = fs::remove_file(&self.path);
    }
}

impl Directory {
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        let directory = Self { root };
        directory.make_folders(&directory.unfinished_folder())?;
        directory.sweep()?;
        Ok(directory)
    }

    /// For reading what is there.
    pub(super) fn existing(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn unfinished_folder(&self) -> PathBuf {
        self.root.join(RESERVED_COMPONENT)
    }

    /// Publishes by a hard link: the file system lets one of racing writers win.
    pub(super) fn create(&self, path: &str, data: &[u8]) -> Result<PutOutcome, FileError> {
        let target = self.file(path);
        // Most losers are told before they write anything.
        let outcome = if target.symlink_metadata().is_ok() {
            PutOutcome::Exists
        } else {
            let unfinished = self.write_aside(data)?;
            match self.publish(&target, || fs::hard_link(&unfinished.path, &target)) {
                Ok(()) => PutOutcome::Created,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => PutOutcome::Exists,
                Err(error) => return Err(error.into()),
            }
        };
        // The loser syncs too: it builds on what it finds there, which its winner may not have made durable yet.
        sync_folder_of(&target).map_err(|error| FileError { error, published: true })?;
        Ok(outcome)
    }

    /// Publishes by a rename.
    pub(super) fn replace(&self, path: &str, data: &[u8]) -> Result<(), FileError> {
        let target = self.file(path);
        let unfinished = self.write_aside(data)?;
        self.publish(&target, || fs::rename(&unfinished.path, &target))?;
        sync_folder_of(&target).map_err(|error| FileError { error, published: true })
    }

    /// Runs `publish`, and makes the target's folders where they are missing.
    fn publish(&self, target: &Path, publish: impl Fn() -> io::Result<()>) -> io::Result<()> {
        for _ in 0..TRIES_MAX {
            match publish() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_folders(target.parent().expect("a checked path lies below the root"))?;
                }
                outcome => return outcome,
            }
        }
        Err(io::Error::new(ErrorKind::NotFound, "its folder is removed again and again by someone else"))
    }

    /// Writes and syncs `data` under a name of its own.
    fn write_aside(&self, data: &[u8]) -> io::Result<Unfinished> {
        let (unfinished, mut file) = self.make_unfinished()?;
        file.write_all(data)?;
        file.sync_all()?;
        Ok(unfinished)
    }

    fn make_unfinished(&self) -> io::Result<(Unfinished, File)> {
        for _ in 0..TRIES_MAX {
            let path = self.unfinished_folder().join(random_name());
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_folders(&self.unfinished_folder())?;
                    continue;
                }
                file => file?,
            };
            file.lock()?;
            // Between its creation and its lock a starting process may have swept it away: then it has no name any more.
            if path.try_exists()? {
                return Ok((Unfinished { path, _lock: file.try_clone()? }, file));
            }
        }
        Err(io::Error::new(ErrorKind::NotFound, "unfinished files are removed again and again by someone else"))
    }

    /// Removes the unfinished files of dead processes.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.unfinished_folder())? {
            let path = entry?.path();
            // One that vanishes meanwhile was finished or swept by another process.
            let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
            match file.try_lock() {
                Ok(()) => fs::remove_file(&path).or_else(ignore_not_found)?,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes `folder` and what is missing above it, each durable before the next.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            Ok(()) => sync_folder_of(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folders(folder.parent().ok_or(error)?)?;
                match fs::create_dir(folder) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    outcome => outcome?,
                }
                sync_folder_of(folder)
            }
            Err(error) => Err(error),
        }
    }

    /// Up to `bytes_max` bytes of an object from `offset` on.
    pub(super) fn read_part(&self, path: &str, offset: u64, bytes_max: usize) -> io::Result<Bytes> {
        let mut file = File::open(self.file(path))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut part = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut part)?;
        Ok(part.into())
    }

    /// Objects below `prefix` after `after`, sorted by path.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>) -> io::Result<Vec<ObjectMeta>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() && crate::object_path::check(folder).is_err() {
            // No object can have such a path.
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.file(&folder)) {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                // A name that is no UTF-8 was not written by this store.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                let could_match = path.starts_with(prefix) || prefix.starts_with(&format!("{path}/"));
                if !could_match || path.split('/').any(|component| component == RESERVED_COMPONENT) {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else if after.is_none_or(|after| path.as_str() > after) && path.starts_with(prefix) {
                    found.extend(describe(path, &entry)?);
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.file(path)) {
            // A folder or something below a file: no object has this path.
            Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::IsADirectory) => Ok(()),
            outcome => outcome.or_else(ignore_not_found),
        }
    }
}

/// `None` when the file was deleted while the listing went on.
fn describe(path: String, entry: &fs::DirEntry) -> io::Result<Option<ObjectMeta>> {
    let metadata = match entry.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified_ms = i64::try_from(modified.as_millis()).unwrap_or(i64::MAX);
    Ok(Some(ObjectMeta { path, bytes: metadata.len(), modified_ms }))
}

fn ignore_not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Makes the entry of `path` in its folder durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}

fn random_name() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system's random source works once the process runs");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

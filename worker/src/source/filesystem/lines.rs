//! Lines of a file from a byte offset on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::source::SourceError;

/// Bytes per read.
const READ_BYTES: u64 = 256 << 10;
/// A longer line is an error: the file is not lines of JSON.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Reads lines, each of which is consumed only when the caller says so.
pub(super) struct LineReader {
    name: String,
    file: File,
    /// Bytes read and not consumed are `buffer[at..]`.
    buffer: Vec<u8>,
    at: usize,
    /// Length of the line at `at` with its line break, once it was found.
    line_len: usize,
    /// Offset in the file of `buffer[at]`.
    offset: u64,
    end_of_file: bool,
}

impl LineReader {
    /// Reads from `offset`. When that is the start of a range, a line that began before it belongs to the range
    /// before and is skipped.
    pub fn open(name: &str, start: u64, offset: u64) -> Result<Self, SourceError> {
        let skips_first = offset == start && start > 0;
        // One byte earlier: when that is a line break, the line at `start` is a whole one.
        let from = if skips_first { start - 1 } else { offset };
        let opened = File::open(name).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
        let file = opened.map_err(|e| failed(name, &e))?;
        let mut reader = Self {
            name: name.to_owned(),
            file,
            buffer: Vec::new(),
            at: 0,
            line_len: 0,
            offset: from,
            end_of_file: false,
        };
        if skips_first && reader.next_line()?.is_some() {
            reader.consume();
        }
        Ok(reader)
    }

    /// Offset of the next line.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line without its line break; `None` at the end of the file.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, SourceError> {
        let mut searched = 0;
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(found) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                self.line_len = searched + found + 1;
                break;
            }
            searched = rest.len();
            if self.end_of_file {
                if rest.is_empty() {
                    return Ok(None);
                }
                self.line_len = rest.len();
                break;
            }
            if searched > LINE_BYTES_MAX {
                let at = format!("{} from byte {}", self.name, self.offset);
                return Err(SourceError::Decode { at, reason: format!("a line of more than {LINE_BYTES_MAX} bytes") });
            }
            self.fill()?;
        }
        let line = &self.buffer[self.at..self.at + self.line_len];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Steps over the line that `next_line` returned.
    pub fn consume(&mut self) {
        self.at += self.line_len;
        self.offset += self.line_len as u64;
        self.line_len = 0;
    }

    fn fill(&mut self) -> Result<(), SourceError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let read = (&mut self.file).take(READ_BYTES).read_to_end(&mut self.buffer);
        self.end_of_file = read.map_err(|e| failed(&self.name, &e))? == 0;
        Ok(())
    }
}

/// The number of the line that begins at `offset`, from 1. Reads the file up to there: for error messages.
pub(super) fn line_number(name: &str, offset: u64) -> Result<u64, SourceError> {
    let mut before = File::open(name).map_err(|e| failed(name, &e))?.take(offset);
    let mut buffer = vec![0; 64 << 10];
    let mut lines = 1;
    loop {
        match before.read(&mut buffer).map_err(|e| failed(name, &e))? {
            0 => return Ok(lines),
            read => lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

fn failed(name: &str, error: &io::Error) -> SourceError {
    let reason = format!("failed to read {name}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => SourceError::User { reason },
        _ => SourceError::Transient { reason },
    }
}

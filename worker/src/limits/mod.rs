//! What this process may use, and how it divides that.
//!
//! Owns: memory and processors by machine and control group (`cgroup`), and the budgets made of them. Does not own: keeping
//! to a budget; that is whoever holds the bytes (`state`).

mod cgroup;

use std::fmt;
use std::path::Path;

pub use cgroup::Version;

use crate::runtime::StateBackend;

/// Share of the memory limit that keyed state may take, and that its pre-images may take beside it.
const STATE_SHARE: u64 = 2;
const UNDO_SHARE: u64 = 8;
/// Share of it that the sources may fetch ahead: with the two above, a quarter stays for rows on their way and all the rest.
const FETCH_SHARE: u64 = 8;

/// Of the space that is free on the disk at the start, keyed state on it may take so much. The LSM writes anew what it merges.
const DISK_PERCENT: u64 = 80;

/// Threads for the store and the brokers: they wait, mostly. One is enough for a fraction of a processor, and more than four
/// have nothing to do.
const IO_THREADS_MAX: usize = 4;

/// Where neither machine nor group tells (`/proc` is not mounted): a cautious guess.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

/// What this process may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub cpus: f64,
    pub cpus_of: Source,
    pub memory_bytes: u64,
    pub memory_of: Source,
}

/// Who sets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Machine,
    Group(Version),
}

/// What may go where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Keyed state of all tasks together, in memory or on disk.
    pub state_bytes_max: u64,
    /// Pre-images of keyed state, of all tasks together.
    pub undo_bytes_max: u64,
    /// What sources fetch ahead, of all tasks together.
    pub fetch_bytes_max: u64,
    pub io_threads: usize,
}

impl Limits {
    /// The limits of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::read(Path::new("/"), cpus)
    }

    /// `root`: where `/proc` and the groups are mounted. `cpus`: those of the machine that this process may run on.
    fn read(root: &Path, cpus: usize) -> Self {
        let allowed = cgroup::allowed(root);
        let memory = std::fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| machine_memory(&text));
        let memory = (memory.unwrap_or(MEMORY_BYTES_UNKNOWN), Source::Machine);
        let group = allowed.memory.map(|(bytes, version)| (bytes, Source::Group(version)));
        let (memory_bytes, memory_of) = group.filter(|group| group.0 < memory.0).unwrap_or(memory);
        let cpus = (cpus as f64, Source::Machine);
        let group = allowed.cpus.map(|(cpus, version)| (cpus, Source::Group(version)));
        let (cpus, cpus_of) = group.filter(|group| group.0 <= cpus.0).unwrap_or(cpus);
        Self { cpus, cpus_of, memory_bytes, memory_of }
    }

    /// How they are divided, with state where the job wants it.
    #[must_use]
    pub fn budgets(&self, backend: &StateBackend) -> Budgets {
        let in_memory = self.memory_bytes / STATE_SHARE;
        Budgets {
            state_bytes_max: match backend {
                StateBackend::Memory => in_memory,
                // What cannot be told is as with memory: opening the state will say what is wrong with the place.
                StateBackend::Disk { dir } => free_bytes(dir).map_or(in_memory, |free| free / 100 * DISK_PERCENT),
            },
            undo_bytes_max: self.memory_bytes / UNDO_SHARE,
            fetch_bytes_max: self.memory_bytes / FETCH_SHARE,
            io_threads: (self.cpus.ceil() as usize).clamp(1, IO_THREADS_MAX),
        }
    }
}

/// Space left for this user on the disk where `dir` is or will be made.
fn free_bytes(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn machine_memory(text: &str) -> Option<u64> {
    let kilobytes = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().ok()?.checked_mul(1024)
}

/// One line for the start of a process.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = Bytes(self.memory_bytes);
        write!(f, "{:.1} CPUs ({}), {memory} memory ({})", self.cpus, self.cpus_of, self.memory_of)
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state_bytes_max, undo_bytes_max, fetch_bytes_max, io_threads } = *self;
        write!(
            f,
            "state up to {}, undo up to {}, fetched ahead up to {}, threads for network and store: {io_threads}",
            Bytes(state_bytes_max),
            Bytes(undo_bytes_max),
            Bytes(fetch_bytes_max)
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine's",
            Self::Group(Version::V1) => "cgroup v1",
            Self::Group(Version::V2) => "cgroup v2",
        })
    }
}

/// A size as people read it: `1.5 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // What would be rounded to 1024 is one of the next.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;

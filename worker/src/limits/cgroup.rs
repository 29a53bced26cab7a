//! The control groups of this process (v1 and v2, nested): what memory and processors it may use.
//!
//! A limit holds for everything below its group, so the smallest one between the process's group and the top counts. In a
//! container the groups above its own are not to be seen; the kernel counts them, and so do the values that a runtime sets.
//! Formats: cgroups(7), proc_pid_mountinfo(5), and the kernel's `cgroup-v2` and `cgroup-v1` documents.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// What the groups allow. `None`: no limit, or no group that tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Allowed {
    pub(super) memory: Option<(u64, Version)>,
    pub(super) cpus: Option<(f64, Version)>,
}

/// Which kind of group a limit is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A mounted hierarchy of groups.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// Of v1, among other words.
    options: Vec<String>,
    /// The group that is seen at `at`.
    root: String,
    at: String,
}

/// Reads the limits of the process. `root`: where the file system begins, `/` but for tests.
pub(super) fn allowed(root: &Path) -> Allowed {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
    let mut allowed = Allowed::default();
    for mount in mounts.lines().filter_map(parse_mount) {
        let group = |controller: &str| group_of(&groups, &mount, controller);
        if let Some(group) = group("memory") {
            let own = least(root, &mount, &group, memory_limit).map(|bytes| (bytes, mount.version));
            allowed.memory = [allowed.memory, own].into_iter().flatten().min_by_key(|(bytes, _)| *bytes);
        }
        if let Some(group) = group("cpu") {
            let own = least(root, &mount, &group, cpu_limit).map(|cpus| (cpus, mount.version));
            allowed.cpus = [allowed.cpus, own].into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
    allowed
}

/// A line of `mountinfo`, if it is a hierarchy of groups:
/// `36 35 0:31 /top /at rw,nosuid shared:9 - cgroup cgroup rw,memory`, with any number of words before the dash.
fn parse_mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, at) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup2" => Version::V2,
        "cgroup" => Version::V1,
        _ => return None,
    };
    let options = kind.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(Mount { version, options, root, at })
}

/// Blanks and backslashes in paths are octal there.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, letter)| path.replace(code, letter))
}

/// The process's group in the hierarchy that has this controller, from lines such as `4:cpu,cpuacct:/path` (v1) and
/// `0::/path` (v2, all controllers).
fn group_of(groups: &str, mount: &Mount, controller: &str) -> Option<String> {
    let has = |names: &str| match mount.version {
        Version::V2 => names.is_empty(),
        Version::V1 => names.split(',').any(|name| name == controller),
    };
    if mount.version == Version::V1 && !mount.options.iter().any(|o| o == controller) {
        return None;
    }
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        has(names).then(|| path.to_owned())
    })
}

/// The smallest limit from the process's group up to the top of what is mounted.
fn least<T: PartialOrd>(root: &Path, mount: &Mount, group: &str, limit: fn(&Path, Version) -> Option<T>) -> Option<T> {
    let top = root.join(mount.at.trim_start_matches('/'));
    // A group that is not below what is mounted (another namespace made the mount) is seen at its top, if at all.
    let below = Path::new(group).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let climbs = below.components().any(|c| matches!(c, Component::ParentDir));
    let mut directory: PathBuf = if climbs { top.clone() } else { top.join(below) };
    let mut least: Option<T> = None;
    loop {
        if let Some(here) = limit(&directory, mount.version) {
            least = Some(match least {
                Some(least) if least <= here => least,
                _ => here,
            });
        }
        if directory == top || !directory.pop() {
            return least;
        }
    }
}

fn number<T: std::str::FromStr>(path: PathBuf) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `max` (v2) is no number, and so no limit; v1 says a number that no machine has.
fn memory_limit(group: &Path, version: Version) -> Option<u64> {
    number(group.join(match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    }))
}

/// Processor time per time: `<quota> <period>` (v2), or two files, where -1 is no limit (v1).
fn cpu_limit(group: &Path, version: Version) -> Option<f64> {
    let (quota, period): (f64, f64) = match version {
        Version::V1 => (number(group.join("cpu.cfs_quota_us"))?, number(group.join("cpu.cfs_period_us"))?),
        Version::V2 => {
            let text = fs::read_to_string(group.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
    };
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

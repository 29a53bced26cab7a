//! Named places at which a crash test kills or stops the process.
//!
//! Owns: the names' counting and the signal; the name of another machine for a process of this one. Does not own: what the
//! process does there. Without the feature `fault-points` the calls compile to nothing; release builds do not have them.
//!
//! `MILLSTREAM_FAULT=<name>@<n>[:stop]` acts at the n-th time (from 1) that `<name>` is reached: `kill -9` of itself,
//! or with `:stop` SIGSTOP (the test continues it). Before that it appends the name to the file that
//! `MILLSTREAM_FAULT_HITS` names, so that the test can prove that the fault was really hit.

/// Reaches the fault point `name`.
#[cfg(feature = "fault-points")]
pub fn reach(name: &'static str) {
    imp::reach(name);
}

/// Reaches the fault point `name`: nothing in this build.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn reach(_name: &'static str) {}

/// The name of the machine that this process is to be taken to run on, if a test says so (`MILLSTREAM_FAULT_HOST`): from
/// another one it cannot be told whether it lives.
#[cfg(feature = "fault-points")]
#[must_use]
pub fn host() -> Option<String> {
    std::env::var("MILLSTREAM_FAULT_HOST").ok()
}

/// None in this build.
#[cfg(not(feature = "fault-points"))]
#[must_use]
#[inline(always)]
pub fn host() -> Option<String> {
    None
}

#[cfg(feature = "fault-points")]
mod imp {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Plan {
        name: String,
        nth: u64,
        signal: libc::c_int,
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = std::env::var("MILLSTREAM_FAULT").ok()?;
            let (text, signal) = match text.strip_suffix(":stop") {
                Some(rest) => (rest, libc::SIGSTOP),
                None => (text.as_str(), libc::SIGKILL),
            };
            let (name, nth) = text.split_once('@')?;
            Some(Plan { name: name.to_owned(), nth: nth.parse().ok()?, signal })
        })
        .as_ref()
    }

    pub fn reach(name: &'static str) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some(plan) = plan() else { return };
        if plan.name != name || COUNT.fetch_add(1, Ordering::SeqCst) + 1 != plan.nth {
            return;
        }
        if let Ok(path) = std::env::var("MILLSTREAM_FAULT_HITS")
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
        {
            // A lost line makes the test fail, so the result needs no handling here.
            let _ = writeln!(file, "{name}");
            let _ = file.sync_all();
        }
        // SAFETY: sends a signal to this very process.
        unsafe {
            libc::kill(libc::getpid(), plan.signal);
        }
    }
}

//! Which process this is, and whether another one is still there.
//!
//! A process id alone is used again after a while, so the start time goes with it, as the system states it.

use std::process::Command;

use millstream_api::log::Address;

use crate::job::ProcessState;

/// This process. `listen`: where it can be reached, if anywhere.
#[must_use]
pub fn own_address(listen: Option<String>) -> Address {
    let process_id = std::process::id();
    // 0 matches no process: then only `takeOver` helps after a crash, which is safe.
    let process_start = start_of(process_id).unwrap_or_default();
    Address { host: host(), listen, process_id, process_start }
}

/// Whether the process of `address` lives, as seen from here.
#[must_use]
pub fn state_of(address: &Address) -> ProcessState {
    if address.host != host() || address.process_start == 0 {
        return ProcessState::Unknown;
    }
    match start_of(address.process_id) {
        Some(start) if start == address.process_start => ProcessState::Alive,
        // Another process has the id now, or none has.
        _ => ProcessState::Gone,
    }
}

fn host() -> String {
    if let Some(name) = millstream_fault::host() {
        return name;
    }
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_kernel.or_else(|| first_line(Command::new("hostname")));
    name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "unknown host".to_owned())
}

/// Start time of a process: clock ticks since boot on Linux, a digest of `ps`'s text elsewhere. `None`: no such process.
fn start_of(process_id: u32) -> Option<u64> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
        // The command's name stands in parentheses and may hold spaces; field 22 counts from the field before it.
        let after_name = &stat[stat.rfind(')')? + 1..];
        let mut fields = after_name.split_whitespace();
        if fields.next() == Some("Z") {
            // A zombie has ended; only its parent has not looked yet.
            return None;
        }
        return fields.nth(18)?.parse().ok();
    }
    let line = first_line(Command::new("ps").args(["-o", "lstart=", "-p", &process_id.to_string()]))?;
    let digest = crc32c::crc32c(line.trim().as_bytes());
    (!line.trim().is_empty()).then_some(u64::from(digest) | 1)
}

fn first_line(mut command: impl std::borrow::BorrowMut<Command>) -> Option<String> {
    let output = command.borrow_mut().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_that_ended_is_gone() {
        let own = own_address(None);
        assert_eq!(state_of(&own), ProcessState::Alive);
        assert_eq!(state_of(&Address { process_start: own.process_start + 1, ..own.clone() }), ProcessState::Gone);
        assert_eq!(state_of(&Address { host: "elsewhere".to_owned(), ..own.clone() }), ProcessState::Unknown);

        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let address = Address { process_id: child.id(), process_start: start, ..own };
        assert_eq!(state_of(&address), ProcessState::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state_of(&address), ProcessState::Gone);
    }
}

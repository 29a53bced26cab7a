//! Who may run the job (protocol sections 1 and 7).

use millstream_api::log::{Owner, Start};

use super::message::{ProcessState, place};
use super::view::LogView;

/// Whether `owner` may write the next `start` entry.
///
/// # Errors
/// One message for people: who holds the job and what to do.
pub fn check(view: &LogView, owner: &Owner, previous: ProcessState, take_over: Option<&str>) -> Result<(), String> {
    let Some(holder) = view.holder() else { return Ok(()) };
    if view.stopped().is_some() {
        return Ok(());
    }
    let named = take_over == Some(holder.owner.0.as_str());
    if holder.owner != *owner {
        return if named { Ok(()) } else { Err(other_owner(holder, owner, take_over)) };
    }
    match previous {
        ProcessState::Gone => Ok(()),
        _ if named => Ok(()),
        ProcessState::Alive => Err(format!(
            "the job is already running: {}. Stop it first (kill {})",
            place(holder),
            holder.address.process_id
        )),
        ProcessState::Unknown => Err(format!(
            "the job was last run by {}, and from here it cannot be told whether that still runs. If it does not, set \
             spec.restore.takeOver: {}",
            place(holder),
            holder.owner
        )),
    }
}

fn other_owner(holder: &Start, owner: &Owner, take_over: Option<&str>) -> String {
    let tried = take_over.map(|name| format!(" (spec.restore.takeOver names {name})")).unwrap_or_default();
    format!(
        "the job belongs to owner {} ({}), this is owner {owner}{tried}. Stop it there, or set \
         spec.restore.takeOver: {} to take it over",
        holder.owner,
        place(holder),
        holder.owner
    )
}

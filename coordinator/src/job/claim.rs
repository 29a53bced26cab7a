//! Who may run the job (protocol sections 1 and 7).

use millstream_api::log::{Owner, Start};

use super::message::{ProcessState, place};
use super::view::LogView;

/// Whether the next `start` entry may be written. A message is for people: who holds the job and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Free,
    /// A process of the same owner has it, or may have it.
    Held {
        message: String,
    },
    /// Another owner has it.
    Refused {
        message: String,
    },
}

/// Whether `owner` may write the next `start` entry.
pub fn check(view: &LogView, owner: &Owner, previous: ProcessState, take_over: Option<&str>) -> Claim {
    let Some(holder) = view.holder().filter(|_| view.stopped().is_none()) else { return Claim::Free };
    let named = take_over == Some(holder.owner.0.as_str());
    match previous {
        _ if named => Claim::Free,
        _ if holder.owner != *owner => Claim::Refused { message: other_owner(holder, owner, take_over) },
        ProcessState::Gone => Claim::Free,
        ProcessState::Alive => {
            let process_id = holder.address.process_id;
            let message = format!("the job is already running: {}. Stop it first (kill {process_id})", place(holder));
            Claim::Held { message }
        }
        ProcessState::Unknown => {
            let message = format!(
                "the job was last run by {}, and from here it cannot be told whether that still runs. If it does not, set \
                 spec.restore.takeOver: {}",
                place(holder),
                holder.owner
            );
            Claim::Held { message }
        }
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

//! What people are told while a job runs, and when it has ended.

use std::io::{self, Write};

use millstream_api::log::StopReason;
use millstream_coordinator::job::{Notice, Outcome};

use crate::exit::Exit;
use crate::logging::Display;

/// Says why the command cannot do what it was asked.
pub fn refuse(exit: Exit, message: &str) -> Exit {
    eprintln!("error: {message}");
    exit
}

/// Told in the log, or above the live line.
pub fn announce(display: Display, text: &str) {
    match display {
        Display::LogOnly => tracing::info!("{text}"),
        // A failed write to a terminal that is gone concerns nobody.
        Display::LiveLine => drop(writeln!(io::stderr(), "\r\x1b[2K{text}")),
    }
}

pub fn say(display: Display, store: &str, notice: &Notice) {
    let routine = matches!(notice, Notice::CheckpointCompleted { .. });
    match display {
        Display::LiveLine if routine => {}
        Display::LiveLine => announce(display, &notice.to_string()),
        Display::LogOnly => tracing::info!(store, "{notice}"),
    }
}

/// The last words, and the exit code.
pub fn conclude(store: &str, outcome: &Outcome) -> Exit {
    let place = |path: &str| format!("{}/{path}", store.trim_end_matches('/'));
    match outcome {
        Outcome::Finished { already: true, .. } => eprintln!("the job had finished before: nothing to run"),
        Outcome::Finished { .. } => eprintln!("finished: the input has ended, everything is committed"),
        Outcome::Stopped { checkpoint, incomplete } => {
            let at = checkpoint.as_ref().map_or("before its first checkpoint".to_owned(), |c| {
                format!("at checkpoint {}: {}", c.epoch, place(&c.path))
            });
            eprintln!("stopped {at}");
            if let Some(reason) = incomplete {
                eprintln!(
                    "the last checkpoint is older than the stop: {reason}; the next run goes on from it, nothing is lost"
                );
            }
        }
        Outcome::Failed { failure, earlier, checkpoint } => {
            for line in earlier_failures(earlier, &failure.message) {
                eprintln!("{line}");
            }
            eprintln!("error: {}", failure.message);
            if let Some(checkpoint) = checkpoint {
                eprintln!("the last checkpoint is {}: {}", checkpoint.epoch, place(&checkpoint.path));
            }
            return failure.kind.into();
        }
        Outcome::StoodBy { over } => match over {
            None => eprintln!("stopped while standing by: the job goes on under its coordinator"),
            Some(StopReason::Finished) => eprintln!("the job has finished under its coordinator"),
            Some(StopReason::Stopped) => eprintln!("the job was stopped under its coordinator"),
            Some(StopReason::Failed) => {
                return refuse(Exit::RestartsExhausted, "the job has failed under its coordinator");
            }
        },
        Outcome::Fenced { by } => {
            let who = by.as_ref().map_or(String::new(), |s| {
                format!(": {} on {}, process {}", s.owner, s.address.host, s.address.process_id)
            });
            return refuse(Exit::State, &format!("another process took the job over{who}"));
        }
    }
    Exit::Success
}

/// One line per failure that differs from the final one, with how often it came, oldest first.
fn earlier_failures(earlier: &[String], last: &str) -> Vec<String> {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for reason in earlier.iter().map(String::as_str).filter(|reason| *reason != last) {
        match counted.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, times)) => *times += 1,
            None => counted.push((reason, 1)),
        }
    }
    let line = |(reason, times): (&str, usize)| match times {
        1 => format!("earlier failure: {reason}"),
        _ => format!("earlier failure, {times} times: {reason}"),
    };
    counted.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::earlier_failures;

    #[test]
    fn earlier_failures_are_told_once_and_only_where_they_differ() {
        let earlier = ["broker away", "store away", "broker away", "disk full"].map(str::to_owned);
        assert_eq!(
            earlier_failures(&earlier, "disk full"),
            ["earlier failure, 2 times: broker away", "earlier failure: store away"]
        );
        assert!(earlier_failures(&earlier[3..], "disk full").is_empty());
    }
}

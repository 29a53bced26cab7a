//! SIGINT and SIGTERM: the first asks for a good end (a last checkpoint, tasks that move), the second ends the process at
//! once.

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that ended by a signal's request, as shells state it for SIGINT.
const INTERRUPTED: i32 = 130;

/// What a second signal comes to where the job's master runs.
pub const GOES_ON: &str = "stopped at once: the next run goes on from the last sealed checkpoint";

/// Calls `request` with the first signal. `at_once`: what people are told with the second.
pub fn forward(request: impl Fn() + Send + 'static, at_once: &'static str) {
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            tracing::warn!("signals cannot be caught: the process cannot be asked to stop");
            return;
        };
        for second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if second {
                eprintln!("{at_once}");
                #[allow(clippy::disallowed_methods, reason = "the second signal ends the process here")]
                std::process::exit(INTERRUPTED);
            }
            request();
        }
    });
}

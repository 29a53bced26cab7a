//! SIGINT and SIGTERM: the first asks for a stop with a last checkpoint, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a process that ended by a signal's request, as shells state it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Turns true with the first signal.
pub fn stop_requests() -> watch::Receiver<bool> {
    let (request, requests) = watch::channel(false);
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            tracing::warn!("signals cannot be caught: the process cannot be stopped with a last checkpoint");
            // Keeps the channel open: a closed one would mean that nobody can ask.
            request.closed().await;
            return;
        };
        for second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if second {
                eprintln!("stopped at once: the next run goes on from the last sealed checkpoint");
                #[allow(clippy::disallowed_methods, reason = "the second signal ends the process here")]
                std::process::exit(INTERRUPTED);
            }
            request.send_replace(true);
        }
    });
    requests
}

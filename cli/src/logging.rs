//! The log on standard error: text for people, JSON for machines, little of it beside a live line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::args::LogFormat;

/// Whether a live line is shown, decided together with the log's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    LiveLine,
    LogOnly,
}

/// Installs the log. `MILLSTREAM_LOG` overrides the level (`info`, `debug`, `millstream_worker=debug`).
pub fn install(format: LogFormat) -> Display {
    let terminal = std::io::stderr().is_terminal();
    let display = if format == LogFormat::Auto && terminal { Display::LiveLine } else { Display::LogOnly };
    let default = if display == Display::LiveLine { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(terminal).init(),
    }
    display
}

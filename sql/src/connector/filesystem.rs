//! The filesystem connector, reading.

use millstream_api::graph::FilesystemSource;

use super::json;
use super::options::{Options, bad_value};
use crate::error::{Result, SqlError};

pub(super) fn parse(options: &mut Options<'_>) -> Result<FilesystemSource> {
    options.require(&[&["path"], &["format"]])?;
    options.refuse("source.monitor-interval", "files are read once, to their end")?;
    options.refuse("source.path.regex-pattern", "name a folder or a file in 'path'")?;
    options.refuse("source.report-statistics", "there is no batch planner to use them")?;
    let lacking = |key: &str, at| SqlError::at(at, format!("the connector 'filesystem' lacks the option '{key}'"));
    let position = options.position();
    let path = options.take("path").ok_or_else(|| lacking("path", position))?;
    let scheme = path.value.split_once("://").map(|(scheme, _)| scheme);
    let placed = path.value.starts_with("${");
    if path.value.is_empty() || scheme.is_some_and(|s| s != "file" && !placed) {
        return Err(bad_value(path, "a local path or file:// URI"));
    }
    let format = json::format(options, "format", "")?.ok_or_else(|| lacking("format", position))?;
    Ok(FilesystemSource { path: path.value.clone(), format })
}

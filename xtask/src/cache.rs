//! Where things lie that are fetched or built once and used by every clone.
//!
//! Owns: the folder and its lock. Does not own: how a tool gets there.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `MILLSTREAM_CACHE`, else `millstream` in the user's cache folder.
pub fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("MILLSTREAM_CACHE") {
        return Ok(folder);
    }
    let user = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(user.context("failed to find a cache folder: set MILLSTREAM_CACHE, XDG_CACHE_HOME or HOME")?.join("millstream"))
}

/// The tool `name` (its version in the name), made by `install` in an empty folder where it is not there yet.
///
/// A tool is there when its folder is: it gets its name only when `install` went through.
pub fn tool(name: &str, hint: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let tools = folder()?.join("tools");
    let tool = tools.join(name);
    if tool.exists() {
        return Ok(tool);
    }
    fs::create_dir_all(&tools).with_context(|| format!("failed to make {}", tools.display()))?;
    let _lock = lock(&tools.join("lock"), "another run that installs a tool")?;
    if tool.exists() {
        return Ok(tool);
    }
    eprintln!("installing {name} ({hint}) into {}", tool.display());
    let unfinished = tools.join(format!("{name}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("failed to remove {}", unfinished.display()))?;
    }
    fs::create_dir_all(&unfinished)?;
    install(&unfinished).with_context(|| format!("failed to install {name}"))?;
    fs::rename(&unfinished, &tool).with_context(|| format!("failed to name {}", tool.display()))?;
    Ok(tool)
}

/// Waits for the lock on `path` and says for whom it waits. Dropping the file gives it back, dying does too.
pub fn lock(path: &Path, holder: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("failed to make {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for {holder} ({})", path.display());
        file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    }
    Ok(file)
}

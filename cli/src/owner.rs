//! The user's state directory: who runs local jobs, and where their checkpoints go by default.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use millstream_api::log::Owner;

/// `$MILLSTREAM_STATE_DIR`, `$XDG_STATE_HOME/millstream` or `~/.local/state/millstream`. It need not be there: only who writes
/// makes it.
///
/// # Errors
/// When none of these is set.
pub fn state_directory() -> io::Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("MILLSTREAM_STATE_DIR")
        .or_else(|| from("XDG_STATE_HOME").map(|d| d.join("millstream")))
        .or_else(|| from("HOME").map(|d| d.join(".local/state/millstream")))
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "neither MILLSTREAM_STATE_DIR, XDG_STATE_HOME nor HOME is set")
        })
}

/// The owner of local jobs: `local-<random id>`, drawn once and kept in the state directory.
///
/// # Errors
/// When the file can neither be read nor made.
pub fn local_owner() -> io::Result<Owner> {
    let state_directory = state_directory()?;
    let path = state_directory.join("owner");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Owner(text.trim().to_owned())),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let owner = format!("local-{}", random_hex()?);
    fs::create_dir_all(&state_directory)?;
    let temporary = state_directory.join(format!("owner.{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(owner.as_bytes())?;
    file.sync_all()?;
    // Two first runs at once: the link of one wins, the other reads it.
    let linked = fs::hard_link(&temporary, &path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(Owner(owner)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(&path).map(|t| Owner(t.trim().to_owned()))
        }
        Err(e) => Err(e),
    }
}

/// 64 random bits in hexadecimal.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random_hex() -> io::Result<String> {
    let bits = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{bits:016x}"))
}

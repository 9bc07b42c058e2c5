//! Users of the machine, by name and number. PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::EmbeddedError;

/// Another user, for a process that root starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SystemUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Who runs PostgreSQL when we are root: whoever owns its directory already, else the user
/// `postgres`, else `nobody`.
pub(super) fn for_postgres(postgres_dir: &Path) -> Result<SystemUser, EmbeddedError> {
    if let Ok(metadata) = fs::metadata(postgres_dir)
        && metadata.uid() != 0
    {
        return Ok(SystemUser {
            uid: metadata.uid(),
            gid: metadata.gid(),
        });
    }
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| {
            Some(SystemUser {
                uid: id(&["-u", name])?.parse().ok()?,
                gid: id(&["-g", name])?.parse().ok()?,
            })
        })
        .filter(|user| user.uid != 0)
        .ok_or(EmbeddedError::NoUser)
}

/// The name of the user that this process runs as, as PostgreSQL will look it up.
pub(super) fn own_name() -> Result<String, EmbeddedError> {
    id(&["-un"])
        .filter(|name| !name.is_empty() && !name.contains('"') && !name.contains('\n'))
        .ok_or(EmbeddedError::NoName)
}

/// Asks `id`, which knows users from every source that the machine has, not only /etc/passwd.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

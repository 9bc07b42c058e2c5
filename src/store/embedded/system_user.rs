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
    ask("id", arguments)
}

/// What a program of the machine prints. Of our environment, where the master key may stand, it gets where programs are.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_program_that_is_asked_gets_nothing_of_our_environment_but_the_path() {
        // Cargo gives tests variables of its own, so there is something to keep back.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let path = std::env::var("PATH").unwrap();
        assert_eq!(ask("env", &[]).unwrap(), format!("PATH={path}"));
        assert!(id(&["-u"]).unwrap().parse::<u32>().is_ok());
    }
}

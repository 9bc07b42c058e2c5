//! PostgreSQL's programs: those of the machine, else fetched once.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use postgresql_embedded::{PostgreSQL, VersionReq};

use super::EmbeddedError;
use crate::store::data_dir::{self, DataDir};

/// The oldest version that the migrations run on.
pub(super) const OLDEST_MAJOR: u32 = 14;

/// What is fetched when the machine has none and no data asks for another.
const FETCHED_MAJOR: u32 = 17;

/// A slow line may need a while for some 30 MiB.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// How many directories lie in each other in what is fetched, and some more.
const FETCHED_DEPTH: u32 = 12;

/// Where packages put PostgreSQL's programs, other than on `PATH`: a directory, the beginning of
/// a name in it, and the way from there.
const PACKAGED: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr/local", "pgsql", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
];

/// A directory with `postgres` and `initdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

/// Finds PostgreSQL's programs: of version `wanted` where data of that version exists, else those
/// on `PATH`, else the newest. Fetches them when there are none. `search` replaces the places of
/// the machine; `another_user` says that someone else must be able to run them.
pub(super) async fn find_or_fetch(
    data: &DataDir,
    wanted: Option<u32>,
    search: Option<&[PathBuf]>,
    another_user: bool,
) -> Result<Binaries, EmbeddedError> {
    let fetched = data.place().join("postgresql");
    let on_path = match search {
        Some(dirs) => dirs.to_vec(),
        None => dirs_on_path(),
    };
    let mut elsewhere = children(&fetched, "", "bin");
    if search.is_none() {
        for (dir, beginning, rest) in PACKAGED {
            elsewhere.extend(children(Path::new(dir), beginning, rest));
        }
    }

    let mut closed = None;
    let mut usable = |dir: &PathBuf| -> Option<Binaries> {
        let binaries = inspect(dir)?;
        let fits = wanted.map_or(binaries.major >= OLDEST_MAJOR, |major| {
            major == binaries.major
        });
        if !fits {
            return None;
        }
        match data_dir::closed_to_others(&binaries.dir) {
            Ok(Some(dir)) if another_user => {
                closed = Some((binaries.dir, dir));
                None
            }
            _ => Some(binaries),
        }
    };
    let found = on_path.iter().find_map(&mut usable).or_else(|| {
        elsewhere
            .iter()
            .filter_map(&mut usable)
            .max_by_key(|binaries| binaries.major)
    });
    match (found, closed) {
        (Some(binaries), _) => Ok(binaries),
        (None, Some((dir, closed))) => Err(EmbeddedError::ProgramsClosed { dir, closed }),
        (None, None) => fetch(&fetched, wanted).await,
    }
}

/// Fetches PostgreSQL from the release page of postgresql_embedded, which also checks its sum.
async fn fetch(into: &Path, wanted: Option<u32>) -> Result<Binaries, EmbeddedError> {
    let major = wanted.unwrap_or(FETCHED_MAJOR);
    let failed = |reason: String| EmbeddedError::NoPrograms {
        major,
        wanted: wanted.is_some(),
        reason,
    };
    tracing::info!(major, "no PostgreSQL on this machine: fetching it");

    // `setup` also runs initdb, as the wrong user; a directory that looks initialised keeps it
    // from that.
    let looks_initialised = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    fs::write(looks_initialised.path().join("postgresql.conf"), "")
        .map_err(|error| failed(error.to_string()))?;
    let settings = postgresql_embedded::Settings {
        version: VersionReq::parse(&major.to_string())
            .map_err(|error| failed(error.to_string()))?,
        installation_dir: into.to_owned(),
        data_dir: looks_initialised.path().to_owned(),
        password_file: looks_initialised.path().join("unused"),
        temporary: false,
        ..postgresql_embedded::Settings::default()
    };
    let mut postgresql = PostgreSQL::new(settings);
    match tokio::time::timeout(FETCH_TIMEOUT, postgresql.setup()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => {
            return Err(failed(format!(
                "the download took more than {} seconds",
                FETCH_TIMEOUT.as_secs()
            )));
        }
    }
    // What is unpacked is closed to others, and when we are root another user runs it.
    open_to_others(into, FETCHED_DEPTH).map_err(|error| failed(error.to_string()))?;
    inspect(&postgresql.settings().binary_dir())
        .ok_or_else(|| failed("what was fetched does not run here".to_owned()))
}

/// Lets everybody enter `dir` and the directories in it. The files came with their modes.
fn open_to_others(dir: &Path, depth: u32) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_to_others(&entry.path(), depth - 1)?;
        }
    }
    Ok(())
}

/// The directories that `PATH` leads to, links followed: a link to `initdb` alone is no installation.
fn dirs_on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|dir| {
            ["postgres", "pg_ctl"]
                .iter()
                .find_map(|name| fs::canonicalize(dir.join(name)).ok())
        })
        .filter_map(|program| program.parent().map(Path::to_owned))
        .collect()
}

fn children(dir: &Path, beginning: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning))
        .map(|entry| entry.path().join(rest))
        .collect()
}

/// What lies in `dir`, if it is an installation that runs.
fn inspect(dir: &Path) -> Option<Binaries> {
    let dir = fs::canonicalize(dir).ok()?;
    if !dir.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
    Some(Binaries { dir, major })
}

/// The 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, and of a cluster's `PG_VERSION`.
pub(super) fn major_of(text: &str) -> Option<u32> {
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn versions_are_read_as_packages_write_them() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("16\n"), Some(16));
        assert_eq!(major_of("postgres (PostgreSQL) devel"), None);
    }
}

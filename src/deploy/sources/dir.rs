//! Directories of this machine: for administrators, below the roots that were configured, copied without links.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::failure::SourceFailure;
use super::tree::{Tree, TreeError};

/// Of one directory: files and directories, and bytes.
const ENTRIES_MAX: usize = 20_000;
const SIZE_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// What was left out of a copy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub links: usize,
    pub env_files: usize,
}

impl LeftOut {
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.links > 0 {
            notes.push(format!(
                "{} symbolic links were left out of the copy.",
                self.links
            ));
        }
        if self.env_files > 0 {
            notes.push(
                "Its .env files were left out of the copy: store what they hold as secrets.".into(),
            );
        }
        notes
    }
}

/// The real path of a directory below one of the roots. Errors: a sentence that does not tell what else is there.
pub(super) fn resolve(path: &str, roots: &[PathBuf]) -> Result<PathBuf, SourceFailure> {
    if roots.is_empty() {
        return Err(SourceFailure::wrong(
            "Directories are switched off here. An operator can name their roots in SEALPORT_DIR_ROOTS.",
        ));
    }
    let outside = || {
        SourceFailure::wrong("There is no such directory below the roots in SEALPORT_DIR_ROOTS.")
    };
    let real = std::fs::canonicalize(path).map_err(|_| outside())?;
    let below = roots
        .iter()
        .filter_map(|root| std::fs::canonicalize(root).ok())
        .any(|root| real.starts_with(&root));
    match below && real.is_dir() {
        true => Ok(real),
        false => Err(outside()),
    }
}

/// Copies what is in `from` into `to/<directory>`, which is there and empty. Blocks.
pub(super) fn copy(
    from: &Path,
    to: &Tree,
    directory: &str,
    owner: Option<u32>,
) -> Result<LeftOut, SourceFailure> {
    let wrong = |error: TreeError| SourceFailure::wrong(error.to_string());
    let source = Tree::open(from).map_err(wrong)?;
    let enter = |_: &str, name: &str| !is_left_out(name);
    let entries = source.walk(ENTRIES_MAX, &enter).map_err(wrong)?;
    let total: u64 = entries
        .iter()
        .filter(|entry| entry.kind == FileType::RegularFile)
        .map(|entry| entry.len_bytes)
        .sum();
    if total > SIZE_MAX_BYTES {
        return Err(SourceFailure::wrong(format!(
            "The directory holds more than {} MiB.",
            SIZE_MAX_BYTES / (1024 * 1024)
        )));
    }
    let broken = |error: std::io::Error| super::job::broken(&error);
    let mut left_out = LeftOut::default();
    let mut room = SIZE_MAX_BYTES;
    for entry in entries {
        let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
        let target = format!("{directory}/{}", entry.path);
        match entry.kind {
            _ if is_left_out(name) => {}
            FileType::Directory => to.make_directory(&target, owner).map_err(broken)?,
            FileType::RegularFile if is_env_file(name) => left_out.env_files += 1,
            FileType::RegularFile => {
                // It may have become a link or longer since it was listed.
                let Ok(Some((file, _))) = source.file(&entry.path) else {
                    continue;
                };
                let mut file = std::io::Read::take(file, room);
                room -= to
                    .write_new(&target, &mut file, entry.mode & 0o100 != 0, owner)
                    .map_err(broken)?;
            }
            FileType::Symlink => left_out.links += 1,
            _ => {}
        }
    }
    Ok(left_out)
}

/// What is made anew by installing, and the history.
fn is_left_out(name: &str) -> bool {
    matches!(
        name,
        "node_modules"
            | ".git"
            | ".venv"
            | "venv"
            | "__pycache__"
            | ".tox"
            | ".mypy_cache"
            | ".pytest_cache"
    )
}

/// `.env` and `.env.local`, not `.env.example`.
fn is_env_file(name: &str) -> bool {
    name == ".env"
        || name.strip_prefix(".env.").is_some_and(|rest| {
            !matches!(
                rest,
                "example" | "sample" | "template" | "dist" | "defaults"
            )
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_below_the_roots() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("server")).unwrap();
        fs::create_dir_all(place.path().join("rooted")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink(root.join("server"), root.join("in")).unwrap();
        let roots = [root.clone()];
        let ask = |path: &Path| resolve(path.to_str().unwrap(), &roots);

        assert!(ask(&root.join("server")).is_ok());
        assert_eq!(
            ask(&root.join("in")).unwrap(),
            fs::canonicalize(root.join("server")).unwrap()
        );
        for refused in [
            root.join("out"),
            root.join("file"),
            root.join("none"),
            place.path().join("rooted"),
            place.path().to_owned(),
            "/etc".into(),
        ] {
            assert!(ask(&refused).is_err(), "{}", refused.display());
        }
        assert!(resolve(root.to_str().unwrap(), &[]).is_err());
    }

    #[test]
    fn a_copy_has_no_links_and_no_env_files() {
        let place = tempfile::tempdir().unwrap();
        let (from, home) = (place.path().join("from"), place.path().join("home"));
        fs::create_dir_all(from.join("src/node_modules/x")).unwrap();
        fs::create_dir_all(home.join("app")).unwrap();
        for file in [
            "package.json",
            "src/index.js",
            "src/node_modules/x/i.js",
            ".env",
            ".env.local",
            ".env.example",
        ] {
            fs::write(from.join(file), file).unwrap();
        }
        symlink("/etc/shadow", from.join("src/shadow")).unwrap();

        let left_out = copy(&from, &Tree::open(&home).unwrap(), "app", None).unwrap();

        assert_eq!(
            left_out,
            LeftOut {
                links: 1,
                env_files: 2
            }
        );
        let mut copied: Vec<String> = Tree::open(&home)
            .unwrap()
            .walk(100, &|_, _| true)
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .collect();
        copied.sort();
        assert_eq!(
            copied,
            [
                "app",
                "app/.env.example",
                "app/package.json",
                "app/src",
                "app/src/index.js"
            ]
        );
    }
}

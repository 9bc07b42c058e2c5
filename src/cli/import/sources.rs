//! What is imported: files of variables, files that are one value, directories of both, the environment.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::cli::failures::{Exit, Failure};
use crate::cli::typed::without_line_end;
use crate::model::imports::{FileFormat, IMPORT_LEN_BYTES, Note};
use crate::store::env_files::{self, EnvFile};

/// The most entries of a directory that are looked at.
const DIR_ENTRIES_MAX: usize = 10_000;

/// A value and where it was found.
pub struct Entry {
    pub name: String,
    pub value: SecretString,
    /// As in `.env, line 3`.
    pub place: String,
    pub file: Option<PathBuf>,
    pub notes: Vec<Note>,
}

/// All that was found, and what was not taken: nothing is left out in silence.
#[derive(Default)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Names without a value, as in `A=`.
    pub empty: Vec<String>,
    /// What could not be read as a variable.
    pub unread: Vec<Lost>,
    /// Files of a directory that are of another kind.
    pub passed_over: Vec<String>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
}

/// What could not be read, where, and why.
pub struct Lost {
    pub file: Option<PathBuf>,
    pub said: String,
}

impl Found {
    pub fn in_file(path: &Path) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let metadata =
            fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if metadata.is_dir() {
            found.add_dir(path)?;
        } else {
            found.add_file(path)?;
        }
        Ok(found)
    }

    pub fn in_environment(names: &[String]) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let mut missing = Vec::new();
        for name in names {
            match std::env::var(name) {
                Ok(value) if value.is_empty() => found.empty.push(name.to_string()),
                Ok(value) => found.entries.push(Entry {
                    name: name.to_string(),
                    value: SecretString::from(value),
                    place: "the environment".into(),
                    file: None,
                    notes: Vec::new(),
                }),
                Err(std::env::VarError::NotPresent) => missing.push(name.as_str()),
                Err(std::env::VarError::NotUnicode(_)) => {
                    found.unread.push(Lost {
                        file: None,
                        said: format!("{name}: it is no UTF-8 text."),
                    });
                }
            }
        }
        if !missing.is_empty() {
            bail!(Failure::new(
                Exit::NotFound,
                format!("Not in the environment: {}.", missing.join(", "))
            ));
        }
        Ok(found)
    }

    /// `*.secret`, `*.key`, `.env` and `*.env`, by name. Links that lead out of the directory are not followed.
    fn add_dir(&mut self, dir: &Path) -> anyhow::Result<()> {
        let unreadable = || format!("{} cannot be read", dir.display());
        let root = dir.canonicalize().with_context(unreadable)?;
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).with_context(unreadable)? {
            paths.push(entry.with_context(unreadable)?.path());
            if paths.len() > DIR_ENTRIES_MAX {
                bail!(
                    "{} has more than {DIR_ENTRIES_MAX} entries. Give the files one by one.",
                    dir.display()
                );
            }
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours = [".secret", ".key", ".env"]
                .iter()
                .any(|end| name.ends_with(end));
            let inside = path
                .canonicalize()
                .is_ok_and(|real| real.starts_with(&root));
            if !inside {
                self.passed_over
                    .push(format!("{name} (a link that leads out of the directory)"));
            } else if is_ours && path.is_file() {
                self.add_file(&path)?;
            } else {
                self.passed_over.push(name.into_owned());
            }
        }
        if self.files.is_empty() {
            bail!(Failure::new(
                Exit::NotFound,
                format!(
                    "{} has no *.secret, *.key or .env file. Give a file by its name to import another.",
                    dir.display()
                )
            ));
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = read(path)?;
        let extension = path.extension().and_then(OsStr::to_str);
        self.files.push(path.to_owned());
        if let Some("secret" | "key") = extension {
            return self.add_value(path, &bytes);
        }
        let file = match extension {
            Some("json") => env_files::parse_as(FileFormat::Json, &bytes),
            Some("yaml" | "yml") => env_files::parse_as(FileFormat::Yaml, &bytes),
            _ => env_files::parse(&bytes),
        };
        let file = file
            .map_err(|refusal| Failure::usage(format!("{}: {}", path.display(), refusal.detail)))?;
        self.add_lines(path, file);
        Ok(())
    }

    /// A file that is one value, named like it.
    fn add_value(&mut self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let place = path.display().to_string();
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let Ok(text) = str::from_utf8(bytes) else {
            self.unread.push(Lost {
                file: Some(path.to_owned()),
                said: format!("{place}: it is no UTF-8 text. Store it as base64."),
            });
            return Ok(());
        };
        let value = without_line_end(text);
        if value.is_empty() {
            self.empty.push(place);
            return Ok(());
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            value: SecretString::from(value),
            place,
            file: Some(path.to_owned()),
            notes: Vec::new(),
        });
        Ok(())
    }

    fn add_lines(&mut self, path: &Path, file: EnvFile) {
        let what = match file.format {
            FileFormat::Json => "entry",
            FileFormat::Dotenv | FileFormat::Yaml => "line",
        };
        for line in file.lines {
            let place = format!("{}, {what} {}", path.display(), line.at);
            match line.read {
                Ok(variable) => self.entries.push(Entry {
                    name: variable.name,
                    value: variable.value,
                    place,
                    file: Some(path.to_owned()),
                    notes: variable.notes,
                }),
                Err(unread) => {
                    let is_empty = unread.is_empty();
                    let name = unread
                        .name
                        .map(|name| format!(", {name}"))
                        .unwrap_or_default();
                    if is_empty {
                        self.empty.push(format!("{place}{name}"));
                    } else {
                        self.unread.push(Lost {
                            file: Some(path.to_owned()),
                            said: format!("{place}{name}: {}", unread.reason),
                        });
                    }
                }
            }
        }
    }
}

/// Up to one byte more than is taken, so that what is longer is noticed.
fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(IMPORT_LEN_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_directory_gives_its_secrets_and_tells_of_all_else() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dir");
        fs::create_dir_all(dir.join("below.secret")).unwrap();
        fs::write(place.path().join("outside.key"), "out").unwrap();
        for (name, text) in [
            ("OPENAI.secret", "one\n"),
            ("tls.key", "-----BEGIN\nx\n-----END\n"),
            (".env", "A=1\nB=\nC"),
            ("prod.env", "D=2"),
            ("empty.secret", "\n"),
            ("README.md", "A=9"),
            (".env.example", "A=9"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        fs::write(dir.join("bytes.secret"), [0xff]).unwrap();
        symlink(place.path().join("outside.key"), dir.join("link.key")).unwrap();
        symlink("OPENAI.secret", dir.join("same.secret")).unwrap();
        symlink("nowhere", dir.join("dangling.key")).unwrap();

        let found = Found::in_file(&dir).unwrap();
        let entries: Vec<(&str, &str)> = found
            .entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.value.expose_secret()))
            .collect();
        assert_eq!(
            entries,
            [
                ("A", "1"),
                ("OPENAI", "one"),
                ("D", "2"),
                ("same", "one"),
                ("tls", "-----BEGIN\nx\n-----END\n"),
            ]
        );
        let ends = |said: &[String]| -> Vec<String> {
            let cut = |said: &String| said.rsplit('/').next().unwrap().to_owned();
            said.iter().map(cut).collect()
        };
        assert_eq!(ends(&found.empty), [".env, line 2, B", "empty.secret"]);
        assert_eq!(found.unread.len(), 2);
        assert_eq!(
            found.passed_over,
            [
                ".env.example",
                "README.md",
                "below.secret",
                "dangling.key (a link that leads out of the directory)",
                "link.key (a link that leads out of the directory)",
            ]
        );
    }
}

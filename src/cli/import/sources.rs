//! What is imported: files of variables, files that are one value, directories of both, the environment.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::cli::failures::{Exit, Failure};
use crate::cli::typed::without_line_end;
use crate::model::errors::Refusal;
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
    /// In JSON the place in the object.
    pub line: Option<u32>,
    pub notes: Vec<Note>,
}

/// All that was found, and what was not taken: nothing is left out in silence.
#[derive(Default)]
pub struct Found {
    pub entries: Vec<Entry>,
    /// Names without a value, as in `A=`.
    pub empty: Vec<Empty>,
    /// What could not be read as a variable.
    pub unread: Vec<Lost>,
    /// Files of a directory that are of another kind.
    pub passed_over: Vec<String>,
    /// All files that were read.
    pub files: Vec<PathBuf>,
}

/// A name without a value: it is left out.
pub struct Empty {
    pub file: Option<PathBuf>,
    pub place: String,
    /// Why something may be lost with it.
    pub loses: Option<&'static str>,
}

/// What could not be read, where, and why.
pub struct Lost {
    pub file: Option<PathBuf>,
    pub said: String,
}

impl Found {
    /// A file or a directory; `-` is standard input. The format goes by the name, unless it is given.
    pub fn in_file(path: &Path, format: Option<FileFormat>) -> anyhow::Result<Found> {
        let mut found = Found::default();
        if path == Path::new("-") {
            let bytes = read_from(std::io::stdin(), path)?;
            let file = parsed(format, &bytes)
                .map_err(|refusal| Failure::usage(format!("Standard input: {}", refusal.detail)))?;
            found.add_lines(None, file);
            return Ok(found);
        }
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if metadata.is_dir() {
            found.add_dir(path, format)?;
        } else {
            found.add_file(path, format)?;
        }
        Ok(found)
    }

    pub fn in_environment(names: &[String]) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let mut missing = Vec::new();
        for name in names {
            match std::env::var(name) {
                Ok(value) if value.is_empty() => found.empty.push(Empty {
                    file: None,
                    place: name.to_string(),
                    loses: None,
                }),
                Ok(value) => found.entries.push(Entry {
                    name: name.to_string(),
                    value: SecretString::from(value),
                    place: "the environment".into(),
                    file: None,
                    line: None,
                    notes: Vec::new(),
                }),
                Err(std::env::VarError::NotPresent) => missing.push(name.as_str()),
                Err(std::env::VarError::NotUnicode(_)) => {
                    found.unread.push(Lost {
                        file: None,
                        said: format!("{name}: it is not UTF-8 text."),
                    });
                }
            }
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            bail!(Failure::usage(format!(
                "Not in the environment: {missing}."
            )));
        }
        Ok(found)
    }

    /// `*.secret`, `*.key`, `.env` and `*.env`, by name. Links that lead out of the directory are not followed.
    fn add_dir(&mut self, dir: &Path, format: Option<FileFormat>) -> anyhow::Result<()> {
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
                self.add_file(&path, format)?;
            } else {
                self.passed_over.push(name.into_owned());
            }
        }
        if self.files.is_empty() {
            bail!(Failure::new(
                Exit::Usage,
                format!(
                    "{} has no *.secret, *.key or .env file. Give a file by its name to import another.",
                    dir.display()
                )
            ));
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, format: Option<FileFormat>) -> anyhow::Result<()> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let bytes = read_from(file, path)?;
        let extension = path.extension().and_then(OsStr::to_str);
        self.files.push(path.to_owned());
        if let Some("secret" | "key") = extension {
            return self.add_value(path, &bytes);
        }
        let format = format.or(match extension {
            Some("json") => Some(FileFormat::Json),
            Some("yaml" | "yml") => Some(FileFormat::Yaml),
            _ => None,
        });
        let file = parsed(format, &bytes)
            .map_err(|refusal| Failure::usage(format!("{}: {}", path.display(), refusal.detail)))?;
        self.add_lines(Some(path), file);
        Ok(())
    }

    /// A file that is one value, named like it.
    fn add_value(&mut self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let place = path.display().to_string();
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let Ok(text) = str::from_utf8(bytes) else {
            self.unread.push(Lost {
                file: Some(path.to_owned()),
                said: format!("{place}: it is not UTF-8 text. Store it as base64."),
            });
            return Ok(());
        };
        let value = without_line_end(text);
        if value.is_empty() {
            self.empty.push(Empty {
                file: Some(path.to_owned()),
                place,
                loses: None,
            });
            return Ok(());
        }
        self.entries.push(Entry {
            name: name.to_owned(),
            value: SecretString::from(value),
            place,
            file: Some(path.to_owned()),
            line: None,
            notes: Vec::new(),
        });
        Ok(())
    }

    fn add_lines(&mut self, path: Option<&Path>, file: EnvFile) {
        let what = match file.format {
            FileFormat::Json => "entry",
            FileFormat::Dotenv | FileFormat::Yaml => "line",
        };
        let file_of = path.map(Path::to_owned);
        let named = path.map_or_else(
            || "standard input".into(),
            |path| path.display().to_string(),
        );
        for line in file.lines {
            let place = format!("{named}, {what} {}", line.at);
            match line.read {
                Ok(variable) => self.entries.push(Entry {
                    name: variable.name,
                    value: variable.value,
                    place,
                    file: file_of.clone(),
                    line: Some(line.at),
                    notes: variable.notes,
                }),
                Err(unread) => {
                    let (is_empty, loses) = (unread.is_empty(), unread.loses());
                    let name = unread
                        .name
                        .map(|name| format!(", {name}"))
                        .unwrap_or_default();
                    if is_empty {
                        self.empty.push(Empty {
                            file: file_of.clone(),
                            place: format!("{place}{name}"),
                            loses: loses.then_some(unread.reason),
                        });
                    } else {
                        self.unread.push(Lost {
                            file: file_of.clone(),
                            said: format!("{place}{name}: {}", unread.reason),
                        });
                    }
                }
            }
        }
    }
}

fn parsed(format: Option<FileFormat>, bytes: &[u8]) -> Result<EnvFile, Refusal> {
    match format {
        Some(format) => env_files::parse_as(format, bytes),
        None => env_files::parse(bytes),
    }
}

/// Up to one byte more than is taken, so that what is longer is noticed.
fn read_from(source: impl Read, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    source
        .take(IMPORT_LEN_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

/// One that is not there is a mistake in the command line.
fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::Usage,
        _ => Exit::No,
    };
    Failure::new(exit, format!("{} cannot be read: {error}", path.display()))
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

        let found = Found::in_file(&dir, None).unwrap();
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
        let ends = found
            .empty
            .iter()
            .map(|empty| empty.place.rsplit('/').next().unwrap());
        // Behind a value without quotes it may be a piece of it.
        assert_eq!(Vec::from_iter(ends), [".env, line 2", "empty.secret"]);
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

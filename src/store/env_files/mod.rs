//! Files of variables, `.env`, JSON and YAML, read into values and written from them. Nothing here prints a value, and a name
//! that may be a piece of one is not told either.

mod dotenv;
mod json;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

use secrecy::{ExposeSecret, SecretString};

pub use self::write::{write_dotenv, write_json, write_shell};
use crate::model::errors::Refusal;
use crate::model::imports::{FileFormat, IMPORT_LEN_BYTES, IMPORT_LINES_MAX, Note};

/// What a file has, in its order.
pub struct EnvFile {
    pub format: FileFormat,
    pub lines: Vec<Line>,
}

/// One variable, or what could not be read as one.
pub struct Line {
    /// The line on which it begins; in JSON the place in the object. From 1.
    pub at: u32,
    pub read: Result<Variable, Unread>,
}

pub struct Variable {
    pub name: String,
    pub value: SecretString,
    pub notes: Vec<Note>,
}

/// Why a line is none.
pub struct Unread {
    /// Where it cannot be a piece of a value.
    pub name: Option<String>,
    pub reason: &'static str,
}

/// Reads a file. JSON begins with a brace; all else is `.env`. Errors: `Invalid` at `file` for what is no such file as a whole.
pub fn parse(file: &[u8]) -> Result<EnvFile, Refusal> {
    let text = text_of(file)?;
    if text.trim_start().starts_with(['{', '[']) {
        some_of(json::parse(text)?)
    } else {
        some_of(dotenv::parse(text)?)
    }
}

/// Reads a file whose format is known, as by its name. Errors: as `parse`.
pub fn parse_as(format: FileFormat, file: &[u8]) -> Result<EnvFile, Refusal> {
    let text = text_of(file)?;
    some_of(match format {
        FileFormat::Dotenv => dotenv::parse(text)?,
        FileFormat::Json => json::parse(text)?,
        FileFormat::Yaml => yaml::parse(text)?,
    })
}

fn text_of(file: &[u8]) -> Result<&str, Refusal> {
    if file.len() > IMPORT_LEN_BYTES {
        return Err(Refusal::invalid(
            "file",
            format!(
                "A file has at most {} MiB. Import it in parts.",
                IMPORT_LEN_BYTES / (1024 * 1024)
            ),
        ));
    }
    // UTF-16 without a mark passes for UTF-8 with a NUL beside each letter, and no value can hold one.
    let text = str::from_utf8(file)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| {
            Refusal::invalid(
                "file",
                "This is not UTF-8 text. Save the file as UTF-8, then try again.",
            )
        })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn some_of(file: EnvFile) -> Result<EnvFile, Refusal> {
    if file.lines.is_empty() {
        return Err(Refusal::invalid(
            "file",
            "There is no variable in it. A line of a .env file looks like NAME=value.",
        ));
    }
    Ok(file)
}

/// Variables that come from no file, each with its place in the list as its line.
pub fn of_entries(entries: Vec<(String, SecretString)>) -> EnvFile {
    let lines = entries
        .into_iter()
        .zip(1..)
        .map(|((name, value), at)| Line {
            at,
            read: variable(name, value.expose_secret().to_owned(), Vec::new()),
        })
        .collect();
    EnvFile {
        format: FileFormat::Json,
        lines,
    }
}

fn too_many() -> Refusal {
    Refusal::invalid(
        "file",
        format!("A file has at most {IMPORT_LINES_MAX} variables. Import it in parts."),
    )
}

const EMPTY: &str = "It has no value.";
const EMPTY_COMMENT: &str = "It has no value: the text after # was taken for a comment. Put it in quotes if it is the value.";
const EMPTY_AFTER: &str = "It has no value, and may be the end of the one before it. If so, put that one in quotes, and all of it between them.";

/// A value under its name, with a note of how many lines it has.
fn variable(name: String, value: String, mut notes: Vec<Note>) -> Result<Variable, Unread> {
    if value.is_empty() {
        return Err(Unread {
            name: Some(name),
            reason: EMPTY,
        });
    }
    if value.contains('\n') {
        notes.push(Note::Lines(value.lines().count() as u32));
    }
    Ok(Variable {
        name,
        value: SecretString::from(value),
        notes,
    })
}

/// Whether a path can have it: what breaks this may be a piece of a value, and is not told.
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    !name.is_empty() && name.bytes().all(fits)
}

impl Variable {
    /// Text of its line is not stored, and may have been meant as a part of the value.
    pub fn loses(&self) -> bool {
        self.notes.contains(&Note::Comment)
    }
}

impl Unread {
    /// There is a name, and no value: it can be left out. Whether something is lost by that, `loses` says.
    pub fn is_empty(&self) -> bool {
        self.loses()
            || self.name.is_some() && [EMPTY, json::NULL, yaml::NULL].contains(&self.reason)
    }

    /// It has no value, and what stands in its line may be a piece of one all the same.
    pub fn loses(&self) -> bool {
        [EMPTY_COMMENT, EMPTY_AFTER].contains(&self.reason)
    }

    fn nameless(reason: &'static str) -> Self {
        Unread { name: None, reason }
    }
}

/// Whether something would be filled in here elsewhere: `${NAME}` or `$NAME`.
fn has_reference(value: &str) -> bool {
    value.split('$').skip(1).any(|rest| {
        let name = rest.strip_prefix('{').unwrap_or(rest);
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

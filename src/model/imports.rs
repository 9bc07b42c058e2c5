//! An import on its way: what a pasted or uploaded file would do, line by line, without a value of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::errors::Refusal;
use super::paths::SecretPath;

/// The largest file, in bytes.
pub const IMPORT_LEN_BYTES: usize = 1024 * 1024;
/// The most variables, good and bad together, of one file.
pub const IMPORT_LINES_MAX: usize = 500;
/// How long an import waits for its person to decide.
pub const IMPORT_WAITS_MINUTES: i32 = 15;

/// What an import would do. The values wait sealed in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    pub id: Uuid,
    pub under: Destination,
    pub format: FileFormat,
    pub lines: Vec<ImportLine>,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl Import {
    /// The lines of each path that stands in the file more than once, paths that differ in case together.
    pub fn twins(&self) -> BTreeMap<String, Vec<u32>> {
        Self::twins_of(&self.lines)
    }

    /// The same of lines that wait nowhere.
    pub fn twins_of<'a>(
        lines: impl IntoIterator<Item = &'a ImportLine>,
    ) -> BTreeMap<String, Vec<u32>> {
        let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for line in lines.into_iter().filter(|line| line.can_be_taken()) {
            places.entry(line.key()).or_default().push(line.at);
        }
        places.retain(|_, lines| lines.len() > 1);
        places
    }
}

/// One variable of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportLine {
    /// The line on which it begins; in JSON the place in the object. From 1.
    pub at: u32,
    /// None where the name breaks the grammar: what stands there may be a piece of a value, and is not shown.
    pub path: Option<SecretPath>,
    pub state: LineState,
    pub notes: Vec<Note>,
}

impl ImportLine {
    /// Whether there is anything to decide: it is new, or would replace.
    pub fn can_be_taken(&self) -> bool {
        match self.state {
            LineState::New | LineState::Different | LineState::Exists => self.path.is_some(),
            LineState::Same | LineState::Invalid { .. } => false,
        }
    }

    /// What two lines of one path have in common, also where they differ in case.
    pub fn key(&self) -> String {
        self.path
            .as_ref()
            .map_or(String::new(), |path| path.as_str().to_ascii_lowercase())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum LineState {
    /// Nothing is stored under this path.
    New,
    /// What is stored has this very value.
    Same,
    /// What is stored has another value.
    Different,
    /// Something is stored, and whether its value is the same is not told.
    Exists,
    Invalid {
        reason: String,
    },
}

/// What a person should know of how a line was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// `${REF}` or `$REF` in it.
    Reference,
    /// A `#` in an unquoted value.
    Hash,
    /// Text behind a `#` was taken for a comment: it is no part of what is stored.
    Comment,
    /// It goes on over so many lines.
    Lines(u32),
    /// Its text was a JSON number, `true` or `false`.
    NoText,
    /// Too short to be masked.
    Short,
    /// Its default variable is refused everywhere.
    Refused,
    /// What is stored is switched off or has expired.
    Closed,
}

impl Note {
    pub fn sentence(self) -> String {
        match self {
            Note::Reference => {
                "It has a reference such as ${NAME}, which stays as it is: nothing is filled in."
                    .into()
            }
            Note::Hash => {
                "The # belongs to the value. Some programs would end the value there.".into()
            }
            Note::Comment => {
                "The text after # was taken for a comment, and is not stored. Put it in the quotes if it belongs to the value."
                    .into()
            }
            Note::Lines(count) => format!("The value has {count} lines."),
            Note::NoText => "A number, true or false: stored as its text.".into(),
            Note::Short => "Too short to be masked in what a server says.".into(),
            Note::Refused => {
                "A deployment cannot have a variable of this name: choose another when you bind it."
                    .into()
            }
            Note::Closed => {
                "What is stored is switched off or has expired, and stays so with a new value."
                    .into()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    Dotenv,
    Json,
    Yaml,
}

/// Where imported names go: nothing for bare names, or a path's beginning with its slash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination(String);

impl Destination {
    /// With or without its last slash. Errors: `Invalid` at the field `under`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let raw = raw.trim();
        if raw.is_empty() {
            return Ok(Destination::default());
        }
        let folder = format!("{}/", raw.strip_suffix('/').unwrap_or(raw));
        // Any name tells whether names can stand there.
        SecretPath::parse(&format!("{folder}X")).map_err(|refusal| refusal.at("under"))?;
        Ok(Destination(folder))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Errors: `Invalid`, as of a path.
    pub fn join(&self, name: &str) -> Result<SecretPath, Refusal> {
        SecretPath::parse(&format!("{}{name}", self.0))
    }
}

impl TryFrom<String> for Destination {
    type Error = Refusal;
    fn try_from(raw: String) -> Result<Self, Refusal> {
        Destination::parse(&raw)
    }
}

impl From<Destination> for String {
    fn from(folder: Destination) -> String {
        folder.0
    }
}

/// What a program wants where something is stored already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Nothing of the import is stored.
    #[default]
    Fail,
    /// What is stored stays.
    Skip,
    Replace,
}

/// What an import does with one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryOutcome {
    Create,
    Replace,
    /// What is stored has this very value.
    Same,
    /// Something is stored, and stays.
    Skip,
    /// Something is stored, and nothing is imported for its sake.
    Conflict,
    /// It can stand nowhere; nothing is imported for its sake.
    Invalid,
}

/// One entry of an import by a program, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    /// In the list, from 1.
    pub at: u32,
    /// None where the name breaks the grammar.
    pub path: Option<SecretPath>,
    pub outcome: EntryOutcome,
    /// Sentences that quote nothing.
    pub notes: Vec<String>,
}

/// What an import by a program did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesImported {
    pub applied: bool,
    /// Whether it is a right that is missing, at one of the lines.
    pub denied: bool,
    pub lines: Vec<EntryLine>,
}

impl EntriesImported {
    /// Whether anything stands in the way.
    pub fn is_refused(&self) -> bool {
        let stops = |outcome| matches!(outcome, EntryOutcome::Conflict | EntryOutcome::Invalid);
        self.lines.iter().any(|line| stops(line.outcome))
    }
}

/// What came of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: usize,
    pub replaced: usize,
    pub left_out: usize,
}

impl Imported {
    pub fn sentence(self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            1 => " One line was left out.".to_owned(),
            count => format!(" {count} lines were left out."),
        };
        format!(
            "{} added, {} replaced.{left_out} They are sealed, and cannot be shown here again.",
            self.added, self.replaced
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_where_names_can_stand() {
        for (raw, folder) in [
            ("", ""),
            ("  ", ""),
            ("project/shop", "project/shop/"),
            (" service/shop/eu/ ", "service/shop/eu/"),
        ] {
            assert_eq!(Destination::parse(raw).unwrap().as_str(), folder, "{raw:?}");
        }
        for raw in [
            "shop",
            "project",
            "project/",
            "/",
            "project//x",
            "project/a b",
            "../x",
        ] {
            let refusal = Destination::parse(raw).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("under"), "{raw:?}");
        }
        let folder = Destination::parse("project/shop").unwrap();
        assert_eq!(folder.join("KEY").unwrap().as_str(), "project/shop/KEY");
        assert!(folder.join("a b").is_err() && folder.join("").is_err());
    }
}

//! A flat JSON object of texts.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::{EnvFile, Line, Unread, Variable, has_reference, is_name, too_many};
use crate::model::errors::Refusal;
use crate::model::imports::{FileFormat, IMPORT_LINES_MAX, Note};

const NESTED: &str = "It holds a list or an object. Give each text a name of its own, or store the JSON as one value.";
pub(super) const NULL: &str = "It is null, which is no value.";
const BAD_NAME: &str =
    "Its name has characters that names do not have: they have letters, digits, '.', '_' and '-'.";

/// Errors: `Invalid` at `file`. The parser's own words are not passed on: they quote what they read.
pub(super) fn parse(text: &str) -> Result<EnvFile, Refusal> {
    let entries = serde_json::from_str::<Entries>(text).map_err(|error| {
        if error.is_data() {
            return Refusal::invalid(
                "file",
                "The JSON has to be one object of names and texts, as in {\"NAME\": \"value\"}.",
            );
        }
        let (line, column) = (error.line(), error.column());
        Refusal::invalid(
            "file",
            format!("This is not JSON: something is wrong at line {line}, column {column}."),
        )
    })?;
    if entries.0.len() > IMPORT_LINES_MAX {
        return Err(too_many());
    }
    let lines = (1..)
        .zip(entries.0)
        .map(|(at, (name, value))| Line {
            at,
            read: variable(name, value),
        })
        .collect();
    Ok(EnvFile {
        format: FileFormat::Json,
        lines,
    })
}

/// All entries in their order, also those of one name.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            // One more tells that there are too many.
            if entries.len() <= IMPORT_LINES_MAX {
                entries.push(entry);
            }
        }
        if entries.is_empty() {
            return Err(A::Error::custom("empty"));
        }
        Ok(Entries(entries))
    }
}

fn variable(name: String, value: Value) -> Result<Variable, Unread> {
    if !is_name(&name) {
        return Err(Unread::nameless(BAD_NAME));
    }
    let mut notes = Vec::new();
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => {
            notes.push(Note::NoText);
            number.to_string()
        }
        Value::Bool(is) => {
            notes.push(Note::NoText);
            is.to_string()
        }
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let reason = if value.is_null() { NULL } else { NESTED };
            let name = Some(name);
            return Err(Unread { name, reason });
        }
    };
    if has_reference(&text) {
        notes.push(Note::Reference);
    }
    super::variable(name, text, notes)
}

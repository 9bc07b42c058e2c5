//! What became of each variable, with where it was found.

use std::path::Path;

use serde::Serialize;

use super::sources::Found;
use crate::doors::rest::imports::ImportedLine;
use crate::model::imports::EntryOutcome;
use crate::model::paths::SecretPath;

/// A line of the answer, under the name that it had here.
#[derive(Serialize)]
pub struct Told<'a> {
    pub at: u32,
    pub name: &'a str,
    /// None of what comes from the environment or standard input.
    pub file: Option<&'a Path>,
    pub line: Option<u32>,
    pub path: Option<&'a SecretPath>,
    pub outcome: EntryOutcome,
    pub notes: Vec<String>,
}

/// The lines that the server answered, beside what was found.
pub fn told<'a>(lines: &'a [ImportedLine], found: &'a Found, applied: bool) -> Vec<Told<'a>> {
    let lines = lines.iter().zip(&found.entries);
    lines
        .map(|(line, entry)| {
            let here = entry.notes.iter().map(|note| note.sentence());
            let mut notes: Vec<String> = here.collect();
            let is_past =
                applied && matches!(line.outcome, EntryOutcome::Replace | EntryOutcome::Skip);
            let there = line.notes.iter();
            // What was stored when it was asked, is not any more, or was meant to stay.
            let stood = ["Another value is stored", "Something is stored"];
            let is_told = |note: &&String| !is_past || !stood.iter().any(|it| note.starts_with(it));
            notes.extend(there.filter(is_told).cloned());
            notes.dedup();
            Told {
                at: line.at,
                name: &entry.name,
                file: entry.file.as_deref(),
                line: entry.line,
                path: line.path.as_ref(),
                outcome: line.outcome,
                notes,
            }
        })
        .collect()
}

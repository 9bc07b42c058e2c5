//! Whether what was found here is what is stored: then it need not lie about any longer.

use std::path::Path;

use serde::Serialize;

use super::told::{Told, told};
use super::{ImportArgs, ask};
use crate::cli::client::Client;
use crate::cli::failures::{Exit, Failure};
use crate::cli::import::sources::Found;
use crate::cli::shown::{self, Cell, Colour};
use crate::doors::rest::imports::ImportedLine;
use crate::model::imports::{EntryOutcome, Note, OnConflict};
use crate::model::paths::SecretPath;

#[derive(Serialize)]
struct Verified<'a> {
    lines: Vec<Told<'a>>,
    safe_to_delete: Vec<&'a Path>,
    /// Files of which something is not stored, although every variable is.
    keep: Vec<Kept<'a>>,
}

#[derive(Serialize)]
struct Kept<'a> {
    file: &'a Path,
    why: Vec<String>,
}

/// Imports, unless only this was asked for, then compares: on the server, so that no value comes back.
pub async fn run(args: &ImportArgs, client: &Client, found: &Found) -> anyhow::Result<Exit> {
    if args.dry_run || !found.unread.is_empty() {
        shown::aside("Nothing is imported: what is stored is compared.");
    } else if let Err(error) =
        ask(client, args, &found.entries, args.on_conflict.into(), false).await
    {
        // What is in the way may stand there already, and be the same.
        match error.downcast_ref::<Failure>() {
            Some(failure) if failure.exit == Exit::Conflict || says_lines(failure) => {
                shown::aside(failure.to_string());
            }
            _ => return Err(error),
        }
    }
    let compared = ask(client, args, &found.entries, OnConflict::Fail, true).await?;
    let stored = compared.lines;
    let is_same = |line: &ImportedLine| line.outcome == EntryOutcome::Same;
    let (mut safe_to_delete, mut keep) = (Vec::new(), Vec::new());
    for file in &found.files {
        let is_of = |of: Option<&Path>| of == Some(file.as_path());
        let all_read = !found.unread.iter().any(|lost| is_of(lost.file.as_deref()));
        let mut entries = found.entries.iter().zip(&stored);
        let all_same = entries.all(|(entry, line)| !is_of(entry.file.as_deref()) || is_same(line));
        let why = lost_of(found, file);
        if !why.is_empty() {
            keep.push(Kept { file, why });
        } else if all_read && all_same && stored.len() == found.entries.len() {
            safe_to_delete.push(file.as_path());
        }
    }
    let done = found.unread.is_empty() && keep.is_empty() && stored.iter().all(is_same);
    let verified = Verified {
        lines: told(&stored, found, false),
        safe_to_delete,
        keep,
    };
    if args.api.json {
        shown::json(&verified)?;
    } else {
        show(&verified)?;
    }
    Ok(if done {
        Exit::Done
    } else {
        super::not_done(&stored)
    })
}

/// Whether it was refused line by line, and not as a whole.
fn says_lines(failure: &Failure) -> bool {
    let problem = failure.problem.as_ref();
    problem.is_some_and(|problem| problem.get("lines").is_some())
}

/// What of a file may be a piece of a value, and is not stored.
fn lost_of(found: &Found, file: &Path) -> Vec<String> {
    let entries = found.entries.iter();
    let commented = entries
        .filter(|entry| entry.file.as_deref() == Some(file) && entry.notes.contains(&Note::Comment))
        .map(|entry| {
            format!(
                "{} ({}): {}",
                entry.name,
                entry.place,
                Note::Comment.sentence()
            )
        });
    let empty = found.empty.iter();
    let empty = empty
        .filter(|empty| empty.file.as_deref() == Some(file))
        .filter_map(|empty| Some(format!("{}: {}", empty.place, empty.loses?)));
    commented.chain(empty).collect()
}

fn show(verified: &Verified) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for line in &verified.lines {
        let (state, colour) = match line.outcome {
            EntryOutcome::Same => ("same", Colour::Green),
            EntryOutcome::Create => ("not stored", Colour::Red),
            EntryOutcome::Invalid => ("invalid", Colour::Red),
            _ => ("another value, or not compared", Colour::Red),
        };
        rows.push([
            Cell::from(line.name),
            line.path
                .map(SecretPath::to_string)
                .unwrap_or_default()
                .into(),
            Cell::new(state, colour),
            Cell::new(line.notes.join(" "), Colour::Dim),
        ]);
    }
    shown::table(["NAME", "PATH", "IS", "NOTES"], rows)?;
    for file in &verified.safe_to_delete {
        let file = file.display().to_string();
        shown::line(format!("Safe to delete: {}", shown::plain(&file)))?;
    }
    for Kept { file, why } in &verified.keep {
        let file = file.display().to_string();
        shown::aside(format!("Not safe to delete: {}", shown::plain(&file)));
        for why in why {
            shown::aside(format!("  {}", shown::plain(why)));
        }
    }
    Ok(())
}

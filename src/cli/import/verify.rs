//! Whether what was found here is what is stored: then it need not lie about any longer.

use std::path::Path;

use serde::Serialize;

use super::{ImportArgs, ask};
use crate::cli::client::Client;
use crate::cli::failures::{Exit, Failure};
use crate::cli::import::sources::Found;
use crate::cli::shown::{self, Cell, Colour};
use crate::doors::rest::imports::ImportedLine;
use crate::model::imports::{EntryOutcome, OnConflict};
use crate::model::paths::SecretPath;

#[derive(Serialize)]
struct Verified<'a> {
    lines: &'a [ImportedLine],
    safe_to_delete: Vec<&'a Path>,
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
            Some(failure) if failure.exit == Exit::Conflict => {
                shown::aside(format!("Nothing was imported. {failure}"));
            }
            _ => return Err(error),
        }
    }
    let compared = ask(client, args, &found.entries, OnConflict::Fail, true).await?;
    let stored = compared.lines;
    let is_same = |line: &ImportedLine| line.outcome == EntryOutcome::Same;
    let safe_to_delete = found
        .files
        .iter()
        .filter(|file| {
            let of_file = Some(file.as_path());
            let all_read = found
                .unread
                .iter()
                .all(|lost| lost.file.as_deref() != of_file);
            let mut entries = found.entries.iter().zip(&stored);
            let all_same =
                entries.all(|(entry, line)| entry.file.as_deref() != of_file || is_same(line));
            all_read && all_same && stored.len() == found.entries.len()
        })
        .map(|file| file.as_path())
        .collect();
    let verified = Verified {
        lines: &stored,
        safe_to_delete,
    };
    let done = found.unread.is_empty() && stored.iter().all(is_same);
    if args.api.json {
        shown::json(&verified)?;
    } else {
        show(&verified, found)?;
    }
    Ok(if done { Exit::Done } else { Exit::No })
}

fn show(verified: &Verified, found: &Found) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (line, entry) in verified.lines.iter().zip(&found.entries) {
        let (state, colour) = match line.outcome {
            EntryOutcome::Same => ("same", Colour::Green),
            EntryOutcome::Create => ("not stored", Colour::Red),
            EntryOutcome::Invalid => ("invalid", Colour::Red),
            _ => ("another value, or not compared", Colour::Red),
        };
        rows.push([
            Cell::from(entry.name.clone()),
            line.path
                .as_ref()
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
    Ok(())
}

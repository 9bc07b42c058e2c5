//! `sealport import`: variables that lie about in files become secrets, and what lies about can be deleted.

mod sources;
mod told;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::sources::{Empty, Entry, Found};
use self::told::{Told, told};
use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::Prefix;
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use crate::doors::rest::imports::{ImportBody, ImportEntry, ImportResult, ImportedLine};
use crate::model::imports::{Destination, EntryOutcome, FileFormat, IMPORT_LINES_MAX, OnConflict};
use crate::model::paths::SecretPath;
use crate::model::secrets::Kind;

#[derive(Args)]
pub struct ImportArgs {
    /// A .env, JSON or YAML file, a file that is one value (*.secret, *.key), a directory of *.secret, *.key and .env files, or -
    /// for standard input.
    #[arg(required_unless_present = "from_env")]
    file: Option<PathBuf>,

    /// What the file is, where its name does not say it; standard input is JSON if it begins with a brace, else as .env.
    #[arg(long, value_enum, conflicts_with = "from_env")]
    format: Option<Format>,

    /// Take these variables of the environment.
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "file", value_parser = variable)]
    from_env: Vec<String>,

    /// Where the names go, as in project/shop; empty: they become bare names.
    #[arg(long, value_name = "PREFIX", value_parser = Prefix::parse)]
    under: Prefix,

    /// What new ones are: api_key, database_url, jwt_secret, certificate, json or custom.
    #[arg(long, value_parser = super::secret::kind, default_value = "custom")]
    kind: Kind,

    /// Show each name, the path it would get and what would become of it. Nothing is stored.
    #[arg(long)]
    dry_run: bool,

    /// What to do where another value is stored already. `fail` stores nothing at all then.
    #[arg(long, value_enum, default_value_t = Conflict::Fail)]
    on_conflict: Conflict,

    /// Compare what is stored then with what was found here, and list the files that are safe to delete. With --dry-run only this.
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// Any variable can be stored, also one that no deployment could be given under this name.
fn variable(name: &str) -> Result<String, String> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(name.to_owned())
    } else {
        Err("a variable's name has letters, digits and underscores".into())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Dotenv,
    Json,
    Yaml,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Dotenv => FileFormat::Dotenv,
            Format::Json => FileFormat::Json,
            Format::Yaml => FileFormat::Yaml,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Conflict {
    Fail,
    Skip,
    Replace,
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Fail => OnConflict::Fail,
            Conflict::Skip => OnConflict::Skip,
            Conflict::Replace => OnConflict::Replace,
        }
    }
}

pub async fn run(args: ImportArgs) -> anyhow::Result<Exit> {
    let found = match &args.file {
        Some(file) => Found::in_file(file, args.format.map(FileFormat::from))?,
        None => Found::in_environment(&args.from_env)?,
    };
    tell(&found);
    check(&found, args.dry_run || args.verify)?;
    let client = args.api.server.client().await?;
    if args.verify {
        return verify::run(&args, &client, &found).await;
    }
    let on_conflict = args.on_conflict.into();
    let result = match ask(&client, &args, &found.entries, on_conflict, args.dry_run).await {
        Ok(result) => result,
        Err(error) => return Err(tell_lines(error, &found)),
    };
    let lines = told(&result.lines, &found, result.applied);
    if args.api.json {
        let applied = result.applied;
        shown::json(&Answer { applied, lines })?;
    } else {
        show(&lines, result.applied)?;
    }
    let refused = result.lines.iter().any(|line| is_in_the_way(line.outcome));
    Ok(if found.unread.is_empty() && !refused {
        Exit::Done
    } else {
        not_done(&result.lines)
    })
}

/// What the server answered, with where each variable was found.
#[derive(Serialize)]
struct Answer<'a> {
    applied: bool,
    lines: Vec<Told<'a>>,
}

/// How it ends when something is in the way: without the right to store it there, as all that is not permitted.
fn not_done(lines: &[ImportedLine]) -> Exit {
    let mut notes = lines.iter().flat_map(|line| &line.notes);
    if notes.any(|note| note.contains("not yours to ")) {
        Exit::Denied
    } else {
        Exit::No
    }
}

/// On standard error: what is not among the results.
fn tell(found: &Found) {
    for lost in &found.unread {
        shown::aside(format!("Cannot be read: {}", shown::plain(&lost.said)));
    }
    for Empty { place, loses, .. } in &found.empty {
        let why = loses.map(|why| format!(": {why}")).unwrap_or_default();
        shown::aside(format!(
            "Has no value, and is left out: {}{why}",
            shown::plain(place)
        ));
    }
    for name in &found.passed_over {
        shown::aside(format!("Passed over: {}", shown::plain(name)));
    }
}

/// Errors: nothing to import, too much, lines that cannot be read, names that stand twice.
fn check(found: &Found, only_looks: bool) -> Result<(), Failure> {
    if !found.unread.is_empty() && !only_looks {
        return Err(Failure::usage(format!(
            "Nothing was imported, because of {} above. Fix or remove {}, then import again.",
            counted(found.unread.len(), "line"),
            if found.unread.len() == 1 {
                "it"
            } else {
                "them"
            }
        )));
    }
    if found.entries.is_empty() {
        return Err(Failure::usage("There is nothing to import."));
    }
    if found.entries.len() > IMPORT_LINES_MAX {
        return Err(Failure::usage(format!(
            "An import has at most {IMPORT_LINES_MAX} variables, and here are {}. Import the files one by one.",
            found.entries.len()
        )));
    }
    let mut places: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
    for entry in &found.entries {
        let key = entry.name.to_ascii_lowercase();
        places.entry(key).or_default().push(entry);
    }
    let twice: Vec<String> = places
        .values()
        .filter(|entries| entries.len() > 1)
        .map(|entries| {
            let places: Vec<&str> = entries.iter().map(|entry| entry.place.as_str()).collect();
            format!("{} ({})", entries[0].name, places.join("; "))
        })
        .collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "These names stand more than once, and nothing says which of them counts: {}. Remove the others, then import again.",
        shown::plain(&twice.join(", "))
    )))
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("the {what}"),
        count => format!("the {count} {what}s"),
    }
}

async fn ask(
    client: &Client,
    args: &ImportArgs,
    entries: &[Entry],
    on_conflict: OnConflict,
    dry_run: bool,
) -> anyhow::Result<ImportResult> {
    let entries = entries.iter().map(|entry| ImportEntry {
        name: entry.name.clone(),
        value: entry.value.clone(),
    });
    let body = ImportBody {
        owner: args.under.owner.clone(),
        under: Destination::parse(args.under.folder())?,
        on_conflict,
        dry_run,
        kind: args.kind,
        entries: entries.collect(),
    };
    client.post("/import").body(&body)?.json().await
}

fn is_in_the_way(outcome: EntryOutcome) -> bool {
    matches!(outcome, EntryOutcome::Conflict | EntryOutcome::Invalid)
}

/// Of a refusal: the lines for whose sake nothing was imported.
fn tell_lines(error: anyhow::Error, found: &Found) -> anyhow::Error {
    let mut failure = match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => return error,
    };
    let lines = failure
        .problem
        .as_ref()
        .and_then(|problem| problem.get("lines"))
        .and_then(|lines| serde_json::from_value::<Vec<ImportedLine>>(lines.clone()).ok())
        .unwrap_or_default();
    for (line, entry) in lines.iter().zip(&found.entries) {
        if is_in_the_way(line.outcome) {
            let (name, place) = (shown::plain(&entry.name), shown::plain(&entry.place));
            let why = match line.outcome {
                EntryOutcome::Invalid => "it cannot be stored there. ",
                _ => "",
            };
            let notes = line.notes.join(" ");
            shown::aside(format!(
                "In the way: {name} ({place}): {why}{}",
                shown::plain(&notes)
            ));
        }
    }
    if not_done(&lines) == Exit::Denied {
        failure.exit = Exit::Denied;
    }
    failure.into()
}

fn show(lines: &[Told], applied: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for line in lines {
        let (state, colour) = match (line.outcome, applied) {
            (EntryOutcome::Create, true) => ("created", Colour::Green),
            (EntryOutcome::Create, false) => ("create", Colour::Green),
            (EntryOutcome::Replace, true) => ("replaced", Colour::Yellow),
            (EntryOutcome::Replace, false) => ("replace", Colour::Yellow),
            (EntryOutcome::Skip, true) => ("skipped", Colour::Yellow),
            (EntryOutcome::Skip, false) => ("skip", Colour::Yellow),
            (EntryOutcome::Same, _) => ("same", Colour::Green),
            (EntryOutcome::Conflict, _) => ("conflict", Colour::Red),
            (EntryOutcome::Invalid, _) => ("invalid", Colour::Red),
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
    let state = if applied { "IS" } else { "WOULD" };
    shown::table(["NAME", "PATH", state, "NOTES"], rows)?;
    Ok(())
}

//! `sealport import`: variables that lie about in files become secrets, and what lies about can be deleted.

mod sources;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use self::sources::{Entry, Found};
use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::Prefix;
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use crate::doors::rest::imports::{ImportBody, ImportEntry, ImportResult, ImportedLine};
use crate::model::imports::{Destination, EntryOutcome, IMPORT_LINES_MAX, OnConflict};
use crate::model::paths::SecretPath;
use crate::model::secrets::Kind;

#[derive(Args)]
pub struct ImportArgs {
    /// A .env, JSON or YAML file, a file that is one value (*.secret, *.key), or a directory of *.secret, *.key and .env files.
    #[arg(required_unless_present = "from_env")]
    file: Option<PathBuf>,

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
        Some(file) => Found::in_file(file)?,
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
        Err(error) => {
            tell_lines(&error, &found);
            return Err(error);
        }
    };
    if args.api.json {
        shown::json(&result)?;
    } else {
        show(&result, &found)?;
    }
    let refused = result.lines.iter().any(|line| is_in_the_way(line.outcome));
    Ok(if found.unread.is_empty() && !refused {
        Exit::Done
    } else {
        Exit::No
    })
}

/// On standard error: what is not among the results.
fn tell(found: &Found) {
    for lost in &found.unread {
        shown::aside(format!("Cannot be read: {}", shown::plain(&lost.said)));
    }
    for place in &found.empty {
        shown::aside(format!(
            "Has no value, and is left out: {}",
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
            "Nothing was imported, because of {} of above. Mend or remove it, then import again.",
            counted(found.unread.len(), "line")
        )));
    }
    if found.entries.is_empty() {
        return Err(Failure::new(Exit::NotFound, "There is nothing to import."));
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
fn tell_lines(error: &anyhow::Error, found: &Found) {
    let problem = error
        .downcast_ref::<Failure>()
        .and_then(|failure| failure.problem.as_ref());
    let lines = problem
        .and_then(|problem| problem.get("lines"))
        .and_then(|lines| serde_json::from_value::<Vec<ImportedLine>>(lines.clone()).ok());
    for (line, entry) in lines.iter().flatten().zip(&found.entries) {
        if is_in_the_way(line.outcome) {
            let (name, place) = (shown::plain(&entry.name), shown::plain(&entry.place));
            let why = match line.outcome {
                EntryOutcome::Conflict => {
                    "something else is stored there, or whether it is the same is not told"
                }
                _ => "it can stand nowhere",
            };
            let notes = line.notes.join(" ");
            shown::aside(
                format!(
                    "In the way: {name} ({place}): {why}. {}",
                    shown::plain(&notes)
                )
                .trim_end(),
            );
        }
    }
}

fn show(result: &ImportResult, found: &Found) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (line, entry) in result.lines.iter().zip(&found.entries) {
        let (state, colour) = match (line.outcome, result.applied) {
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
        let mut notes: Vec<String> = entry.notes.iter().map(|note| note.sentence()).collect();
        notes.extend(line.notes.iter().cloned());
        notes.dedup();
        rows.push([
            Cell::from(entry.name.clone()),
            line.path
                .as_ref()
                .map(SecretPath::to_string)
                .unwrap_or_default()
                .into(),
            Cell::new(state, colour),
            Cell::new(notes.join(" "), Colour::Dim),
        ]);
    }
    let state = if result.applied { "IS" } else { "WOULD" };
    shown::table(["NAME", "PATH", state, "NOTES"], rows)?;
    Ok(())
}

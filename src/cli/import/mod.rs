//! `sealport import`: variables that lie about in files become secrets, and what lies about can be deleted.

mod sources;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;

use self::sources::{Entry, Found};
use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::Prefix;
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use super::wire;
use crate::model::imports::IMPORT_LINES_MAX;
use crate::model::paths::EnvName;

#[derive(Args)]
pub struct ImportArgs {
    /// A .env, JSON or YAML file, a file that is one value (*.secret, *.key), or a directory of *.secret, *.key and .env files.
    #[arg(required_unless_present = "from_env")]
    file: Option<PathBuf>,

    /// Take these variables of the environment.
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "file", value_parser = EnvName::parse)]
    from_env: Vec<EnvName>,

    /// Where the names go, as in project/shop; empty: they become bare names.
    #[arg(long, value_name = "PREFIX", value_parser = Prefix::parse)]
    under: Prefix,

    /// Show each name, the path it would get and what would become of it. Nothing is stored.
    #[arg(long)]
    dry_run: bool,

    /// What to do where another value is stored already. `fail` stores nothing at all then.
    #[arg(long, value_enum, default_value_t = OnConflict::Fail)]
    on_conflict: OnConflict,

    /// Compare what is stored then with what was found here, and list the files that are safe to delete. With --dry-run only this.
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum OnConflict {
    Fail,
    Skip,
    Replace,
}

impl OnConflict {
    fn as_str(self) -> &'static str {
        match self {
            OnConflict::Fail => "fail",
            OnConflict::Skip => "skip",
            OnConflict::Replace => "replace",
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
    let answer = ask(&client, &args, &found.entries, args.dry_run).await?;
    if args.api.json {
        shown::json(&answer)?;
    } else {
        show(&args, &found, &lines(&answer)?)?;
    }
    Ok(if found.unread.is_empty() {
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
    dry_run: bool,
) -> anyhow::Result<Value> {
    let entries = entries
        .iter()
        .map(|entry| wire::ImportEntry {
            name: entry.name.clone(),
            value: entry.value.clone(),
        })
        .collect();
    let body = wire::Import {
        under: args.under.to_string(),
        on_conflict: args.on_conflict.as_str().to_owned(),
        dry_run,
        entries,
    };
    client.post("/import").body(&body)?.json().await
}

fn lines(answer: &Value) -> anyhow::Result<Vec<wire::ImportLine>> {
    let answer: wire::ImportAnswer = serde_json::from_value(answer.clone())?;
    Ok(answer.lines)
}

fn show(args: &ImportArgs, found: &Found, lines: &[wire::ImportLine]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (line, entry) in lines.iter().zip(&found.entries) {
        let colour = match line.is.as_str() {
            "new" | "added" => Colour::Green,
            "invalid" => Colour::Red,
            _ => Colour::Yellow,
        };
        let mut notes: Vec<String> = line.reason.iter().cloned().collect();
        notes.extend(entry.notes.iter().map(|note| note.sentence()));
        rows.push([
            Cell::from(entry.name.clone()),
            line.path.clone().unwrap_or_default().into(),
            Cell::new(line.is.clone(), colour),
            Cell::new(notes.join(" "), Colour::Dim),
        ]);
    }
    let state = if args.dry_run { "WOULD BE" } else { "IS" };
    shown::table(["NAME", "PATH", state, "NOTES"], rows)?;
    Ok(())
}

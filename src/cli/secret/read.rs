//! What is read: a value, or everything but values.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::standing;
use crate::cli::failures::Exit;
use crate::cli::places::Prefix;
use crate::cli::server::ApiArgs;
use crate::cli::shown::{self, Cell, Colour};
use crate::cli::times::written;
use crate::cli::typed;
use crate::doors::rest::Page;
use crate::doors::rest::secrets::{RunShown, Secret};
use crate::doors::rest::values;
use crate::doors::rest::versions::Version;
use crate::model::paths::{KeyPath, Tag};

pub async fn get(path: &KeyPath, version: Option<i32>, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let version = version.map(|version| version.to_string());
    let request = client.get(&format!("/values/{path}"));
    let request = request.query(&[("version", version.as_deref().unwrap_or_default())]);
    let revealed: values::Value = request.json().await?;
    if api.json {
        return shown::json(&revealed);
    }
    typed::print_value(&revealed.value)
}

pub struct Filter {
    pub prefix: Option<Prefix>,
    pub kind: Option<String>,
    pub tag: Option<String>,
    pub find: Option<String>,
}

pub async fn list(filter: &Filter, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let (kind, tag, find) = (text(&filter.kind), text(&filter.tag), text(&filter.find));
    let mut query = vec![
        ("kind", &*kind),
        ("tag", &*tag),
        ("q", &*find),
        ("limit", "500"),
    ];
    if let Some(prefix) = &filter.prefix {
        query.extend(prefix.query());
    }
    let items = client.list("/secrets", &query).await?;
    if api.json {
        return shown::json(&Page::last(items));
    }
    let mut rows = Vec::new();
    for item in items {
        let secret: Secret = serde_json::from_value(item)?;
        let standing = standing(&secret);
        rows.push([
            Cell::from(secret.path.to_string()),
            secret.owner.into(),
            secret.kind.as_str().into(),
            secret.version.to_string().into(),
            written(secret.changed_at).into(),
            secret.expires_at.map(written).unwrap_or_default().into(),
            Cell::new(standing, Colour::Yellow),
            Cell::new(secret.description, Colour::Dim),
        ]);
    }
    if rows.is_empty() {
        shown::aside("Nothing is stored here that this token can see.");
        return Ok(());
    }
    let heads = [
        "PATH",
        "OWNER",
        "KIND",
        "VERSION",
        "CHANGED",
        "EXPIRES",
        "STATE",
        "DESCRIPTION",
    ];
    shown::table(heads, rows)?;
    Ok(())
}

pub async fn show(path: &KeyPath, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let answer: Value = client.get(&format!("/secrets/{path}")).json().await?;
    if api.json {
        return shown::json(&answer);
    }
    let secret: Secret = serde_json::from_value(answer)?;
    let standing = standing(&secret);
    let mut facts = vec![
        ("path", secret.path.to_string()),
        ("owner", secret.owner),
        ("kind", secret.kind.as_str().into()),
        ("description", secret.description),
        (
            "tags",
            secret
                .tags
                .iter()
                .map(Tag::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("version", secret.version.to_string()),
        ("changed", written(secret.changed_at)),
        (
            "expires",
            secret.expires_at.map(written).unwrap_or_default(),
        ),
        ("state", standing.into()),
        (
            "shown to",
            match secret.use_only {
                true => "nobody: it is connected for use only".into(),
                false => String::new(),
            },
        ),
        ("variable", secret.env.unwrap_or_default()),
        ("used by", secret.used_by.join(", ")),
    ];
    let runs = secret.runs.iter().flatten();
    facts.extend(runs.map(|run| ("runs", running(run))));
    facts.push(("your level", secret.level.as_str().into()));
    shown::facts(&facts)?;
    Ok(())
}

/// As the dashboard says it on the secret's page.
fn running(run: &RunShown) -> String {
    let at = format!("{}, {}, {}", run.deployment, run.target, run.state.as_str());
    let value = match run.is_older {
        true => "an older value",
        false => "the newest value",
    };
    match run.running_version {
        Some(version) => format!("{at}: {value}, version {version}"),
        None => at,
    }
}

pub async fn history(path: &KeyPath, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let items = client.list(&format!("/versions/{path}"), &[]).await?;
    if api.json {
        return shown::json(&Page::last(items));
    }
    let mut rows = Vec::new();
    for item in items {
        let version: Version = serde_json::from_value(item)?;
        let mut notes = Vec::new();
        if version.generated {
            notes.push("generated".to_owned());
        }
        if let Some(from) = version.rolled_back_from {
            notes.push(format!("the value of version {from} again"));
        }
        if version.destroyed_at.is_some() {
            notes.push("destroyed".to_owned());
        }
        rows.push([
            Cell::from(version.version.to_string()),
            written(version.created_at).into(),
            version.created_by.into(),
            Cell::new(notes.join(", "), Colour::Dim),
        ]);
    }
    shown::table(["VERSION", "MADE", "BY", "NOTES"], rows)?;
    Ok(())
}

/// The status says whether something is due, so that cron can act on it.
pub async fn due(within: time::Duration, api: &ApiArgs) -> anyhow::Result<Exit> {
    let client = api.server.client().await?;
    let until = OffsetDateTime::now_utc() + within;
    // The API counts whole days; what is due later than asked for is left out here.
    let days = (within.whole_seconds() + 86_399) / 86_400;
    let mut items = client
        .list("/secrets", &[("due", &days.to_string())])
        .await?;
    items.retain(|item| {
        let at = item.pointer("/due/at").and_then(Value::as_str);
        let at = at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        at.is_none_or(|at| at <= until)
    });
    let exit = if items.is_empty() {
        Exit::Done
    } else {
        Exit::No
    };
    if api.json {
        shown::json(&Page::last(items))?;
        return Ok(exit);
    }
    let mut rows = Vec::new();
    for item in items {
        let secret: Secret = serde_json::from_value(item)?;
        let Some(due) = secret.due else {
            continue;
        };
        let colour = match due.why.as_str() {
            "expired" => Colour::Red,
            _ => Colour::Yellow,
        };
        rows.push([
            Cell::from(secret.path.to_string()),
            secret.owner.into(),
            Cell::new(due.why, colour),
            written(due.at).into(),
        ]);
    }
    if !rows.is_empty() {
        shown::table(["PATH", "OWNER", "WHAT", "WHEN"], rows)?;
    }
    Ok(exit)
}

//! `sealport audit`: the record as the token may see it, over the API.

use clap::Args;
use serde_json::Value;
use time::OffsetDateTime;

use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use super::times::{behind, written};
use crate::doors::rest::Page;

#[derive(Args)]
pub struct ListArgs {
    /// With this in the path.
    #[arg(long)]
    path: Option<String>,

    /// With this in the name of whoever acted: a person, a token, a deployment.
    #[arg(long)]
    actor: Option<String>,

    /// Since a moment, a day, or a time before now as in 7d.
    #[arg(long, value_name = "TIME", value_parser = behind)]
    since: Option<OffsetDateTime>,

    /// At most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,

    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: ListArgs) -> anyhow::Result<()> {
    let client = args.api.server.client().await?;
    let since = args.since.map(written).unwrap_or_default();
    let page = args.limit.min(500).to_string();
    let query = [
        ("limit", page.as_str()),
        ("path", args.path.as_deref().unwrap_or_default()),
        ("actor", args.actor.as_deref().unwrap_or_default()),
        ("since", &since),
    ];
    let items = client.some("/audit", &query, args.limit).await?;
    if args.api.json {
        return shown::json(&Page::last(items));
    }
    let rows = items.iter().map(row).collect();
    shown::table(
        [
            "WHEN", "WHO", "WHAT", "OUTCOME", "ON", "VERSION", "ADDRESS", "REASON",
        ],
        rows,
    )?;
    Ok(())
}

fn row(item: &Value) -> [Cell; 8] {
    let text = |name: &str| match item.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let outcome = text("outcome");
    let colour = if outcome == "refused" {
        Colour::Red
    } else {
        Colour::Green
    };
    let on = match text("path") {
        path if path.is_empty() => text("deployment"),
        path => path,
    };
    [
        text("at").into(),
        text("actor").into(),
        text("action").into(),
        Cell::new(outcome, colour),
        on.into(),
        text("version").into(),
        text("address").into(),
        Cell::new(text("reason"), Colour::Dim),
    ]
}

//! `sealport audit`: the record as the token may see it, over the API.

use clap::Args;
use time::OffsetDateTime;

use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use super::times::{behind, written};
use crate::doors::rest::Page;
use crate::doors::rest::audit::Recorded;

#[derive(Args)]
pub struct ListArgs {
    /// With this in the path.
    #[arg(long)]
    path: Option<String>,

    /// With this in the name of whoever acted: a person, a token, a deployment.
    #[arg(long)]
    actor: Option<String>,

    /// Since a moment (2027-03-31T12:00:00Z), a day (2027-03-31), or a time before now (90m, 12h, 7d, 2w).
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
    let mut rows = Vec::new();
    for item in items {
        rows.push(row(serde_json::from_value(item)?));
    }
    if rows.is_empty() {
        shown::aside("Nothing of this is on the record that this token can see.");
        return Ok(());
    }
    shown::table(
        [
            "WHEN", "WHO", "WHAT", "OUTCOME", "ON", "WITH", "LEVEL", "VERSION", "ADDRESS", "REASON",
        ],
        rows,
    )?;
    Ok(())
}

fn row(recorded: Recorded) -> [Cell; 10] {
    let colour = match recorded.outcome.as_str() {
        "refused" => Colour::Red,
        _ => Colour::Green,
    };
    let on = recorded.path.or(recorded.deployment);
    let version = recorded.version.map(|version| version.to_string());
    [
        written(recorded.at).into(),
        recorded.actor.into(),
        recorded.action.into(),
        Cell::new(recorded.outcome, colour),
        on.unwrap_or_default().into(),
        recorded.grantee.unwrap_or_default().into(),
        recorded.level.unwrap_or_default().into(),
        version.unwrap_or_default().into(),
        recorded.address.unwrap_or_default().into(),
        Cell::new(recorded.reason.unwrap_or_default(), Colour::Dim),
    ]
}

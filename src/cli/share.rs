//! `sealport share` and `unshare`: a level for a person or a team, on a secret, on all under a prefix, or on a deployment.

use clap::Args;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::SecretOrPrefix;
use super::server::ApiArgs;
use super::shown::{self, Cell};
use super::wire;
use crate::doors::rest::Page;
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;

#[derive(Args)]
pub struct ShareArgs {
    /// A secret's path, or a prefix with a slash at its end; then with whom: an e-mail address or a handle; then use, read, write or
    /// admin. The first alone: lists with whom it is shared.
    #[arg(value_name = "PATH|PREFIX/ EMAIL|HANDLE LEVEL", required = true, num_args = 1..=3)]
    words: Vec<String>,

    /// Share a deployment, in place of a path.
    #[arg(long, value_name = "NAME", value_parser = DeploymentName::parse)]
    deployment: Option<DeploymentName>,

    /// Of `use`: in these deployments alone.
    #[arg(long, value_name = "DEPLOYMENT", num_args = 1.., value_parser = DeploymentName::parse)]
    only: Vec<DeploymentName>,

    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args)]
pub struct UnshareArgs {
    /// What is shared, as `share` takes it, and with whom.
    #[arg(value_name = "PATH|PREFIX/ EMAIL|HANDLE", required = true, num_args = 1..=2)]
    words: Vec<String>,

    /// A deployment, in place of a path.
    #[arg(long, value_name = "NAME", value_parser = DeploymentName::parse)]
    deployment: Option<DeploymentName>,

    #[command(flatten)]
    api: ApiArgs,
}

/// What is shared: as the API names it.
struct Shared {
    field: &'static str,
    name: String,
}

impl Shared {
    /// The deployment, or the first of the words; and the words after it.
    fn parse<'a>(
        deployment: Option<&DeploymentName>,
        words: &'a [String],
    ) -> Result<(Shared, &'a [String]), Failure> {
        if let Some(name) = deployment {
            let name = name.to_string();
            return Ok((
                Shared {
                    field: "deployment",
                    name,
                },
                words,
            ));
        }
        let Some((first, rest)) = words.split_first() else {
            return Err(Failure::usage(
                "Say what is shared: a path, or a prefix with a slash at its end.",
            ));
        };
        let (field, name) = match SecretOrPrefix::parse(first)? {
            SecretOrPrefix::Secret(path) => ("secret", path.to_string()),
            SecretOrPrefix::Prefix(prefix) => ("under", prefix.to_string()),
        };
        Ok((Shared { field, name }, rest))
    }

    async fn grants(&self, client: &Client) -> anyhow::Result<Vec<Value>> {
        client.list("/grants", &[(self.field, &self.name)]).await
    }
}

pub async fn share(args: ShareArgs) -> anyhow::Result<()> {
    let (shared, words) = Shared::parse(args.deployment.as_ref(), &args.words)?;
    let client = args.api.server.client().await?;
    let (grantee, level) = match words {
        [] => return list(&client, &shared, &args.api).await,
        [grantee, level] => (grantee, level),
        _ => {
            return Err(Failure::usage(
                "Say with whom (an e-mail address or a handle), and how far: use, read, write or admin.",
            )
            .into());
        }
    };
    let level = Level::from_name(level)
        .ok_or_else(|| Failure::usage("The levels are use, read, write and admin."))?;
    let mut body = Map::new();
    body.insert(shared.field.into(), shared.name.clone().into());
    body.insert("grantee".into(), grantee.clone().into());
    body.insert("level".into(), level.as_str().into());
    if !args.only.is_empty() {
        body.insert("only".into(), json!(args.only));
    }
    let answer: Value = client.post("/grants").body(&body)?.json().await?;
    if args.api.json {
        return shown::json(&answer);
    }
    shown::line(format!(
        "{grantee} has {} on {} now.",
        level.as_str(),
        shared.name
    ))?;
    Ok(())
}

async fn list(client: &Client, shared: &Shared, api: &ApiArgs) -> anyhow::Result<()> {
    let items = shared.grants(client).await?;
    if api.json {
        return shown::json(&Page::last(items));
    }
    let mut rows = Vec::new();
    for item in items {
        let grant: wire::Grant = serde_json::from_value(item)?;
        rows.push([
            Cell::from(grant.grantee),
            grant.level.into(),
            grant.only.join(", ").into(),
        ]);
    }
    if rows.is_empty() {
        shown::aside("It is shared with nobody.");
    }
    shown::table(["WITH", "LEVEL", "ONLY IN"], rows)?;
    Ok(())
}

pub async fn unshare(args: UnshareArgs) -> anyhow::Result<()> {
    let (shared, words) = Shared::parse(args.deployment.as_ref(), &args.words)?;
    let [grantee] = words else {
        return Err(Failure::usage(
            "Say with whom it is shared no longer: an e-mail address or a handle.",
        )
        .into());
    };
    let client = args.api.server.client().await?;
    let mut found = None;
    for item in shared.grants(&client).await? {
        let grant: wire::Grant = serde_json::from_value(item)?;
        if grant.is_with(grantee) {
            found = Some(grant);
        }
    }
    let Some(grant) = found else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("{} is not shared with {grantee}.", shared.name),
        )
        .into());
    };
    client
        .delete(&format!("/grants/{}", grant.id))
        .done()
        .await?;
    if args.api.json {
        return shown::json(&json!({ "id": grant.id, "deleted": true }));
    }
    shown::line(format!(
        "{grantee} has no longer anything on {} by this.",
        shared.name
    ))?;
    Ok(())
}

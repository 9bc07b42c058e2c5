//! `sealport share` and `unshare`: a level for a person or a team, on a secret, on all under a prefix, or on a deployment.

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::{Prefix, SecretOrPrefix};
use super::server::ApiArgs;
use super::shown::{self, Cell};
use crate::doors::rest::Page;
use crate::doors::rest::grants::{Given, GrantBody, GrantMade};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;

#[derive(Args)]
pub struct ShareArgs {
    /// A secret's path, or a prefix with a slash at its end, unless --deployment says what is shared; then with whom: an e-mail
    /// address or a handle; then use, read, write or admin. Without the last two: lists with whom it is shared.
    #[arg(value_name = "PATH|PREFIX/ EMAIL|HANDLE LEVEL", num_args = 0..=3)]
    words: Vec<String>,

    /// Share a deployment, in place of a path.
    #[arg(long, value_name = "NAME", value_parser = DeploymentName::parse)]
    deployment: Option<DeploymentName>,

    /// Only with `use`: limit it to this deployment; can be given several times.
    #[arg(long, value_name = "DEPLOYMENT", value_parser = DeploymentName::parse)]
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

/// What is shared, as the API names it.
enum On {
    Secret(String),
    Under { named: String, folder: String },
    Deployment(String),
}

impl On {
    /// The deployment, or the first of the words; and the words after it.
    fn parse<'a>(
        deployment: Option<&DeploymentName>,
        words: &'a [String],
    ) -> Result<(On, &'a [String]), Failure> {
        if let Some(name) = deployment {
            return Ok((On::Deployment(name.to_string()), words));
        }
        let Some((first, rest)) = words.split_first() else {
            return Err(Failure::usage(
                "Say what is shared: a path, or a prefix with a slash at its end.",
            ));
        };
        let parsed = SecretOrPrefix::parse(first).map_err(|refusal| match Prefix::parse(first) {
            Ok(_) => Failure::usage(format!("A folder ends with a slash: {first}/")),
            Err(_) => Failure::from(refusal),
        });
        let on = match parsed? {
            SecretOrPrefix::Secret(path) => On::Secret(path.to_string()),
            SecretOrPrefix::Prefix(prefix) => On::Under {
                named: prefix.to_string(),
                folder: prefix.folder().to_owned(),
            },
        };
        Ok((on, rest))
    }

    fn field(&self) -> (&'static str, &str) {
        match self {
            On::Secret(path) => ("secret", path),
            On::Under { named, .. } => ("under", named),
            On::Deployment(name) => ("deployment", name),
        }
    }

    fn name(&self) -> &str {
        self.field().1
    }

    /// Whether it was given on this itself, and not on a folder around it.
    fn is_of(&self, given: &Given) -> bool {
        match self {
            On::Secret(_) => given.secret.is_some(),
            On::Under { folder, .. } => given.under.as_deref() == Some(folder),
            On::Deployment(_) => given.deployment.is_some(),
        }
    }
}

pub async fn share(args: ShareArgs) -> anyhow::Result<()> {
    let (on, words) = On::parse(args.deployment.as_ref(), &args.words)?;
    let (grantee, level) = match words {
        [] => return list(&on, &args.api).await,
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
    let (field, name) = on.field();
    let of = |this: &str| (field == this).then(|| name.to_owned());
    let body = GrantBody {
        secret: of("secret"),
        under: of("under"),
        deployment: of("deployment"),
        grantee: grantee.clone(),
        level,
        only: args.only.into_iter().map(String::from).collect(),
    };
    let client = args.api.server.client().await?;
    let made: GrantMade = client.post("/grants").body(&body)?.json().await?;
    if args.api.json {
        return shown::json(&made);
    }
    shown::line(format!("{grantee} has {} on {name} now.", level.as_str()))?;
    Ok(())
}

async fn list(on: &On, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let items = client.list("/grants", &[on.field()]).await?;
    if api.json {
        return shown::json(&Page::last(items));
    }
    let mut rows = Vec::new();
    for item in items {
        let given: Given = serde_json::from_value(item)?;
        let where_given = given.secret.or(given.deployment);
        let where_given = where_given.or(given.under.map(|under| format!("{under}/")));
        rows.push([
            Cell::from(given.grantee),
            given.level.as_str().into(),
            where_given.unwrap_or_default().into(),
            given.only.join(", ").into(),
        ]);
    }
    if rows.is_empty() {
        shown::aside("It is shared with nobody.");
        return Ok(());
    }
    shown::table(["WITH", "LEVEL", "ON", "ONLY IN"], rows)?;
    Ok(())
}

pub async fn unshare(args: UnshareArgs) -> anyhow::Result<()> {
    let (on, words) = On::parse(args.deployment.as_ref(), &args.words)?;
    let [grantee] = words else {
        return Err(Failure::usage(
            "Say with whom it is shared no longer: an e-mail address or a handle.",
        )
        .into());
    };
    let client = args.api.server.client().await?;
    let id = given_to(&client, &on, grantee).await?;
    client.delete(&format!("/grants/{id}")).done().await?;
    if args.api.json {
        return shown::json(&json!({ "id": id, "deleted": true }));
    }
    shown::line(format!(
        "{} is not shared with {grantee} any more.",
        on.name()
    ))?;
    Ok(())
}

async fn given_to(client: &Client, on: &On, grantee: &str) -> anyhow::Result<Uuid> {
    // Handles are compared here: one whose account has ended is nobody's name any more.
    let asked = if grantee.contains('@') { grantee } else { "" };
    let items = client
        .list("/grants", &[on.field(), ("grantee", asked)])
        .await?;
    for item in items {
        let given: Given = serde_json::from_value(item)?;
        if on.is_of(&given) && (given.grantee == grantee || !asked.is_empty()) {
            return Ok(given.id);
        }
    }
    let detail = format!("{} itself is not shared with {grantee}.", on.name());
    Err(Failure::new(Exit::NotFound, detail).into())
}

//! `sealport secret edit`: what is said of a secret, without a new value.

use clap::Args;

use super::{changed, kind};
use crate::cli::failures::Failure;
use crate::cli::server::ApiArgs;
use crate::cli::times;
use crate::doors::rest::secrets::{Secret, SecretPatch};
use crate::model::paths::{KeyPath, Tag};
use crate::model::secrets::Kind;

#[derive(Args)]
pub struct EditArgs {
    /// The secret.
    #[arg(value_parser = KeyPath::parse)]
    path: KeyPath,

    #[command(flatten)]
    says: Says,

    /// Take all its tags away.
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// What can be said of a secret, new or old.
#[derive(Args, Clone)]
pub struct Says {
    /// What it is: api_key, database_url, jwt_secret, certificate, json or custom.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,

    /// A word to find it by, in place of those that it had; can be given several times.
    #[arg(long = "tag", value_name = "TAG", value_parser = Tag::parse)]
    pub tags: Vec<Tag>,

    /// Until when it can be used: a moment, a day, a time from now as in 90d, or never.
    #[arg(long, value_name = "TIME", value_parser = times::end)]
    pub expires: Option<times::End>,
}

pub async fn run(args: EditArgs) -> anyhow::Result<()> {
    let EditArgs {
        path,
        says,
        no_tags,
        api,
    } = args;
    let patch = SecretPatch {
        kind: says.kind,
        description: says.description,
        tags: (no_tags || !says.tags.is_empty()).then_some(says.tags),
        expires_at: says.expires.map(|end| end.0),
        ..SecretPatch::default()
    };
    let is_empty = patch.kind.is_none()
        && patch.description.is_none()
        && patch.tags.is_none()
        && patch.expires_at.is_none();
    if is_empty {
        return Err(Failure::usage(
            "Say what to change: --kind, --description, --tag, --no-tags or --expires. A new value is stored with `sealport secret set`, \
             a new path given with `sealport secret rename`.",
        )
        .into());
    }
    let client = api.server.client().await?;
    let request = client.patch(&format!("/secrets/{path}"));
    let answer: Secret = request.body(&patch)?.json().await?;
    changed(&api, &answer, || format!("Changed {path}."))
}

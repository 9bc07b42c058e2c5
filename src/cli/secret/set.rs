//! `sealport secret set`: a value in, by standard input or a prompt, or one that the server makes and shows to nobody.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::changed;
use crate::cli::server::ApiArgs;
use crate::cli::{shown, times, typed};
use crate::doors::rest::secrets::{Generate, GeneratedAs, SecretBody, SecretStored};
use crate::model::paths::{KeyPath, Tag};
use crate::model::secrets::Kind;

#[derive(Args)]
pub struct SetArgs {
    #[arg(value_parser = KeyPath::parse)]
    path: KeyPath,

    /// What stands where a value would: it is refused.
    #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
    refused: Vec<OsString>,

    /// What it is: api_key, database_url, jwt_secret, certificate, json or custom.
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// A word to find it by; can be given several times.
    #[arg(long = "tag", value_name = "TAG", value_parser = Tag::parse)]
    tags: Vec<Tag>,

    /// Until when it can be used: a moment, a day, or a time from now as in 90d.
    #[arg(long, value_name = "TIME", value_parser = times::ahead)]
    expires: Option<OffsetDateTime>,

    /// Let the server make the value out of so many random bytes. It is shown to nobody.
    #[arg(long, value_name = "BYTES")]
    generate: Option<usize>,

    /// How a generated value is written.
    #[arg(long, requires = "generate", value_enum, default_value_t = Encoding::Base64url)]
    encoding: Encoding,

    /// Only over this version.
    #[arg(long, value_name = "N", conflicts_with = "new")]
    if_version: Option<i32>,

    /// Only where nothing is stored yet.
    #[arg(long)]
    new: bool,

    /// Take standard input as it is, the end of a single line with it.
    #[arg(long)]
    exact: bool,

    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Base64url,
    Hex,
}

pub fn kind(name: &str) -> Result<Kind, String> {
    Kind::from_name(name).ok_or_else(|| {
        let names = Kind::ALL.map(Kind::as_str);
        format!("the kinds are {}", names.join(", "))
    })
}

pub async fn run(args: SetArgs) -> anyhow::Result<()> {
    let path = &args.path;
    typed::refuse_argument(&args.refused, &format!("secret set {path}"), "value")?;
    let client = args.api.server.client().await?;
    let body = SecretBody {
        path: None,
        key: None,
        value: match args.generate {
            Some(_) => None,
            None => Some(typed::value(&format!("Value of {path}"), args.exact)?),
        },
        generate: args.generate.map(|bytes| Generate {
            bytes,
            encoding: match args.encoding {
                Encoding::Base64url => GeneratedAs::Base64Url,
                Encoding::Hex => GeneratedAs::Hex,
            },
        }),
        kind: args.kind,
        description: args.description,
        tags: (!args.tags.is_empty()).then_some(args.tags),
        expires_at: args.expires.map(Some),
    };
    let mut request = client.put(&format!("/secrets/{path}")).body(&body)?;
    if args.new {
        request = request.if_nothing();
    } else if let Some(version) = args.if_version {
        request = request.if_version(version);
    }
    let answer: SecretStored = request.json().await?;
    changed(&args.api, &answer, || match answer.version {
        1 => format!("Sealed {path}."),
        version => format!("Sealed {path} as version {version}."),
    })?;
    for note in answer.notes {
        shown::aside(shown::plain(&note));
    }
    Ok(())
}

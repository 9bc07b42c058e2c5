//! `sealport secret set`: a value in, by standard input or a prompt, or one that the server makes and shows to nobody.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::edit::Says;
use super::{changed, standing};
use crate::cli::client::Client;
use crate::cli::server::ApiArgs;
use crate::cli::{shown, typed};
use crate::doors::rest::secrets::{Generate, GeneratedAs, Secret, SecretBody, SecretStored};
use crate::model::imports::Note;
use crate::model::paths::{EnvName, KeyPath};
use crate::model::secrets::Kind;

#[derive(Args)]
pub struct SetArgs {
    /// Where it is stored, as in project/shop/STRIPE_KEY.
    #[arg(value_parser = KeyPath::parse)]
    path: KeyPath,

    /// What stands where a value would: it is refused.
    #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
    refused: Vec<OsString>,

    #[command(flatten)]
    says: Says,

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
    let says_end = args.says.expires.is_some();
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
        kind: args.says.kind,
        description: args.says.description,
        tags: (!args.says.tags.is_empty()).then_some(args.says.tags),
        expires_at: args.says.expires.map(|end| end.0),
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
    if EnvName::default_for(&path.path).is_err() {
        shown::aside(format!(
            "{} `run` and `export` refuse it too: rename it, or leave it out there with --except.",
            Note::Refused.sentence()
        ));
    }
    if !answer.created && !says_end {
        tell_standing(&client, path).await;
    }
    Ok(())
}

/// A new value does not give what has ended another end, nor does it switch anything on.
async fn tell_standing(client: &Client, path: &KeyPath) {
    // It is stored: what is only said besides may fail.
    let asked = client.get(&format!("/secrets/{path}")).json::<Secret>();
    match asked.await.as_ref().map(standing) {
        Ok("expired") => shown::aside(format!(
            "It is still expired: give it another end with `sealport secret edit {path} --expires`."
        )),
        Ok("off") => shown::aside(format!(
            "It is still switched off: `sealport secret on {path}`."
        )),
        _ => {}
    }
}

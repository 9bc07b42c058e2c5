//! `sealport login` and `logout`: a server and a token, kept for the commands that come.

use clap::Args;

use super::client::Client;
use super::credentials::{self, Kept, Login};
use super::failures::{Exit, Failure};
use super::server::{ServerArgs, checked_token, checked_url};
use super::{shown, typed};
use crate::store::tokens::PlainToken;

#[derive(Args)]
pub struct LoginArgs {
    /// What stands where a token would: it is refused.
    #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
    refused: Vec<std::ffi::OsString>,

    /// The address of your Sealport, as in https://sealport.example.org. Without it: it is asked for.
    #[arg(long, env = "SEALPORT_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
}

/// Asks for the address and the token, tries them, and keeps them.
pub async fn login(args: LoginArgs) -> anyhow::Result<()> {
    typed::refuse_argument(&args.refused, "login", "token")?;
    let url = match ServerArgs::at(args.url).url()? {
        Some(url) => url,
        None => {
            let typed =
                typed::line("Address of your Sealport, as in https://sealport.example.org: ")?;
            let typed = typed.ok_or_else(|| {
                Failure::usage(
                    "Say which server: `sealport login --url https://sealport.example.org`, or SEALPORT_URL.",
                )
            })?;
            checked_url(&typed)?
        }
    };
    let token = checked_token(&typed::hidden_line("Token (not shown): ")?)?;
    // Its last characters check the others, so that a typo is found here.
    if PlainToken::parse(&token).is_none() {
        return Err(Failure::usage(
            "This is not a token of Sealport: it was not copied whole. Copy it as it was shown when it was made.",
        )
        .into());
    }
    let client = Client::new(url.clone(), token.clone())?;
    let one = client.get("/secrets").query(&[("limit", "1")]);
    one.done().await?;
    let told = url.clone();
    match credentials::keep(&Login { url, token }).await? {
        Kept::Keyring => shown::line(format!(
            "Signed in to {told}. The token is in the system's keyring."
        ))?,
        Kept::File(file) => shown::line(format!(
            "Signed in to {told}. The token is in {}, which only you can read.",
            file.display()
        ))?,
    }
    Ok(())
}

pub async fn logout() -> anyhow::Result<()> {
    match credentials::forget().await? {
        Some(url) => shown::line(format!(
            "Signed out of {url}: the token is removed from this machine. It holds until it is revoked in the dashboard, under Tokens."
        ))?,
        None => return Err(Failure::new(Exit::NotFound, "Nobody is signed in here.").into()),
    }
    Ok(())
}

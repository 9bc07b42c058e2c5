//! Which Sealport a command speaks to, and as whom.

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::client::Client;
use super::credentials::{self, Login};
use super::failures::{Exit, Failure};

/// What every command over the API takes.
#[derive(Args, Clone)]
pub struct ServerArgs {
    /// The address of your Sealport, as in https://sealport.example.org. Without it: the one that `sealport login` kept.
    #[arg(long, env = "SEALPORT_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
}

/// The same, for a command that can answer as JSON.
#[derive(Args, Clone)]
pub struct ApiArgs {
    #[command(flatten)]
    pub server: ServerArgs,

    /// Print what the server answered, as JSON.
    #[arg(long)]
    pub json: bool,
}

impl ServerArgs {
    pub fn at(url: Option<String>) -> ServerArgs {
        ServerArgs { url }
    }

    pub async fn client(&self) -> anyhow::Result<Client> {
        let login = self.login().await?;
        Client::new(login.url, login.token)
    }

    /// The address alone, where it was given.
    pub fn url(&self) -> Result<Option<Url>, Failure> {
        // Empty counts as absent, as an empty SEALPORT_TOKEN does.
        let given = self.url.as_deref().filter(|url| !url.trim().is_empty());
        given.map(checked_url).transpose()
    }

    /// The server and the token. Errors: there is none, or it would go where it must not.
    pub async fn login(&self) -> anyhow::Result<Login> {
        let given = self.url()?;
        if let Some(token) = token_of_environment()? {
            let url = match given {
                Some(url) => Some(url),
                None => credentials::kept_url()?,
            };
            let url = url.ok_or_else(|| Failure::usage(
                "SEALPORT_TOKEN is set without SEALPORT_URL. Set SEALPORT_URL to the address of your Sealport, as in \
                 https://sealport.example.org.",
            ))?;
            let url = checked_url(url.as_str())?;
            return Ok(Login { url, token });
        }
        let nobody = || {
            Failure::new(
                Exit::Denied,
                "No token. Sign in with `sealport login`, or set SEALPORT_URL and SEALPORT_TOKEN. Tokens are made in the \
                 dashboard, or by `sealport token new` on the server's machine.",
            )
        };
        // A token goes to the server that it is for and to no other.
        match credentials::kept_url()? {
            Some(kept) if given.is_none_or(|given| given == kept) => {}
            Some(kept) => {
                return Err(Failure::new(
                    Exit::Denied,
                    format!(
                        "The kept login is for {kept}, and is not sent elsewhere. Set SEALPORT_TOKEN, or sign in to this server with \
                         `sealport login`."
                    ),
                )
                .into());
            }
            None => return Err(nobody().into()),
        }
        let login = credentials::kept().await?.ok_or_else(nobody)?;
        checked_url(login.url.as_str())?;
        Ok(login)
    }
}

/// Never a flag: a command line is read by everybody on the machine.
fn token_of_environment() -> Result<Option<SecretString>, Failure> {
    match std::env::var("SEALPORT_TOKEN") {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => checked_token(&SecretString::from(text)).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage("SEALPORT_TOKEN is not text."))
        }
    }
}

/// A token without blanks around it. Errors: it cannot be one; what it is, is not told.
pub fn checked_token(raw: &SecretString) -> Result<SecretString, Failure> {
    let text = raw.expose_secret().trim();
    if text.starts_with("sp_") && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(SecretString::from(text))
    } else {
        Err(Failure::usage(
            "This is not a token: Sealport's begin with sp_. Copy it whole, as it was shown when it was made.",
        ))
    }
}

/// The address of a server that a token may be sent to. Errors: malformed, or http beyond this machine. What was given is not
/// repeated: it may hold a password.
pub fn checked_url(raw: &str) -> Result<Url, Failure> {
    let form = || {
        Failure::usage(
            "The address of a Sealport is a scheme and a host, as in https://sealport.example.org, and nothing else. It comes from \
             SEALPORT_URL, --url or `sealport login`.",
        )
    };
    let url = Url::parse(raw.trim()).map_err(|_| form())?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !bare {
        return Err(form());
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(Failure::usage(format!(
            "No token is sent to {url}: http beyond this machine can be read on the way. Use its https address; for a server without \
             one, a tunnel such as `ssh -L 3000:127.0.0.1:3000 HOST` and http://127.0.0.1:3000."
        )));
    }
    Ok(url)
}

/// This machine itself, without asking a name server.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_goes_over_https_or_stays_on_this_machine() {
        for good in [
            "https://sealport.example.org",
            "https://sealport.example.org:8443/",
            "http://127.0.0.1:3000",
            "http://127.1.2.3",
            "http://localhost:3000",
            "http://[::1]:3000",
            " https://10.0.0.1 ",
        ] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for plain in [
            "http://sealport.example.org",
            "http://10.0.0.1:3000",
            "http://0.0.0.0:3000",
            "http://localhost.example.org",
            "http://[::ffff:127.0.0.1]:3000",
            "http://2130706433.example.org",
        ] {
            let refused = checked_url(plain).unwrap_err();
            assert!(refused.detail.contains("No token is sent"), "{plain}");
        }
        for bad in [
            "",
            "sealport.example.org",
            "ftp://sealport.example.org",
            "https://ann:pa55w0rd@sealport.example.org",
            "https://sealport.example.org/api",
            "https://sealport.example.org/?x=1",
            "https://sealport.example.org/#x",
        ] {
            let refused = checked_url(bad).unwrap_err();
            assert!(refused.detail.contains("nothing else"), "{bad}");
            assert!(!refused.detail.contains("pa55w0rd"));
        }
    }

    #[test]
    fn what_is_no_token_is_not_repeated() {
        let token = |raw: &str| checked_token(&SecretString::from(raw));
        assert_eq!(token(" sp_abc\n").unwrap().expose_secret(), "sp_abc");
        for bad in ["", "abcdef", "sp_a b", "sp_a\u{e4}", "sp_\u{1b}"] {
            let refused = token(bad).unwrap_err().detail;
            assert!(bad.is_empty() || !refused.contains(bad), "{bad}");
        }
    }
}

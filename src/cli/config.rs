//! Configuration: flags and variables, one struct, which fails at the start and names what is wrong.

use std::env::VarError;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::deploy::providers::render;
use crate::store::data_dir::DataDir;
use crate::store::db::{DatabaseConfig, KeySource};
use crate::store::embedded::Embedded;

/// Where the data is, and how it is reached: for the server and for commands on its host.
#[derive(Args)]
pub struct DatabaseArgs {
    /// The directory of the embedded database, the key file and the guests.
    #[arg(long = "data", env = "SEALPORT_DATA", default_value = "./data")]
    pub data: PathBuf,

    /// A PostgreSQL 14 or newer to use rather than the embedded one. As a flag it holds no password.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,

    /// The login that owns the tables and migrates; absent: that of DATABASE_URL.
    #[arg(long, env = "DATABASE_OWNER_URL", hide_env_values = true)]
    pub database_owner_url: Option<SecretString>,

    /// A file with master keys, mode 0600. Absent: master.key in the data directory, made at the first start.
    #[arg(long, env = "SEALPORT_MASTER_KEY_FILE")]
    master_key_file: Option<PathBuf>,
}

impl DatabaseArgs {
    /// What no deployed server may see: the data directory, the database and a key file elsewhere.
    pub fn private_places(&self, data: &DataDir) -> Vec<PathBuf> {
        let mut places = vec![data.root().to_owned(), data.postgres_dir()];
        places.extend(self.master_key_file.clone());
        places
    }

    /// Where the master keys are.
    pub fn keys(&self, data: &DataDir) -> anyhow::Result<KeySource> {
        Ok(match (master_key()?, &self.master_key_file) {
            (Some(_), Some(_)) => {
                bail!("Set either SEALPORT_MASTER_KEY or SEALPORT_MASTER_KEY_FILE, not both.")
            }
            (Some(text), None) => KeySource::Variable(text),
            (None, Some(path)) => KeySource::File(path.clone()),
            (None, None) => KeySource::FileOrNew(data.key_file()),
        })
    }

    /// Where the database is; the embedded one is started. `serving`: it belongs to this process and is watched over.
    pub async fn place(
        &self,
        data: &DataDir,
        serving: bool,
    ) -> anyhow::Result<(DatabaseConfig, Option<Embedded>)> {
        use secrecy::ExposeSecret;
        Ok(match &self.database_url {
            Some(url) => {
                let owner = self.database_owner_url.as_ref();
                let config = DatabaseConfig::from_urls(
                    url.expose_secret(),
                    owner.map(|owner| owner.expose_secret()),
                )?;
                (config, None)
            }
            None => {
                if self.database_owner_url.is_some() {
                    bail!(
                        "DATABASE_OWNER_URL is set without DATABASE_URL. Set both, or neither for the embedded database."
                    );
                }
                let embedded = if serving {
                    Embedded::start(data).await
                } else {
                    Embedded::attach_or_start(data).await
                }
                .context("The embedded PostgreSQL did not start")?;
                let config =
                    DatabaseConfig::new(embedded.app_options(), Some(embedded.owner_options()));
                (config, Some(embedded))
            }
        })
    }
}

/// What may hold a login's password: the arguments of [`DatabaseArgs`], and their variables.
const LOGINS: [(&str, &str, &str); 2] = [
    ("database_url", "--database-url", "DATABASE_URL"),
    (
        "database_owner_url",
        "--database-owner-url",
        "DATABASE_OWNER_URL",
    ),
];

/// Where an empty variable is likelier a mistake than a wish: it would lead to other data or to other keys.
const NEVER_EMPTY: [&str; 4] = [
    "SEALPORT_DATA",
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "SEALPORT_MASTER_KEY_FILE",
];

/// Any other variable of the server's that is empty counts as not set, as in `SEALPORT_DIR_ROOTS=` of an environment file. Other commands
/// are started by hand, or take variables by which somebody is kept out.
pub fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| {
        !NEVER_EMPTY.iter().any(|never| name == *never)
            && std::env::var_os(name).is_some_and(|value| value.is_empty())
    };
    ["serve", "doctor"]
        .into_iter()
        .fold(command, |command, name| {
            command.mut_subcommand(name, |command| {
                command.mut_args(|arg| match arg.get_env().is_some_and(is_empty) {
                    true => arg.env(Resettable::Reset),
                    false => arg,
                })
            })
        })
}

/// Errors: a flag holds a login's password, as a sentence without it. A command line is read by everybody on the machine.
pub fn refuse_passwords_in_flags(command_line: &ArgMatches) -> Result<(), String> {
    let mut matches = command_line;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    for (argument, flag, variable) in LOGINS {
        // Asked first: of a command without this argument clap answers by a panic.
        let is_flag = matches.try_contains_id(argument).unwrap_or(false)
            && matches.value_source(argument) == Some(ValueSource::CommandLine);
        if is_flag
            && matches
                .get_one::<SecretString>(argument)
                .is_some_and(has_password)
        {
            return Err(format!(
                "{flag} takes no password: a command line is read by everybody on the machine. Give this URL in the \
                 variable {variable} instead; if others use this machine, change the password."
            ));
        }
    }
    Ok(())
}

fn has_password(url: &SecretString) -> bool {
    use secrecy::ExposeSecret;
    let text = url.expose_secret();
    match Url::parse(text) {
        Ok(url) => {
            url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
        }
        // As with a slash in a password that was not escaped.
        Err(_) => text.contains('@'),
    }
}

/// The master keys' text. Not a flag, nor any argument: a command line is read by everybody on the machine.
fn master_key() -> anyhow::Result<Option<SecretString>> {
    match std::env::var("SEALPORT_MASTER_KEY") {
        Ok(text) => Ok(Some(SecretString::from(text))),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => bail!("SEALPORT_MASTER_KEY is not text."),
    }
}

/// The passphrase of a backup. Never a flag: a command line is read by everybody on the machine.
#[derive(Args)]
pub struct PassphraseArgs {
    /// The passphrase is the first line of standard input. Without this and the file below it is asked for.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub passphrase_stdin: bool,

    /// A file whose first line is the passphrase, mode 0600.
    #[arg(long, env = "SEALPORT_BACKUP_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// What guests may do, for the server and for a look at it.
#[derive(Args)]
pub struct GuestArgs {
    /// Hosts, or networks, that sources and servers may reach although they are private; loopback included.
    #[arg(long, env = "SEALPORT_SOURCE_HOSTS", value_delimiter = ',', value_parser = source_host)]
    pub source_hosts: Vec<String>,

    /// Run servers without a sandbox where the host has none. Their code then runs as Sealport's own user.
    #[arg(long, env = "SEALPORT_ALLOW_UNSANDBOXED")]
    pub allow_unsandboxed: bool,
}

/// Where providers are asked.
#[derive(Args)]
pub struct ProviderApis {
    /// Render's API. Another than Render's own is for trying things out.
    #[arg(long, env = "SEALPORT_RENDER_API", default_value = render::API)]
    pub render_api: Url,

    /// Railway's API. Another than Railway's own is for trying things out.
    #[arg(
        long,
        env = "SEALPORT_RAILWAY_API",
        default_value = "https://backboard.railway.com/graphql/v2"
    )]
    pub railway_api: Url,
}

/// Providers, and what goes there.
#[derive(Args)]
pub struct ProviderArgs {
    #[command(flatten)]
    pub apis: ProviderApis,

    /// The image in which npm and PyPI packages go to a provider, as in registry.example.org/sealport-bridge:1; -node and -python
    /// are put after its name.
    #[arg(long, env = "SEALPORT_BRIDGE_IMAGE", value_parser = bridge_image)]
    pub bridge_image: Option<String>,
}

/// How the server runs.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Where the server listens.
    #[arg(long, env = "SEALPORT_ADDR", default_value = "127.0.0.1:3000")]
    pub addr: SocketAddr,

    /// Where people reach it, as in https://sealport.example.org. Absent: http on the listening address.
    #[arg(long, env = "SEALPORT_PUBLIC_URL")]
    pub public_url: Option<Url>,

    /// Serve beyond loopback without TLS: passwords and values then cross the network in clear.
    #[arg(long, env = "SEALPORT_ALLOW_PLAIN_HTTP")]
    pub allow_plain_http: bool,

    /// Addresses or networks of proxies whose X-Forwarded-For is believed.
    #[arg(long, env = "SEALPORT_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Requests to the API and the MCP tools that each token has in a minute; 0: as many as there come.
    #[arg(
        long,
        env = "SEALPORT_API_REQUESTS_PER_MINUTE",
        default_value_t = 6_000
    )]
    pub api_requests_per_minute: u32,

    /// Calls of deployed servers that each caller has in a minute, over all of their tokens; 0: as many as there come.
    #[arg(long, env = "SEALPORT_CALLS_PER_MINUTE", default_value_t = 6_000)]
    pub calls_per_minute: u32,

    /// Directories under which administrators may deploy servers by `dir:`.
    #[arg(long, env = "SEALPORT_DIR_ROOTS", value_delimiter = ',', value_parser = directory)]
    pub dir_roots: Vec<PathBuf>,

    #[command(flatten)]
    pub guests: GuestArgs,

    #[command(flatten)]
    pub providers: ProviderArgs,

    /// What is logged, as in `info` or `sealport=debug`.
    // Wrong passwords are on record, where there is an end to them; axum-login calls each an error. What PostgreSQL notes at a start
    // (that something is there already) is no news.
    #[arg(
        long,
        env = "SEALPORT_LOG",
        default_value = "info,axum_login=off,sqlx::postgres::notice=warn"
    )]
    pub log: String,
}

impl ServeArgs {
    /// The address that people use. Errors: a wrong one, or one that would carry values in clear, by the variable's name.
    pub fn checked_public_url(&self, listening: SocketAddr) -> anyhow::Result<Url> {
        let url = match &self.public_url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("http://{listening}"))?,
        };
        if !matches!(url.scheme(), "http" | "https")
            || url.host_str().is_none()
            || url.path() != "/"
            || url.query().is_some()
            || !url.username().is_empty()
        {
            bail!(
                "SEALPORT_PUBLIC_URL is a scheme and a host, as in https://sealport.example.org, and nothing else."
            );
        }
        if !self.addr.ip().is_loopback() && url.scheme() != "https" && !self.allow_plain_http {
            bail!(
                "SEALPORT_ADDR {} is reachable from other machines, so SEALPORT_PUBLIC_URL must be an https address \
                 (with a proxy that speaks TLS in front). SEALPORT_ALLOW_PLAIN_HTTP=true serves without TLS all the same.",
                self.addr
            );
        }
        Ok(url)
    }
}

/// A network, or an address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse())
        .map_err(|_| "it is no network: write an address, or a network as 10.0.0.0/8".into())
}

/// A directory that is there.
fn directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err("it is no directory".into()),
        Err(error) => Err(format!("this directory cannot be used: {error}")),
    }
}

/// An image by its tag: of one by its digest there are no variants.
fn bridge_image(text: &str) -> Result<String, String> {
    let image = text.trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    match !image.is_empty() && image.chars().all(is_plain) {
        true => Ok(image.to_owned()),
        false => Err("name the image with a tag and without a digest, as in registry.example.org/sealport-bridge:1".into()),
    }
}

/// A name, an address, either with a port, or a network.
pub(super) fn source_host(text: &str) -> Result<String, String> {
    let entry = text.trim();
    if entry.parse::<IpNet>().is_ok() || entry.parse::<IpAddr>().is_ok() {
        return Ok(entry.to_owned());
    }
    let host = match entry.rsplit_once(':') {
        _ if entry.ends_with(']') => Some(entry),
        Some((host, port)) => port
            .parse::<u16>()
            .is_ok_and(|port| port > 0)
            .then_some(host),
        None => Some(entry),
    };
    let good = host.is_some_and(|host| {
        let v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
            || host.parse::<Ipv4Addr>().is_ok()
            || is_name(host)
    });
    if good {
        Ok(entry.to_owned())
    } else {
        Err("it is no host: write a name, an address, host:port, or a network as 10.0.0.0/8".into())
    }
}

/// Whether it can be a host's name. One that ends in a number would be an address, and is none.
fn is_name(host: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(word) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_image_with_variants_is_named_by_its_tag() {
        let image = "registry.example.org:5000/sealport-bridge:1";
        assert_eq!(bridge_image(image).as_deref(), Ok(image));
        for wrong in ["", "bridge@sha256:0123", "bridge 1"] {
            assert!(bridge_image(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_known_from_a_typo() {
        for good in [
            "git.example.org",
            "GIT.example.org:8443",
            "localhost",
            "my_host-1",
            "10.0.0.1",
            "10.0.0.1:443",
            "::1",
            "[::1]:443",
            "[fd00::1]",
            "10.0.0.0/8",
            "fd00::/8",
            " git.example.org ",
        ] {
            assert_eq!(source_host(good).as_deref(), Ok(good.trim()), "{good}");
        }
        for typo in [
            "",
            " ",
            "10.0.0.0/33",
            "10.0.0",
            "10.0.0.256",
            "https://git.example.org",
            "git.example.org/",
            "a b",
            "git..org",
            ".org",
            "git.example.org:",
            "git.example.org:99999",
            "git.example.org:0",
            "[::1",
            "a;b",
            "*.org",
        ] {
            assert!(source_host(typo).is_err(), "{typo}");
        }
    }

    #[test]
    fn no_server_may_see_the_data_the_database_or_a_key_file_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(&place.path().join("data")).unwrap();
        let mut args = DatabaseArgs {
            data: data.root().to_owned(),
            database_url: None,
            database_owner_url: None,
            master_key_file: None,
        };
        let hidden = args.private_places(&data);
        assert_eq!(hidden, [data.root().to_owned(), data.postgres_dir()]);
        args.master_key_file = Some("/usr/src/app/master.key".into());
        let hidden = args.private_places(&data);
        assert_eq!(hidden[2], PathBuf::from("/usr/src/app/master.key"));
    }
}

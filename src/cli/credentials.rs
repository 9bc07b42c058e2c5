//! Where `sealport login` keeps a token: the system's keyring where there is one, else a file of mode 0600.
//!
//! The keyring is asked through `secret-tool`, which comes with libsecret. A library for it would bring a D-Bus
//! implementation of some hundred crates into the process that holds the master keys; this brings none, and works with
//! whatever keyring the session has. The token goes through pipes, never through arguments.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use url::Url;
use zeroize::Zeroizing;

/// A keyring that is locked asks its person; one that does not answer is none.
const KEYRING_PATIENCE: Duration = Duration::from_secs(60);
const FILE_LEN_BYTES: u64 = 16 * 1024;

/// A token and the server that it is for: it goes nowhere else.
pub struct Login {
    pub url: Url,
    pub token: SecretString,
}

/// Where a login was put.
pub enum Kept {
    Keyring,
    File(PathBuf),
}

/// What the file holds: the server, and the token unless the keyring has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    url: Url,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed"
    )]
    token: Option<SecretString>,
}

fn exposed<S: serde::Serializer>(
    token: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match token {
        Some(token) => serializer.serialize_some(token.expose_secret()),
        None => serializer.serialize_none(),
    }
}

/// Keeps it, in place of an earlier one.
pub async fn keep(login: &Login) -> anyhow::Result<Kept> {
    let file = file().context(
        "There is no home directory to keep a login in. Set SEALPORT_URL and SEALPORT_TOKEN instead",
    )?;
    // One that cannot be read, or that others can, is replaced like any other.
    let before = read(&file).unwrap_or_default();
    let in_keyring = keyring_store(login).await;
    let stored = Stored {
        url: login.url.clone(),
        token: (!in_keyring).then(|| login.token.clone()),
    };
    write(&file, &stored).with_context(|| format!("{} cannot be written", file.display()))?;
    if let Some(before) = before.filter(|before| before.token.is_none())
        && !(in_keyring && before.url == login.url)
    {
        keyring_clear(&before.url).await;
    }
    Ok(if in_keyring {
        Kept::Keyring
    } else {
        Kept::File(file)
    })
}

/// The login that was kept, if any. Errors: others can read its file, or it does not read.
pub async fn kept() -> anyhow::Result<Option<Login>> {
    let Some(stored) = stored()? else {
        return Ok(None);
    };
    let token = match stored.token {
        Some(token) => token,
        None => match keyring_lookup(&stored.url).await {
            Some(token) => token,
            None => bail!(
                "The token for {} is in the system's keyring, which does not give it now. Unlock the keyring, set \
                 SEALPORT_TOKEN, or sign in again with `sealport login`.",
                stored.url
            ),
        },
    };
    Ok(Some(Login {
        url: stored.url,
        token,
    }))
}

/// Only the address of the server, which no keyring has to be asked for.
pub fn kept_url() -> anyhow::Result<Option<Url>> {
    Ok(stored()?.map(|stored| stored.url))
}

/// Removes what was kept, and says for which server it was.
pub async fn forget() -> anyhow::Result<Option<Url>> {
    let Some(file) = file() else {
        return Ok(None);
    };
    let Some(stored) = read(&file)? else {
        return Ok(None);
    };
    if stored.token.is_none() {
        keyring_clear(&stored.url).await;
    }
    fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()))?;
    Ok(Some(stored.url))
}

/// `sealport/login.json` in the directory that the XDG specification names for configuration.
/// None without a home.
fn file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    // "All paths set in these environment variables must be absolute": others are ignored.
    let config = from("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let config = config.or_else(|| from("HOME").map(|home| home.join(".config")));
    Some(config?.join("sealport").join("login.json"))
}

fn stored() -> anyhow::Result<Option<Stored>> {
    file().map_or(Ok(None), |file| read(&file))
}

fn read(path: &Path) -> anyhow::Result<Option<Stored>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        bail!(
            "Others on this machine can read {}. Run `chmod 600` on it, and give it a new token if they may have.",
            path.display()
        );
    }
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(FILE_LEN_BYTES).read_to_string(&mut text)?;
    // The parser's own words may quote what it read.
    let Ok(stored) = serde_json::from_str(&text) else {
        bail!(
            "{} is no login that this version reads. Remove it, and sign in again with `sealport login`.",
            path.display()
        );
    };
    Ok(Some(stored))
}

/// Whole or not at all, and never readable by others on the way.
fn write(path: &Path, stored: &Stored) -> anyhow::Result<()> {
    let dir = path.parent().context("it has no directory")?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let text = Zeroizing::new(serde_json::to_string_pretty(stored)?);
    let unfinished = dir.join(format!(".login-{}", uuid::Uuid::now_v7()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        // Whatever the umask took away or left.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    Ok(written?)
}

/// Whether the keyring took it.
async fn keyring_store(login: &Login) -> bool {
    let label = format!("--label=Sealport token for {}", login.url);
    let stored = secret_tool(&["store", &label], &login.url, Some(&login.token)).await;
    // Not every keyring keeps what it takes: what counts is that it gives it back.
    stored.is_some()
        && keyring_lookup(&login.url)
            .await
            .is_some_and(|token| token.expose_secret() == login.token.expose_secret())
}

async fn keyring_lookup(url: &Url) -> Option<SecretString> {
    let said = secret_tool(&["lookup"], url, None).await?;
    let text = str::from_utf8(&said).ok()?.trim_end_matches('\n');
    (!text.is_empty()).then(|| SecretString::from(text))
}

async fn keyring_clear(url: &Url) {
    secret_tool(&["clear"], url, None).await;
}

/// What `secret-tool` says, or nothing: there is none, no session that has a keyring, or it refused.
async fn secret_tool(
    arguments: &[&str],
    url: &Url,
    input: Option<&SecretString>,
) -> Option<Zeroizing<Vec<u8>>> {
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS")?;
    let mut child = Command::new("secret-tool")
        .args(arguments)
        .args(["service", "sealport", "server", url.as_str()])
        .env_remove("SEALPORT_TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let asked = async {
        let mut stdin = child.stdin.take()?;
        if let Some(input) = input {
            stdin
                .write_all(input.expose_secret().as_bytes())
                .await
                .ok()?;
        }
        drop(stdin);
        let mut said = Zeroizing::new(Vec::with_capacity(FILE_LEN_BYTES as usize));
        let stdout = child.stdout.take()?;
        stdout
            .take(FILE_LEN_BYTES)
            .read_to_end(&mut said)
            .await
            .ok()?;
        child.wait().await.ok()?.success().then_some(said)
    };
    tokio::time::timeout(KEYRING_PATIENCE, asked).await.ok()?
}

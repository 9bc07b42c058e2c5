//! What the server prints, on its way into our own log: line by line, without colours, and masked. A provider shows it to whoever may
//! see the service there.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::not_started;
use crate::cli::failures::Failure;
use crate::cli::shown::aside;
use crate::deploy::masks::Masks;
use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
use crate::model::deployments::LOG_LINE_LEN_BYTES;
use crate::model::secrets::VALUES_LEN_BYTES;

/// Read from a pipe at once.
const READ_LEN_BYTES: usize = 8 * 1024;

/// Masks for the values of the variables that are named, and of those that look like secrets by their name or their form: which of
/// the environment are secrets, nobody told us. What looks like one and is none costs a few words of a log.
pub(super) async fn masks(
    named: &[String],
    secret: Option<&SecretString>,
) -> Result<Arc<Masks>, Failure> {
    let named: Vec<&str> = named
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
        .collect();
    for name in &named {
        if std::env::var_os(name).is_none() {
            aside(format!(
                "sealport: {name} is to be masked and is not in the environment."
            ));
        }
    }
    let mut values: Vec<SecretString> = std::env::vars_os()
        .filter_map(|(name, value)| to_mask(&named, &name, value))
        .collect();
    values.extend(secret.cloned());
    // Short ones first: of those that find no room the fewest are left out.
    values.sort_unstable_by_key(|value| value.expose_secret().len());
    let mut room = VALUES_LEN_BYTES;
    let count = values.len();
    values.retain(|value| {
        let left = room.checked_sub(value.expose_secret().len());
        room = left.unwrap_or(0);
        left.is_some()
    });
    if values.len() < count {
        aside(format!(
            "sealport: values of more than {} KiB together are not masked: the log shows the longest as the server prints them.",
            VALUES_LEN_BYTES / 1024
        ));
    }
    let masks = Masks::build(values).await;
    let masks = masks.map_err(|_| not_started("The masks were not made.".to_owned()))?;
    Ok(Arc::new(masks))
}

fn to_mask(named: &[&str], name: &OsStr, value: OsString) -> Option<SecretString> {
    let name = name.to_str()?;
    let value = value.into_string().ok()?;
    // A place on the disk can look as random as a key.
    let is_place = value.starts_with('/') && !is_secret_name(name);
    (named.contains(&name) || (!is_place && looks_like_secret(name, &value)))
        .then(|| SecretString::from(value))
}

/// Prints what comes, line by line, until it ends. Where nobody reads our log, it is read all the same: the server must not stand still.
pub(super) async fn pump(mut pipe: impl AsyncRead + Unpin, masks: Arc<Masks>) {
    let mut mask = masks.terminal();
    let mut piece = vec![0; READ_LEN_BYTES];
    let mut line = Vec::new();
    loop {
        let count = pipe.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        whole_lines(&mask.feed(&piece[..count]), &mut line);
    }
    whole_lines(&mask.finish(), &mut line);
    put(&mut line);
}

fn whole_lines(bytes: &[u8], line: &mut Vec<u8>) {
    for byte in bytes {
        if *byte == b'\n' || line.len() >= LOG_LINE_LEN_BYTES {
            put(line);
        }
        if *byte != b'\n' {
            line.push(*byte);
        }
    }
}

fn put(line: &mut Vec<u8>) {
    if !line.is_empty() {
        line.push(b'\n');
        write(line);
        line.clear();
    }
}

/// Prints lines that are masked already.
pub(super) async fn print(mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        write(line.as_bytes());
    }
}

/// Written where it stands, as `sealport run` does: where our log is full, the server feels it as a full pipe.
fn write(bytes: &[u8]) {
    tokio::task::block_in_place(|| {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(bytes);
    });
}

//! `sealport backup` and `sealport restore`.

use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::config::{DatabaseArgs, PassphraseArgs};
use super::opened::with_store;
use crate::store::backup::{
    self, Closed, Decrypted, Header, LEFT_OUT, Lock, PASSPHRASE_MIN_CHARS, Restored,
};
use crate::store::db::Opening;
use crate::store::{Damage, Db};

/// The longest passphrase and the longest file with identities that are read, in bytes.
const PASSPHRASE_MAX_BYTES: u64 = 4 * 1024;
const IDENTITIES_MAX_BYTES: u64 = 64 * 1024;

#[derive(Args)]
pub struct BackupArgs {
    /// The file to make. One that is there is not written over.
    file: PathBuf,

    /// Encrypt to an age recipient (age1…) rather than with a passphrase.
    #[arg(long, conflicts_with_all = ["passphrase_stdin", "passphrase_file"])]
    recipient: Option<String>,

    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct RestoreArgs {
    /// The backup.
    file: PathBuf,

    /// A file with the age identity that the backup was encrypted to, mode 0600.
    #[arg(long, conflicts_with_all = ["passphrase_stdin", "passphrase_file"])]
    identity: Option<PathBuf>,

    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Makes a backup; works while the server runs and when it does not.
pub async fn take(args: BackupArgs) -> anyhow::Result<()> {
    let lock = match &args.recipient {
        Some(recipient) => Lock::recipient(recipient)?,
        None => Lock::Passphrase(new_passphrase(&args.passphrase)?),
    };
    let (taken, secs) = with_store(&args.database, Opening::Command, async |opened| {
        let begun = Instant::now();
        let taken = opened.db.backup(&args.file, &lock).await?;
        Ok((taken, begun.elapsed().as_secs_f64()))
    })
    .await?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "Backed up to {}: {}, {} bytes. Read back and verified, in {secs:.1} s.",
        args.file.display(),
        contents(&taken.header),
        taken.file_bytes
    )?;
    let left_out: Vec<String> = LEFT_OUT
        .iter()
        .map(|(name, why)| format!("{} ({why})", name.replace('_', " ")))
        .collect();
    writeln!(out, "Not in it: {}.", left_out.join(", "))?;
    writeln!(
        out,
        "The values in it are sealed. THE MASTER KEY IS NOT IN IT (fingerprint {}): keep that apart from the backup. Without it \
         the backup opens nothing; whoever has both has every secret, also after the master key was changed.",
        taken.header.active_key()
    )?;
    Ok(())
}

/// Brings a backup back into an empty database that no server uses.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let input = opened(&args)?;
    let data = args.database.data_dir(Opening::Server)?;
    // No server of this directory runs meanwhile, or starts.
    let _lock = data.lock_for_server()?;
    let keys = args.database.keys(&data)?;
    let (config, embedded) = args.database.place(&data, false).await?;
    let begun = Instant::now();
    let done = async {
        let restored = backup::restore(&config, keys.clone(), input).await?;
        // As a server opens it: what it refuses shows now.
        let db = Db::open(config, keys).await?;
        let damage = db.damage().await;
        db.close().await;
        anyhow::Ok((restored, damage?))
    }
    .await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let (restored, damage) = done?;
    told(
        &args.file,
        &restored,
        &damage,
        begun.elapsed().as_secs_f64(),
    )
}

fn told(file: &Path, restored: &Restored, damage: &Damage, secs: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let header = &restored.header;
    let taken_at = header
        .taken_at
        .format(&time::format_description::well_known::Rfc3339)?;
    writeln!(
        out,
        "Restored {} of {taken_at} (Sealport {}, step {}, now at step {}): {}, in {secs:.1} s.",
        file.display(),
        header.sealport,
        header.step,
        restored.step,
        contents(header)
    )?;
    if damage.damaged == 0 {
        writeln!(
            out,
            "Each of {} versions opens with its key.",
            damage.versions
        )?;
    } else {
        writeln!(
            out,
            "{} of {} versions were damaged when the backup was made: {}",
            damage.damaged,
            damage.versions,
            damage.named.join("; ")
        )?;
    }
    writeln!(
        out,
        "Revoked {} tokens and stopped {} deployments. Nobody is signed in.\n\
         What to do now: make sure that the installation it came from does not run any more. Start `sealport serve` and sign in; \
         redeploy each deployment, for its installed files are not in a backup; make new tokens for those who call them; \
         run `sealport doctor`.",
        restored.tokens_revoked, restored.deployments_stopped
    )?;
    Ok(())
}

fn contents(header: &Header) -> String {
    format!(
        "{} owners, {} secrets with {} versions, {} deployments, {} lines of the record ({} rows in all)",
        header.rows_of("owners"),
        header.rows_of("secrets"),
        header.rows_of("secret_versions"),
        header.rows_of("deployments"),
        header.rows_of("audit"),
        header.rows()
    )
}

/// The backup, decrypted by what was given for it.
fn opened(args: &RestoreArgs) -> anyhow::Result<Decrypted> {
    let closed = Closed::find(&args.file)?;
    if closed.wants_passphrase() {
        if args.identity.is_some() {
            bail!(
                "This backup was encrypted with a passphrase, not to a recipient. Leave out --identity."
            );
        }
        let passphrase = match given(&args.passphrase)? {
            Some(passphrase) => passphrase,
            None => asked("Passphrase of the backup: ")?,
        };
        return Ok(closed.open_by_passphrase(&passphrase)?);
    }
    let Some(path) = &args.identity else {
        bail!(
            "This backup was encrypted to a recipient. Give the file with its identity by --identity."
        );
    };
    let cannot = || format!("The identity file {} cannot be read", path.display());
    let file = fs::File::open(path).with_context(cannot)?;
    closed_to_others("identity file", path, &file)?;
    let text = read_bounded(file, IDENTITIES_MAX_BYTES).with_context(cannot)?;
    let identities: Vec<SecretString> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(SecretString::from)
        .collect();
    Ok(closed.open_by_identities(&identities)?)
}

/// The passphrase for a new backup; at a terminal it is asked for twice. Errors: it is too short.
fn new_passphrase(args: &PassphraseArgs) -> anyhow::Result<SecretString> {
    let passphrase = match given(args)? {
        Some(passphrase) => passphrase,
        None => {
            let typed = asked("Passphrase for the backup: ")?;
            let again = asked("The same again: ")?;
            if typed.expose_secret() != again.expose_secret() {
                bail!("The two are not the same. Nothing was backed up.");
            }
            typed
        }
    };
    if passphrase.expose_secret().chars().count() < PASSPHRASE_MIN_CHARS {
        bail!(
            "A backup's passphrase has at least {PASSPHRASE_MIN_CHARS} characters: whoever has the file can try others for as long as they like. \
             Several words are fine."
        );
    }
    Ok(passphrase)
}

/// The passphrase from standard input or a file; none when it is to be asked for.
fn given(args: &PassphraseArgs) -> anyhow::Result<Option<SecretString>> {
    let text = if args.passphrase_stdin {
        read_bounded(std::io::stdin(), PASSPHRASE_MAX_BYTES)
            .context("The passphrase could not be read from standard input")?
    } else if let Some(path) = &args.passphrase_file {
        let cannot = || {
            format!(
                "SEALPORT_BACKUP_PASSPHRASE_FILE {} cannot be read",
                path.display()
            )
        };
        let file = fs::File::open(path).with_context(cannot)?;
        closed_to_others("passphrase file", path, &file)?;
        read_bounded(file, PASSPHRASE_MAX_BYTES).with_context(cannot)?
    } else {
        return Ok(None);
    };
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("The passphrase is empty.");
    }
    Ok(Some(SecretString::from(line)))
}

/// Errors: a file that opens backups can be read or changed by others, as for the master key's. A pipe is read once, by us.
fn closed_to_others(what: &str, path: &Path, file: &fs::File) -> anyhow::Result<()> {
    // Asked of the open file, so that what was checked is what is read.
    let metadata = file
        .metadata()
        .with_context(|| format!("The {what} {} cannot be read", path.display()))?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        bail!(
            "The {what} {} can be read by others (mode {:04o}). Close it with: chmod 600 {}",
            path.display(),
            metadata.mode() & 0o7777,
            path.display()
        );
    }
    Ok(())
}

fn asked(prompt: &str) -> anyhow::Result<SecretString> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "A backup is encrypted, and there is no terminal to ask for a passphrase. Give it by --passphrase-stdin, in the file \
             that SEALPORT_BACKUP_PASSPHRASE_FILE names, or encrypt to a --recipient."
        );
    }
    let typed = rpassword::prompt_password(prompt).context("The passphrase could not be read")?;
    Ok(SecretString::from(typed))
}

/// Text, zeroed when it is dropped. Errors: there is more of it.
fn read_bounded(input: impl Read, max_bytes: u64) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    input.take(max_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max_bytes {
        bail!("it is longer than {max_bytes} bytes");
    }
    Ok(text)
}

//! `sealport key`: the master key and the data keys below it.

use std::io::{IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

use super::config::DatabaseArgs;
use super::opened::with_store;
use crate::store::Db;
use crate::store::db::Opening;
use crate::store::key_status::KeysStatus;
use crate::store::master_keys::MasterKeyNews;
use crate::store::recovery::{self, SHARES_TEXT_LEN_BYTES};

/// How often it is looked whether another server is through.
const LOOKED_EVERY: Duration = Duration::from_millis(500);

/// Prints a new master key alone on standard output.
pub fn new() -> anyhow::Result<()> {
    let key = crate::store::db::new_key()?;
    writeln!(std::io::stdout(), "{}", key.expose_secret())?;
    Ok(())
}

/// Says where all keys stand.
pub async fn status(database: DatabaseArgs) -> anyhow::Result<()> {
    with(database, async |db| {
        let status = db.keys_status().await?;
        write_status(&mut std::io::stdout().lock(), &status)?;
        Ok(())
    })
    .await
}

fn write_status(out: &mut impl Write, status: &KeysStatus) -> std::io::Result<()> {
    for key in &status.masters {
        writeln!(
            out,
            "Master key {}: {} since {}; wraps {}; {}.",
            key.fingerprint,
            key.state,
            at(key.since),
            count(key.data_keys, "data key"),
            if key.known_here {
                "known here"
            } else {
                "not known here"
            }
        )?;
    }
    for key in &status.new_here {
        writeln!(
            out,
            "Master key {key}: given here, and new to this store. `sealport key rotate` changes to it."
        )?;
    }
    for (key, when) in &status.retired {
        writeln!(
            out,
            "Master key {key}: retired {}. Only backups from before open with it.",
            at(*when)
        )?;
    }
    if let Some(staged) = status.masters.iter().find(|key| key.state == "staged") {
        writeln!(
            out,
            "Rotation: {} is staged, and wraps nothing yet. `sealport key rotate` goes on.",
            staged.fingerprint
        )?;
    } else if status.masters.iter().any(|key| key.state == "retiring") {
        writeln!(
            out,
            "Rotation: begun, and not all is wrapped anew. `sealport key rotate` goes on."
        )?;
    } else {
        writeln!(out, "Rotation: none under way.")?;
    }
    let oldest = status.oldest_data_key.map_or(String::from("none yet"), at);
    let schedule = status
        .data_key_max_age_days
        .map_or(String::from("never"), |days| format!("after {days} days"));
    writeln!(
        out,
        "Data keys: the oldest is from {oldest}; each gets a successor {schedule}. {} with a successor, and {} to be sealed anew.",
        count(status.former_data_keys, "data key"),
        count(status.versions_waiting, "version")
    )?;
    if status.servers.is_empty() {
        writeln!(out, "Servers: none is running.")?;
    }
    for server in &status.servers {
        writeln!(
            out,
            "Server {} (version {}, since {}) knows {}.",
            server.name,
            server.version,
            at(server.started_at),
            server.keys.join(", ")
        )?;
    }
    Ok(())
}

/// Changes the master key, or goes on with it.
pub async fn rotate(database: DatabaseArgs) -> anyhow::Result<()> {
    with(database, async |db| {
        let mut rewrapped = 0;
        let mut retired = Vec::new();
        let rotated = db
            .master_key_rotate(|news| {
                // A reader that went away stops nothing half way.
                let _ = match news {
                    MasterKeyNews::Staged(key) => {
                        writeln!(std::io::stdout(), "The new key {key} is staged.")
                    }
                    MasterKeyNews::Promoted(key) => writeln!(
                        std::io::stdout(),
                        "The new key {key} is active: what is new is wrapped by it. Wrapping anew what the former key wraps …"
                    ),
                    MasterKeyNews::Rewrapped(more) => {
                        rewrapped += more;
                        Ok(())
                    }
                    MasterKeyNews::Retired(key) => {
                        retired.push(key);
                        Ok(())
                    }
                };
            })
            .await;
        let mut out = std::io::stdout();
        writeln!(out, "{} wrapped anew.", count(rewrapped, "key"))?;
        rotated?;
        writeln!(
            out,
            "\nNothing here is wrapped by the former key any more: {}.\n\
             - Take it away from SEALPORT_MASTER_KEY or the key file of every server. No hurry, and no restart is needed for it.\n\
             - Back the new key up now, and make new recovery shares (`sealport key split`): the old shares give the old key.\n\
             - BACKUPS FROM BEFORE ARE NOT PROTECTED BY THIS. They open with the former key, for whoever has both. Keep it for as long \
             as you may want to restore one; if it leaked, destroy those backups and replace the secrets themselves.",
            retired.join(", ")
        )?;
        Ok(())
    })
    .await
}

/// Gives every data key a successor and waits until all is sealed anew, by this program or by a server.
pub async fn rotate_data_keys(database: DatabaseArgs) -> anyhow::Result<()> {
    with(database, async |db| {
        let mut out = std::io::stdout();
        match db.data_keys_rotate_all().await? {
            Some(begun) => writeln!(
                out,
                "What was ordered {} is not done: it goes on …",
                at(begun)
            )?,
            None => writeln!(
                out,
                "Every data key gets a successor, and every version is sealed anew …"
            )?,
        }
        loop {
            if let Some(done) = db.rotation_step().await? {
                writeln!(
                    out,
                    "{} got a successor; {} sealed anew.",
                    count(done.successors, "data key"),
                    count(done.resealed, "version")
                )?;
                if done.damaged > 0 {
                    bail!(
                        "{} not open, and stay as they are with their former data keys. Replace those secrets' values, or take them \
                         from a backup.",
                        if done.damaged == 1 {
                            String::from("1 version does")
                        } else {
                            format!("{} versions do", done.damaged)
                        }
                    );
                }
            }
            if db.data_keys_left().await? == (0, 0) {
                break;
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
        writeln!(
            out,
            "Done. A server removes the former data keys when they have been out of use for 16 minutes. Backups from before hold them."
        )?;
        Ok(())
    })
    .await
}

/// Sets when data keys get successors by themselves.
pub async fn data_keys_after(database: DatabaseArgs, days: i32) -> anyhow::Result<()> {
    with(database, async |db| {
        db.data_keys_max_age(days).await?;
        let when = match days {
            0 => String::from("no more by itself"),
            days => format!("after {}", count(i64::from(days), "day")),
        };
        writeln!(std::io::stdout(), "A data key gets a successor {when}.")?;
        Ok(())
    })
    .await
}

/// Prints recovery shares of the active master key. What is not a share begins with `#`, so that all of it can be given to `join`.
pub async fn split(database: DatabaseArgs, shares: u8, threshold: u8) -> anyhow::Result<()> {
    with(database, async |db| {
        let split = db.master_key_split(shares, threshold).await?;
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "# Recovery shares of the master key {}, set {}.\n\
             # Any {} of these {} give the key back; fewer say nothing of it. Give each to another person or place, on paper, and\n\
             # keep no copy of them together: whoever has {} of them and the database has every secret.\n\
             # Try them now: sealport key join --rehearse",
            split.fingerprint,
            split.set,
            split.threshold,
            split.shares.len(),
            split.threshold
        )?;
        for (at, share) in split.shares.iter().enumerate() {
            writeln!(
                out,
                "\n# Share {} of {} (any {} are needed), set {}, key {}\n{}",
                at + 1,
                split.shares.len(),
                split.threshold,
                split.set,
                split.fingerprint,
                share.expose_secret()
            )?;
        }
        Ok(())
    })
    .await
}

/// Joins shares from standard input and prints the key alone; or, as a rehearsal, proves that it opens the store.
pub async fn join(database: DatabaseArgs, rehearse: bool) -> anyhow::Result<()> {
    if !rehearse {
        let recovered = recovery::join(&shares_from_stdin()?)?;
        writeln!(std::io::stdout(), "{}", recovered.text().expose_secret())?;
        return Ok(());
    }
    // Before anybody types shares for nothing.
    let data = database.data_dir(Opening::Command)?;
    let recovered = recovery::join(&shares_from_stdin()?)?;
    let (config, embedded) = database.place(&data, false).await?;
    let rehearsed = recovered.rehearse(config).await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let rehearsed = rehearsed?;
    writeln!(
        std::io::stdout(),
        "The shares give the master key {}, which is {} here. It opens the canary, and {} of the {} that it wraps. Nothing was changed.",
        rehearsed.fingerprint,
        rehearsed.state,
        rehearsed.opened,
        count(rehearsed.data_keys, "data key")
    )?;
    if rehearsed.opened < rehearsed.data_keys {
        bail!(
            "Some data keys do not open with it: their rows were changed or damaged. What they sealed is in a backup, if anywhere."
        );
    }
    Ok(())
}

fn shares_from_stdin() -> anyhow::Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        writeln!(
            std::io::stderr(),
            "Type the shares, one a line, then Ctrl-D on a line of its own:"
        )?;
    }
    // As large as it can get, so that it does not move and leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(SHARES_TEXT_LEN_BYTES)? + 1,
    ));
    std::io::stdin()
        .take(SHARES_TEXT_LEN_BYTES)
        .read_to_string(&mut text)
        .context("The shares could not be read from standard input")?;
    Ok(text)
}

/// What needs nothing but the store.
async fn with(
    database: DatabaseArgs,
    work: impl AsyncFnOnce(&Db) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    with_store(&database, Opening::Command, async |opened| {
        work(&opened.db).await
    })
    .await
}

fn count(number: impl TryInto<i64>, what: &str) -> String {
    match number.try_into().unwrap_or(i64::MAX) {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

fn at(when: OffsetDateTime) -> String {
    when.format(format_description!(
        "[year]-[month]-[day] [hour]:[minute] UTC"
    ))
    .unwrap_or_default()
}

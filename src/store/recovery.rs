//! Recovery shares: the active master key in parts, of which some together give it back and fewer say nothing of it. The scheme is
//! Shamir's, by `vsss-rs`; how a share is written down is ours (`shares`).

mod shares;

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use vsss_rs::Gf256;
use zeroize::{Zeroize, Zeroizing};

use super::audit::{self, Entry};
use super::db::{DatabaseConfig, begin_to_read};
use super::keyring::{KEY_LEN_BYTES, MasterKey, SealError, random_bytes};
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use shares::Share;

/// The most shares of one set: more are not kept in order by people.
const SHARES_MAX: u8 = 32;
/// Data keys that a rehearsal opens at once.
const REHEARSED_AT_ONCE: i64 = 500;
/// The most text that is read for shares, in bytes.
pub const SHARES_TEXT_LEN_BYTES: u64 = 64 * 1024;

/// A set of shares. Fewer than `threshold` of them say nothing of the key.
pub struct Split {
    /// Names the set, in hex.
    pub set: String,
    /// The fingerprint of the key.
    pub fingerprint: String,
    pub threshold: u8,
    /// A line each, to be written down.
    pub shares: Vec<SecretString>,
}

/// A master key that shares gave back.
#[derive(Debug)]
pub struct Recovered {
    key: MasterKey,
}

/// What a key that shares gave back would open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    pub fingerprint: String,
    /// `staged`, `active` or `retiring`.
    pub state: String,
    /// Data keys that it opened, of those that name it.
    pub opened: u64,
    pub data_keys: u64,
}

impl Db {
    /// Splits the active master key, and puts that on record. Errors: `Invalid` at `threshold` or `shares`.
    pub async fn master_key_split(&self, shares: u8, threshold: u8) -> Result<Split> {
        let fingerprint = self.key_fingerprint();
        let split = split(self.keys().master(&fingerprint)?, shares, threshold)?;
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        audit::record(&mut tx, &operator, Entry::of(Action::KeySplit)).await?;
        tx.commit().await?;
        Ok(split)
    }
}

fn split(key: &MasterKey, shares: u8, threshold: u8) -> Result<Split> {
    if !(2..=SHARES_MAX).contains(&threshold) {
        return Err(Refusal::invalid(
            "threshold",
            format!("A threshold is 2 to {SHARES_MAX}: with 1, every share would be the key."),
        )
        .into());
    }
    if !(threshold..=SHARES_MAX).contains(&shares) {
        return Err(Refusal::invalid(
            "shares",
            format!(
                "There are at least as many shares as the threshold, and at most {SHARES_MAX}."
            ),
        )
        .into());
    }
    let mut set = [0; shares::SET_LEN_BYTES];
    random_bytes(&mut set).map_err(not_split)?;
    let rng = StdRng::try_from_rng(&mut SysRng).map_err(|_| not_split(SealError::NoRandomness))?;
    let mut parts = Gf256::split_bytes(
        usize::from(threshold),
        usize::from(shares),
        key.bytes(),
        rng,
    )
    .map_err(|error| Error::broken(format!("the key could not be split: {error}")))?;
    let written: Option<Vec<SecretString>> = parts
        .iter()
        .map(|part| {
            let (number, bytes) = part.split_first()?;
            let share = Share {
                set,
                number: *number,
                threshold,
                total: shares,
                key: shares::beginning(key),
                part: Zeroizing::new(<[u8; KEY_LEN_BYTES]>::try_from(bytes).ok()?),
            };
            Some(share.write())
        })
        .collect();
    parts.zeroize();
    let written =
        written.ok_or_else(|| Error::broken("a share has another length than the key"))?;
    // What is handed out was read back: nobody finds out years later.
    let mut text = Zeroizing::new(String::new());
    for share in written.iter().rev() {
        text.push_str(share.expose_secret());
        text.push('\n');
    }
    if join(&text)?.fingerprint() != key.fingerprint() {
        return Err(Error::broken("the shares do not give the key back"));
    }
    Ok(Split {
        set: hex::encode(set),
        fingerprint: key.fingerprint(),
        threshold,
        shares: written,
    })
}

/// Joins shares, one a line; empty lines and those that begin with `#` are passed over. Errors: `Invalid`, naming the line, and the
/// group of a share that was mistyped.
pub fn join(text: &str) -> Result<Recovered> {
    let mut found: Vec<(usize, Share)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let share = Share::read(line)
            .map_err(|why| wrong(format!("The share in line {} {why}", at + 1)))?;
        if let Some((other, first)) = found.first()
            && !first.same_set(&share)
        {
            return Err(wrong(format!(
                "The shares in lines {other} and {} are of two sets: {} (key {}…) and {} (key {}…). Only shares of one set go together.",
                at + 1,
                first.set_name(),
                first.key_name(),
                share.set_name(),
                share.key_name()
            )));
        }
        if found.len() >= usize::from(u8::MAX) {
            return Err(wrong(format!("There are more than {} shares.", u8::MAX)));
        }
        // The same one twice is one.
        if !found.iter().any(|(_, other)| other.number == share.number) {
            found.push((at + 1, share));
        }
    }
    let Some((_, first)) = found.first() else {
        return Err(wrong(
            "There is no share. Give them on standard input, one a line, as `sealport key split` printed them.".into(),
        ));
    };
    let needed = usize::from(first.threshold);
    if found.len() < needed {
        let numbers: Vec<String> = found.iter().map(|(_, s)| s.number.to_string()).collect();
        return Err(wrong(format!(
            "These are {} of the {needed} shares that the key needs (of the set {}: number {}). {} more of the same set {} missing.",
            found.len(),
            first.set_name(),
            numbers.join(", "),
            needed - found.len(),
            if needed - found.len() == 1 {
                "is"
            } else {
                "are"
            }
        )));
    }
    let mut parts: Vec<Vec<u8>> = found
        .iter()
        .take(needed)
        .map(|(_, share)| {
            let mut part = Vec::with_capacity(1 + KEY_LEN_BYTES);
            part.push(share.number);
            part.extend_from_slice(share.part.as_slice());
            part
        })
        .collect();
    let combined = Gf256::combine_bytes(&parts).map(Zeroizing::new);
    parts.zeroize();
    let combined =
        combined.map_err(|error| wrong(format!("The shares do not go together: {error}.")))?;
    let mut key = Zeroizing::new([0; KEY_LEN_BYTES]);
    if combined.len() == KEY_LEN_BYTES {
        key.copy_from_slice(&combined);
    }
    let key = MasterKey::new(key);
    if shares::beginning(&key) != first.key {
        return Err(wrong(format!(
            "The shares read well, and still do not give the key {}… that they name: one of them was made up. Try it with others of \
             the set {}.",
            first.key_name(),
            first.set_name()
        )));
    }
    Ok(Recovered { key })
}

impl Recovered {
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }

    /// The key, as `SEALPORT_MASTER_KEY` and the key file take it.
    pub fn text(&self) -> SecretString {
        self.key.to_text()
    }

    /// Proves in a transaction that can only read that this key opens the store: its canary, and the data keys that it wraps.
    /// Errors: `Conflict` when the store does not know it, or it does not open.
    pub async fn rehearse(&self, config: DatabaseConfig) -> Result<Rehearsed> {
        let (pool, mut tx) = begin_to_read(&config, &Caller::job(Job::Operator)).await?;
        let fingerprint = self.fingerprint();
        let known = sqlx::query!("select fingerprint, canary, state from master_keys")
            .fetch_all(&mut *tx)
            .await?;
        let Some(row) = known.iter().find(|row| row.fingerprint == fingerprint) else {
            let retired = sqlx::query_scalar!(
                r#"select exists (select 1 from retired_master_keys where fingerprint = $1) as "retired!""#,
                fingerprint
            )
            .fetch_one(&mut *tx)
            .await?;
            let active = known.iter().find(|row| row.state == "active");
            return Err(conflict(format!(
                "The shares give the key {fingerprint}, and {}. The active key is {}. Split that one with `sealport key split`.",
                if retired {
                    "it was retired here: only backups from before open with it"
                } else {
                    "this store does not know it"
                },
                active.map_or("none", |row| row.fingerprint.as_str())
            )));
        };
        if !self.key.opens_canary(&row.canary) {
            return Err(conflict(format!(
                "The shares give the key {fingerprint}, and it does not open what this store keeps to try it by: that row was changed."
            )));
        }
        let mut rehearsed = Rehearsed {
            fingerprint,
            state: row.state.clone(),
            opened: 0,
            data_keys: 0,
        };
        let mut after = Uuid::nil();
        loop {
            let keys = sqlx::query!(
                "select id, owner_id, wrapped from data_keys where master_key = $1 and id > $2 order by id limit $3",
                rehearsed.fingerprint,
                after,
                REHEARSED_AT_ONCE
            )
            .fetch_all(&mut *tx)
            .await?;
            let Some(last) = keys.last() else { break };
            after = last.id;
            for row in &keys {
                let opened = self.key.unwrap(row.id, row.owner_id, &row.wrapped).is_ok();
                rehearsed.opened += u64::from(opened);
                rehearsed.data_keys += 1;
            }
        }
        tx.rollback().await?;
        pool.close().await;
        Ok(rehearsed)
    }
}

fn wrong(detail: String) -> Error {
    Refusal::invalid("shares", detail).into()
}

fn conflict(detail: String) -> Error {
    Refusal::new(RefusalKind::Conflict, detail).into()
}

fn not_split(error: SealError) -> Error {
    Error::caused("the key could not be split", error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeSet;

    use super::*;

    fn lines(split: &Split) -> Vec<String> {
        let shares = split.shares.iter();
        shares.map(|s| s.expose_secret().to_owned()).collect()
    }

    fn told(text: &str) -> String {
        join(text).unwrap_err().to_string()
    }

    #[test]
    fn any_shares_up_to_the_threshold_give_the_key_and_fewer_do_not() {
        let key = MasterKey::generate().unwrap();
        let shares = lines(&split(&key, 5, 3).unwrap());
        for mask in 1_u32..32 {
            let chosen: Vec<&str> = (0..5)
                .filter(|at| mask & (1 << at) != 0)
                .map(|at| shares[at].as_str())
                .collect();
            let text = chosen.join("\n");
            if chosen.len() < 3 {
                assert!(told(&text).contains("of the 3 shares"), "{}", told(&text));
            } else {
                let joined = join(&text).unwrap();
                assert_eq!(joined.text().expose_secret(), key.to_text().expose_secret());
            }
        }
        // One share given several times is one.
        let thrice = [shares[0].as_str(); 3].join("\n");
        assert!(told(&thrice).contains("2 more"), "{}", told(&thrice));
    }

    #[test]
    fn what_is_handed_out_differs_each_time_and_shows_nothing_of_the_key() {
        let key = MasterKey::generate().unwrap();
        let all: Vec<Vec<String>> = (0..8).map(|_| lines(&split(&key, 3, 2).unwrap())).collect();
        let distinct: BTreeSet<&String> = all.iter().flatten().collect();
        assert_eq!(distinct.len(), 24);
        // Of one byte of the key, a share's byte takes every value: what the library once got wrong (its coefficients were odd).
        let same = MasterKey::new(Zeroizing::new([7; KEY_LEN_BYTES]));
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            for share in lines(&split(&same, 2, 2).unwrap()) {
                seen.extend(Share::read(&share).unwrap().part.iter().copied());
            }
        }
        assert_eq!(seen.len(), 256);
    }

    #[test]
    fn shares_of_two_sets_are_told_apart() {
        let (key, other) = (
            MasterKey::generate().unwrap(),
            MasterKey::generate().unwrap(),
        );
        let one = split(&key, 3, 2).unwrap();
        for second in [split(&key, 3, 2).unwrap(), split(&other, 3, 2).unwrap()] {
            let text = format!("# two\n\n{}\n{}\n", lines(&one)[0], lines(&second)[1]);
            let told = told(&text);
            assert!(told.contains("lines 3 and 4"), "{told}");
            assert!(
                told.contains(&one.set) && told.contains(&second.set),
                "{told}"
            );
        }
    }

    #[test]
    fn a_share_that_was_made_up_is_noticed() {
        let key = MasterKey::generate().unwrap();
        let shares = lines(&split(&key, 3, 2).unwrap());
        let mut forged = Share::read(&shares[1]).unwrap();
        forged.part[5] ^= 1;
        let text = format!("{}\n{}", shares[0], forged.write().expose_secret());
        assert!(told(&text).contains("made up"), "{}", told(&text));
    }

    #[test]
    fn thresholds_that_protect_nothing_are_refused() {
        let key = MasterKey::generate().unwrap();
        for (shares, threshold) in [(5, 1), (5, 0), (2, 3), (0, 2), (33, 3), (33, 33)] {
            assert!(
                split(&key, shares, threshold).is_err(),
                "{shares}, {threshold}"
            );
        }
        for (shares, threshold) in [(2, 2), (5, 3), (32, 32)] {
            assert!(split(&key, shares, threshold).is_ok());
        }
        assert!(told("\n# nothing\n").contains("There is no share"));
    }
}

//! People: accounts and passwords.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::audit::{self, Entry};
use super::error::OnConstraint;
use super::limits::Limit;
use super::passwords::Queue;
use super::passwords::check_rules;
use super::sign_in::{Account, know_sign_in, place_of};
use super::{Db, Error, Result, keyring};
use crate::model::actors::{Actor, Caller, Job, Origin, Presented, SignedInUser};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{HANDLE_LEN_BYTES, Handle};
use crate::model::users::{Email, PASSWORD_MAX_BYTES};

const LINK_LEN_BYTES: usize = 32;
/// The most accounts whose addresses suggest one handle.
const HANDLES_MAX: usize = 1_000;
/// Wrong current passwords in a quarter of an hour, at a change of the password.
const PASSWORD_TRIES: i64 = 10;
const QUARTER_SECS: i32 = 15 * 60;

impl Db {
    /// The secret part of a new one-time link for the first administrator; none when there is a user already.
    /// Earlier links of this kind end. Lives an hour.
    pub async fn first_administrator_link(&self) -> Result<Option<SecretString>> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        let anybody = sqlx::query_scalar!(r#"select exists (select 1 from users) as "anybody!""#)
            .fetch_one(&mut *tx)
            .await?;
        if anybody {
            return Ok(None);
        }
        end_links(&mut tx).await?;
        let link = new_link()?;
        sqlx::query!(
            "insert into one_time_links (hash, purpose, expires_at)
             values ($1, 'first-administrator', now() + interval '1 hour')",
            link_hash(&link)
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(link))
    }

    /// Whether the link still opens; changes nothing (a GET must not burn it).
    pub async fn first_administrator_link_holds(&self, link: &SecretString) -> Result<bool> {
        let hash = link_hash(link);
        let mut tx = self
            .begin_as(&presenting(&hash, &Origin::default()))
            .await?;
        let holds = sqlx::query_scalar!(
            r#"select exists (select 1 from one_time_links where hash = $1 and purpose = 'first-administrator'
                      and used_at is null and expires_at > now()) as "holds!""#,
            hash
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(holds)
    }

    /// Burns the link and makes the first administrator, both or neither. Errors: `Unauthenticated` for a link that is unknown,
    /// used or too old; `Invalid` at `email` or `password` (the link then still holds).
    pub async fn first_administrator(
        &self,
        link: &SecretString,
        email: &Email,
        password: &SecretString,
        origin: &Origin,
    ) -> Result<SignedInUser> {
        let hash = link_hash(link);
        let caller = presenting(&hash, origin);
        let spent = || {
            Refusal::new(
                RefusalKind::Unauthenticated,
                "This link was used, or is too old. Start Sealport again to get a new one, or add an account with: sealport user add",
            )
        };
        // Before any work is done for someone who only guesses.
        if !self.first_administrator_link_holds(link).await? {
            return self
                .refuse_on_record(
                    &caller,
                    Entry::of(Action::UserAdd),
                    "link does not hold",
                    spent(),
                )
                .await;
        }
        check_rules(password, "password")?;
        let password_hash = self.passwords().hash(password).await?;

        let mut tx = self.begin_as(&caller).await?;
        let burnt = sqlx::query!(
            "update one_time_links set used_at = now()
             where hash = $1 and purpose = 'first-administrator' and used_at is null and expires_at > now()",
            hash
        )
        .execute(&mut *tx)
        .await?;
        if burnt.rows_affected() != 1 {
            tx.rollback().await?;
            return self
                .refuse_on_record(
                    &caller,
                    Entry::of(Action::UserAdd),
                    "link does not hold",
                    spent(),
                )
                .await;
        }
        let user = make_user(&mut tx, email, &password_hash, true).await?;
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(Action::UserAdd)
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;

        let mut tx = self
            .begin_as(&Caller {
                actor: Actor::User(user.clone()),
                origin: origin.clone(),
            })
            .await?;
        know_sign_in(&mut tx, user.id, origin.address.map(place_of)).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Acts as this person from the host's command line. Errors: `NotFound`.
    pub async fn operator_as(&self, email: &Email) -> Result<Caller> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        let user = sqlx::query_as!(
            SignedInUser,
            "select u.id, o.handle, u.email, u.is_admin from users u join owners o on o.id = u.id
             where u.email = $1 and u.ended_at is null",
            email.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| {
            Refusal::new(
                RefusalKind::NotFound,
                "There is no account with this address.",
            )
        })?;
        Ok(Caller {
            actor: Actor::User(user),
            origin: Origin {
                agent: Some("sealport on the host".to_owned()),
                ..Origin::default()
            },
        })
    }

    /// Makes an account, by the operator. Errors: `Taken` at `email`, `Invalid` at `password`.
    pub async fn user_add(
        &self,
        email: &Email,
        password: &SecretString,
        is_admin: bool,
    ) -> Result<SignedInUser> {
        check_rules(password, "password")?;
        let password_hash = self.passwords().hash(password).await?;
        let caller = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&caller).await?;
        let user = make_user(&mut tx, email, &password_hash, is_admin).await?;
        // Nobody is the first any more.
        end_links(&mut tx).await?;
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(Action::UserAdd)
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Changes the caller's own password and ends all their sessions but `keep` (the SHA-256 of its id in hex). Returns the account with
    /// the stamp of the new password, whatever came after it.
    /// Errors: `Invalid` at `current` or `new`; `TooMany`; `Conflict` when the password was changed or reset meanwhile.
    pub async fn password_change(
        &self,
        caller: &Caller,
        current: &SecretString,
        new: &SecretString,
        keep: Option<&str>,
    ) -> Result<Account> {
        let user = caller.user().ok_or_else(|| {
            Refusal::new(
                RefusalKind::Unauthenticated,
                "Sign in to change a password.",
            )
        })?;
        check_rules(new, "new")?;
        let entry = Entry {
            owner_id: Some(user.id),
            ..Entry::of(Action::PasswordChange)
        };
        let limit = Limit::new(
            "password-change",
            &[&user.id.to_string()],
            QUARTER_SECS,
            PASSWORD_TRIES,
        );
        let taken = match self.limits_take(&[limit]).await? {
            Ok(taken) => taken,
            Err(full) => {
                if full.on_record {
                    let reason = Some("too many tries");
                    self.record_refusal(caller, Entry { reason, ..entry })
                        .await?;
                }
                return Err(full.refusal("Too many tries.").into());
            }
        };
        let Some(verified) = self.is_password_of(caller, user.id, current).await? else {
            let refusal = Refusal::invalid("current", "That is not your current password.");
            return self
                .refuse_on_record(caller, entry, "wrong password", refusal)
                .await;
        };
        self.limits_give_back(taken).await?;
        let password_hash = self.passwords().hash(new).await?;

        let mut tx = self.begin_as(caller).await?;
        // Whoever has one would set yet another password. First, as where a link is used: neither waits for the other then.
        sqlx::query!(
            "delete from one_time_links where purpose = 'reset' and user_id = $1",
            user.id
        )
        .execute(&mut *tx)
        .await?;
        // Over the password that was verified alone: whoever knows an old one must not undo a reset.
        let changed = sqlx::query!(
            "update users set password_hash = $2, password_changed_at = now()
             where id = $1 and password_hash = $3 and ended_at is null",
            user.id,
            password_hash,
            verified
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() != 1 {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                "The password was changed meanwhile. Sign in again.",
            );
            return self
                .refuse_on_record(caller, entry, "changed meanwhile", refusal)
                .await;
        }
        sqlx::query!(
            "delete from sessions where user_id = $1 and id_hash is distinct from $2",
            user.id,
            keep
        )
        .execute(&mut *tx)
        .await?;
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(Account::of(user.clone(), &password_hash))
    }

    /// The hash that the password was verified against; none when it is not the account's.
    async fn is_password_of(
        &self,
        caller: &Caller,
        user_id: Uuid,
        password: &SecretString,
    ) -> Result<Option<String>> {
        if password.expose_secret().len() > PASSWORD_MAX_BYTES {
            return Ok(None);
        }
        let mut tx = self.begin_as(caller).await?;
        let hash = sqlx::query_scalar!(
            "select password_hash from users where id = $1 and ended_at is null",
            user_id
        )
        .fetch_optional(&mut *tx)
        .await?;
        drop(tx);
        let right = self
            .passwords()
            .verify(password, hash.clone(), Queue::Known)
            .await?;
        Ok(hash.filter(|_| right))
    }
}

/// The secret part of a new one-time link.
pub(super) fn new_link() -> Result<SecretString> {
    let mut bytes = Zeroizing::new([0; LINK_LEN_BYTES]);
    keyring::random_bytes(bytes.as_mut_slice())
        .map_err(|error| Error::caused("no link could be made", error))?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

async fn end_links(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    sqlx::query!("delete from one_time_links where purpose = 'first-administrator'")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes owner and user, with a handle like the address.
pub(super) async fn make_user(
    tx: &mut Transaction<'_, Postgres>,
    email: &Email,
    password_hash: &str,
    is_admin: bool,
) -> Result<SignedInUser> {
    let id = Uuid::now_v7();
    let handle = make_owner(tx, id, email).await?;
    sqlx::query!(
        "insert into users (id, email, password_hash, is_admin) values ($1, $2, $3, $4)",
        id,
        email.as_str(),
        password_hash,
        is_admin
    )
    .execute(&mut **tx)
    .await
    .on_constraint("users_email_key", || {
        Refusal::new(
            RefusalKind::Taken,
            "There is an account with this e-mail address already.",
        )
        .at("email")
    })?;
    Ok(SignedInUser {
        id,
        handle: handle.as_str().to_owned(),
        email: email.as_str().to_owned(),
        is_admin,
    })
}

async fn make_owner(tx: &mut Transaction<'_, Postgres>, id: Uuid, email: &Email) -> Result<Handle> {
    let suggested = Handle::suggest(email.as_str());
    for number in 1..=HANDLES_MAX {
        let handle = if number == 1 {
            suggested.clone()
        } else {
            let ending = format!("-{number}");
            let kept = suggested
                .as_str()
                .get(..HANDLE_LEN_BYTES - ending.len())
                .unwrap_or(suggested.as_str());
            Handle::parse(&format!("{kept}{ending}"))?
        };
        // Without the constraint's name: to name it, one must be allowed to see the row, and its maker is nobody yet.
        let made = sqlx::query!(
            "insert into owners (id, handle, kind) values ($1, $2, 'user') on conflict do nothing",
            id,
            handle.as_str()
        )
        .execute(&mut **tx)
        .await?;
        if made.rows_affected() == 1 {
            return Ok(handle);
        }
    }
    Err(Refusal::new(
        RefusalKind::Taken,
        "Too many accounts have addresses like this one.",
    )
    .at("email")
    .into())
}

/// Of the link without white space around it, so that one link has one hash.
pub(super) fn link_hash(link: &SecretString) -> String {
    hex::encode(Sha256::digest(link.expose_secret().trim()))
}

pub(super) fn presenting(hash: &str, origin: &Origin) -> Caller {
    Caller {
        actor: Actor::Anonymous(Presented::Hash(hash.to_owned())),
        origin: origin.clone(),
    }
}

//! Secrets: sealed values under paths.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::connections::{Connecting, connect};
use super::error::OnConstraint;
use super::keys::{Place, Sealed};
use super::limits::Limit;
use super::secret_checks::Checked;
pub use super::secret_values::{Encoding, NewValue};
use super::secret_values::{check_description, check_expiry, resolve, same};
use super::secret_versions::Made;
pub use super::secret_versions::Renewed;
use super::{Db, Error, Result, damage, renames};
use crate::model::actors::{Actor, Caller};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{Handle, SecretPath, Tag};
use crate::model::secrets::Kind;

/// Comparisons in an hour, of one secret by one actor, over all doors.
const COMPARES: i64 = 20;
const HOUR_SECS: i32 = 60 * 60;

/// What is asked when a secret is made.
pub struct NewSecret {
    /// A team, or oneself for none.
    pub owner: Option<Handle>,
    pub path: SecretPath,
    pub value: NewValue,
    pub kind: Kind,
    pub description: String,
    pub tags: Vec<Tag>,
    /// None for a certificate: its own end.
    pub expires_at: Option<OffsetDateTime>,
}

/// What was made, and what a person may want to know of the value.
pub struct Added {
    pub id: Uuid,
    /// Sentences that quote nothing.
    pub notes: Vec<String>,
}

/// Metadata that can change without touching the value. `None` leaves a field as it is.
#[derive(Default)]
pub struct SecretEdit {
    pub path: Option<SecretPath>,
    pub kind: Option<Kind>,
    pub description: Option<String>,
    pub tags: Option<Vec<Tag>>,
    /// Moving the end of one that was switched off because its end had come switches it on again.
    pub expires_at: Option<Option<OffsetDateTime>>,
    pub active: Option<bool>,
    /// The version that it must be at still.
    pub expected: Option<i32>,
}

/// A secret within reach.
pub(super) struct Found {
    pub id: Uuid,
    pub owner_id: Uuid,
    pub path: SecretPath,
    pub kind: Kind,
    pub version: i32,
    pub expires_at: Option<OffsetDateTime>,
    level: i32,
}

impl Db {
    /// As [`Db::secret_add`], for those who need no notes.
    pub async fn secret_create(&self, caller: &Caller, new: NewSecret) -> Result<Uuid> {
        Ok(self.secret_add(caller, new).await?.id)
    }

    /// Makes version 1. Errors: `Taken` at `path` when it exists (also in another case), `Invalid` at `value` and elsewhere, and
    /// `Denied` at `owner` for a team on which the caller has no `write`.
    pub async fn secret_add(&self, caller: &Caller, new: NewSecret) -> Result<Added> {
        self.secret_add_for(caller, new, None).await
    }

    /// The same, and connects it to what asks for it, both or neither.
    pub(super) async fn secret_add_for(
        &self,
        caller: &Caller,
        new: NewSecret,
        connecting: Option<&Connecting<'_>>,
    ) -> Result<Added> {
        if caller.user().is_none() {
            return Err(
                Refusal::new(RefusalKind::Unauthenticated, "Sign in to add a secret.").into(),
            );
        }
        check_description(&new.description)?;
        check_expiry(new.expires_at)?;
        let (value, generated) = resolve(new.value)?;
        let checked = Checked::of(new.kind, &value)?;
        let end = checked.end_beside(new.expires_at);
        let id = Uuid::now_v7();
        let tx = self.begin_as(caller).await?;
        let action = Action::SecretCreate;
        let (mut tx, owner_id) = self
            .for_owner(tx, caller, new.owner.as_ref(), Level::Write, action)
            .await?;
        let entry = Entry {
            owner_id: Some(owner_id),
            secret: Some((id, &new.path)),
            version: Some(1),
            ..Entry::of(Action::SecretCreate)
        };
        let made = sqlx::query!(
            "insert into secrets (id, owner_id, path, kind, description, tags, expires_at, version)
             values ($1, $2, $3, $4, $5, $6, $7, 1)",
            id,
            owner_id,
            new.path.as_str(),
            new.kind.as_str(),
            new.description,
            &texts(&new.tags),
            end
        )
        .execute(&mut *tx)
        .await
        .on_constraint("secrets_path_key", path_taken);
        if let Err(error) = made {
            tx.rollback().await?;
            return match error {
                Error::Refused(refusal) if refusal.kind == RefusalKind::Taken => {
                    let entry = Entry {
                        version: None,
                        ..entry
                    };
                    self.refuse_on_record(caller, entry, "path in use", refusal)
                        .await
                }
                Error::Refused(refusal) if refusal.kind == RefusalKind::Denied => {
                    // What is not theirs is named by no word from outside.
                    let entry = Entry {
                        owner_id: Some(owner_id),
                        ..Entry::of(Action::SecretCreate)
                    };
                    self.refuse_on_record(
                        caller,
                        entry,
                        "no right to make it",
                        not_to_make(caller, refusal),
                    )
                    .await
                }
                error => Err(error),
            };
        }
        let place = Place {
            owner_id,
            secret_id: id,
            version: 1,
        };
        let made = Made {
            generated,
            ..Made::default()
        };
        self.add_version(&mut tx, caller, place, &value, made)
            .await?;
        audit::record(&mut tx, caller, entry).await?;
        if let Some(connecting) = connecting {
            connect(&mut tx, caller, connecting, id).await?;
        }
        tx.commit().await?;
        let notes = checked.notes(new.expires_at);
        Ok(Added { id, notes })
    }

    /// Whether the newest value equals `guess`; on record, 20 an hour for a secret and an actor.
    /// Errors: `TooMany`; `Conflict` for one that is switched off or has expired, for it is opened for nobody.
    pub async fn secret_compare(
        &self,
        caller: &Caller,
        id: Uuid,
        guess: SecretString,
    ) -> Result<bool> {
        let (tx, found) = self
            .within_reach(caller, id, Level::Read, Action::SecretCompare)
            .await?;
        // Counting takes a transaction of its own, and nobody holds two connections.
        drop(tx);
        if let Err(full) = self.limits_take(&[compares(caller, id)]).await? {
            if full.on_record {
                let reason = Some("too many comparisons");
                let entry = found.entry(Action::SecretCompare);
                self.record_refusal(caller, Entry { reason, ..entry })
                    .await?;
            }
            return Err(full
                .refusal("This secret was compared 20 times within an hour.")
                .into());
        }

        let mut tx = self.begin_as(caller).await?;
        // Looked at again in the statement of the access: what was revoked since does not hold.
        let newest = sqlx::query!(
            r#"select s.owner_id, s.version, v.sealed, s.active, coalesce(s.expires_at <= now(), false) as "expired!"
               from secrets s join secret_versions v on v.secret_id = s.id and v.version = s.version
               where s.id = $1 and reach(s.owner_id, 'secret', s.id, s.path) >= $2"#,
            id,
            Level::Read.number()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("secret"))?;
        if let Some((reason, detail)) = closed(newest.active, newest.expired) {
            tx.rollback().await?;
            let entry = found.entry(Action::SecretCompare);
            let refusal = Refusal::new(RefusalKind::Conflict, detail);
            return self.refuse_on_record(caller, entry, reason, refusal).await;
        }
        let place = Place {
            owner_id: newest.owner_id,
            secret_id: id,
            version: newest.version,
        };
        let entry = Entry {
            version: Some(newest.version),
            ..found.entry(Action::SecretCompare)
        };
        let value = match self.unseal(&mut tx, place, &Sealed(newest.sealed)).await {
            Ok(value) => value,
            Err(error) if error.is_damage() => {
                tx.rollback().await?;
                let refusal = damage::refusal(id, newest.version, &error);
                return self
                    .refuse_on_record(caller, entry, damage::REASON, refusal)
                    .await;
            }
            Err(error) => return Err(error),
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(same(&value, &guess))
    }

    /// Changes metadata; a rename asks for `admin`, and to another folder for `admin` of that; all else for `write`. Errors: `NotFound`,
    /// `Denied`; `Taken` at `path`, `Invalid` at `description` or `expires_at`.
    pub async fn secret_edit(&self, caller: &Caller, id: Uuid, edit: SecretEdit) -> Result<()> {
        if let Some(description) = &edit.description {
            check_description(description)?;
        }
        let needed = if edit.path.is_some() {
            Level::Admin
        } else {
            Level::Write
        };
        let (mut tx, found) = self
            .within_reach(caller, id, needed, Action::SecretEdit)
            .await?;
        // Before anything is looked for there: the answer would tell which paths there are.
        if let Some(to) = &edit.path
            && !renames::may_rename(&mut tx, found.owner_id, &found.path, to).await?
        {
            tx.rollback().await?;
            let entry = found.entry(Action::SecretEdit);
            return self
                .refuse_on_record(caller, entry, renames::NOT_THEIRS, renames::not_theirs())
                .await;
        }
        let moved = found.check_end(edit.expires_at)?;
        if edit.active == Some(true) && !moved && found.has_expired() {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                "It has expired. Move its day under Edit details, or empty it: that switches it on again.",
            );
            let entry = found.entry(Action::SecretEdit);
            return self
                .refuse_on_record(caller, entry, "the secret has expired", refusal)
                .await;
        }
        let tags = edit.tags.as_deref().map(texts);
        let changed = sqlx::query!(
            "update secrets set
                 path = coalesce($2, path), kind = coalesce($3, kind), description = coalesce($4, description),
                 expires_at = case when $5 then $6 else expires_at end,
                 active = coalesce($7, active or ($5 and expired_at is not null)),
                 expired_at = case when $5 or $7 is not null then null else expired_at end,
                 tags = coalesce($8, tags), changed_at = now()
             where id = $1 and ($9::integer is null or version = $9)",
            id,
            edit.path.as_ref().map(SecretPath::as_str),
            edit.kind.map(Kind::as_str),
            edit.description,
            moved,
            edit.expires_at.flatten(),
            edit.active,
            tags.as_deref(),
            edit.expected
        )
        .execute(&mut *tx)
        .await
        .on_constraint("secrets_path_key", path_taken);
        let changed = match changed {
            Ok(changed) => changed,
            Err(Error::Refused(refusal)) => {
                tx.rollback().await?;
                let reason = match refusal.kind {
                    RefusalKind::Taken => "path in use",
                    // What was asked above was taken back since.
                    _ => "level too low",
                };
                let entry = found.entry(Action::SecretEdit);
                return self.refuse_on_record(caller, entry, reason, refusal).await;
            }
            Err(error) => return Err(error),
        };
        if changed.rows_affected() != 1 {
            return Err(gone_or_changed(edit.expected).into());
        }
        record_edit(&mut tx, caller, &found, &edit).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes a secret with all its versions, if it is at the version that is expected; deployments that bind it keep the name and say
    /// so at their next start. Errors: `NotFound`, `Denied`, `Conflict` at `if-match`.
    pub async fn secret_delete(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: Option<i32>,
    ) -> Result<()> {
        let (mut tx, found) = self
            .within_reach(caller, id, Level::Admin, Action::SecretDelete)
            .await?;
        let deleted = sqlx::query!(
            "delete from secrets where id = $1 and ($2::integer is null or version = $2)",
            id,
            expected
        )
        .execute(&mut *tx)
        .await?;
        if deleted.rows_affected() != 1 {
            return Err(gone_or_changed(expected).into());
        }
        let entry = Entry {
            version: Some(found.version),
            ..found.entry(Action::SecretDelete)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction and the secret in it, if the caller reaches `needed` on it; otherwise the refusal, on record.
    pub(super) async fn within_reach(
        &self,
        caller: &Caller,
        id: Uuid,
        needed: Level,
        action: Action,
    ) -> Result<(Transaction<'static, Postgres>, Found)> {
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"select owner_id, path, kind, version, expires_at, reach(owner_id, 'secret', id, path) as "level!" from secrets where id = $1"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            tx.rollback().await?;
            // Not there or not theirs to see: the record does not tell the two apart either.
            return self
                .refuse_on_record(
                    caller,
                    Entry::of(action),
                    "no such secret in sight",
                    Refusal::not_found("secret"),
                )
                .await;
        };
        let found = Found {
            id,
            owner_id: row.owner_id,
            path: damage::path_of(id, &row.path),
            kind: Kind::from_name(&row.kind).unwrap_or_default(),
            version: row.version,
            expires_at: row.expires_at,
            level: row.level,
        };
        if found.level < needed.number() {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Denied,
                match caller.actor {
                    Actor::Token(_) => format!(
                        "This token reaches {} on this secret, and this takes {}.",
                        Level::from_number(found.level).map_or("nothing", Level::as_str),
                        needed.as_str()
                    ),
                    _ => format!(
                        "You have {} on this secret, and this takes {}. Its owner can give it to you, and whoever has admin on it.",
                        Level::from_number(found.level).map_or("nothing", Level::as_str),
                        needed.as_str()
                    ),
                },
            );
            return self
                .refuse_on_record(caller, found.entry(action), "level too low", refusal)
                .await;
        }
        Ok((tx, found))
    }
}

impl Found {
    /// Whether this moves its end. One that stays may be past, so that the rest can be changed. Errors: `Invalid` at `expires_at`.
    pub(super) fn check_end(
        &self,
        expires_at: Option<Option<OffsetDateTime>>,
    ) -> Result<bool, Refusal> {
        match expires_at {
            Some(end) if end != self.expires_at => check_expiry(end).map(|()| true),
            _ => Ok(false),
        }
    }

    fn has_expired(&self) -> bool {
        self.expires_at
            .is_some_and(|end| end <= OffsetDateTime::now_utc())
    }

    pub(super) fn entry(&self, action: Action) -> Entry<'_> {
        Entry {
            owner_id: Some(self.owner_id),
            secret: Some((self.id, &self.path)),
            ..Entry::of(action)
        }
    }
}

/// Why nothing was changed between the look and the change.
fn gone_or_changed(expected: Option<i32>) -> Refusal {
    match expected {
        None => Refusal::not_found("secret"),
        Some(version) => Refusal::new(
            RefusalKind::Conflict,
            format!(
                "The secret is not at version {version} any more. Look at it again, then decide."
            ),
        )
        .at("if-match"),
    }
}

fn not_to_make(caller: &Caller, refusal: Refusal) -> Refusal {
    match caller.actor {
        Actor::Token(_) => Refusal::new(
            RefusalKind::Denied,
            "This token makes no secret there: that takes write, on a path under its folder if it has one.",
        ),
        _ => refusal,
    }
}

/// Comparisons of one secret by one actor, over all doors.
pub(super) fn compares(caller: &Caller, id: Uuid) -> Limit {
    let actor = match &caller.actor {
        Actor::User(user) => user.id.to_string(),
        // A person has no more tries with ten tokens than with none.
        Actor::Token(token) => token.maker.id.to_string(),
        Actor::Deployment { id, .. } => id.to_string(),
        Actor::Job(job) => job.as_str().to_owned(),
        Actor::Anonymous(_) => String::from("anonymous"),
    };
    Limit::new("compare", &[&id.to_string(), &actor], HOUR_SECS, COMPARES)
}

/// A rename stands in the record under both names.
async fn record_edit(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    found: &Found,
    edit: &SecretEdit,
) -> Result<()> {
    let entry = found.entry(Action::SecretEdit);
    if let Some(path) = edit.path.as_ref().filter(|path| **path != found.path) {
        let before = Entry {
            reason: Some("renamed from"),
            ..entry.clone()
        };
        audit::record(tx, caller, before).await?;
        let after = Entry {
            secret: Some((found.id, path)),
            reason: Some("renamed to"),
            ..entry
        };
        return audit::record(tx, caller, after).await;
    }
    let reason = edit.active.map(|active| {
        if active {
            "switched on"
        } else {
            "switched off"
        }
    });
    audit::record(tx, caller, Entry { reason, ..entry }).await
}

/// Why a secret is opened for nobody, for the record and for a person.
fn closed(active: bool, expired: bool) -> Option<(&'static str, &'static str)> {
    if expired {
        Some((
            "the secret has expired",
            "It has expired, so it is opened for nobody. Move its day to compare.",
        ))
    } else if !active {
        Some((
            "the secret is switched off",
            "It is switched off, so it is opened for nobody. Switch it on to compare.",
        ))
    } else {
        None
    }
}

pub(super) fn texts(tags: &[Tag]) -> Vec<String> {
    tags.iter().map(Tag::to_string).collect()
}

pub(super) fn path_taken() -> Refusal {
    Refusal::new(
        RefusalKind::Taken,
        "There is a secret with this path already, perhaps in another case. Replace its value, or take another path.",
    )
    .at("path")
}

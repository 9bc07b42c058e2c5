//! What comes with time: ends, values that have to be others, and the job that acts on both.

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployment_checks::value_len_bytes;
use super::deployments::{Reached, queue_release};
use super::keys::{Place, Sealed};
use super::secret_values::{Encoding, NewValue, generated_len_bytes, resolve};
use super::secret_versions::{Made, next_version};
use super::{Db, Result, damage};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::due::{DUE_DAYS, Due, DueWhy};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{Folder, Handle, SecretPath};
use crate::model::secrets::{Rotation, RotationRule};

/// Rows of the list of what is due.
const DUE_SHOWN: i64 = 50;
/// The most rows of such a list, and how far it looks ahead at most.
pub const DUE_LISTED_MAX: i64 = 1_000;
pub const DUE_DAYS_MAX: i32 = 3_650;
/// Secrets that one step ends or generates anew; the next step goes on.
const AT_ONCE: i64 = 200;

impl Db {
    /// What ends within 30 days or has ended, and what has to be rotated by a person; the most pressing first, at most 50.
    pub async fn secrets_due(&self, caller: &Caller) -> Result<Vec<Due>> {
        self.secrets_due_within(caller, DUE_DAYS as i32, DUE_SHOWN)
            .await
    }

    /// The same for another number of days, and of another length.
    pub async fn secrets_due_within(
        &self,
        caller: &Caller,
        days: i32,
        limit: i64,
    ) -> Result<Vec<Due>> {
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query!(
            // What its owners have is found by index, what was granted by its id: neither list is read whole.
            r#"with soon as (
                   select s.id from secrets s
                   where s.owner_id = any (owners_in_sight()) and s.expires_at <= now() + make_interval(days => $1)
                   union
                   select s.id from secrets_granted() as g (id) join secrets s on s.id = g.id
                   where s.expires_at <= now() + make_interval(days => $1)
               ), ruling as materialized (
                   select distinct owner_id from rotation_rules
               ), ruled as (
                   select s.id from ruling r join secrets s on s.owner_id = r.owner_id where r.owner_id = any (owners_in_sight())
                   union
                   select s.id from secrets_granted() as g (id) join secrets s on s.id = g.id join ruling r on r.owner_id = s.owner_id
               )
               select id as "id!", owner as "owner!", path as "path!", why as "why!", at as "at!", level as "level!" from (
                   select s.id, o.handle as owner, s.path, s.expires_at as at,
                          case when s.expires_at <= now() then 'expired' else 'expires' end as why,
                          reach(s.owner_id, 'secret', s.id, s.path) as level
                   from soon join secrets s on s.id = soon.id join owners o on o.id = s.owner_id
                   where s.active or s.expired_at is not null
                   union all
                   select s.id, o.handle, s.path, coalesce(v.value_since, v.created_at) + make_interval(days => rule.after_days), 'rotate',
                          reach(s.owner_id, 'secret', s.id, s.path)
                   from ruled join secrets s on s.id = ruled.id join owners o on o.id = s.owner_id
                   join secret_versions v on v.secret_id = s.id and v.version = s.version
                   cross join lateral rotation_of(s.owner_id, s.id, s.path) rule
                   where s.active and not (rule.regenerate and v.generated)
                     and coalesce(v.value_since, v.created_at) + make_interval(days => rule.after_days) <= now()
               ) due order by at, path limit $2"#,
            days.clamp(0, DUE_DAYS_MAX),
            limit.clamp(0, DUE_LISTED_MAX)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(Due {
                    id: row.id,
                    owner: row.owner,
                    path: damage::path_of(row.id, &row.path),
                    why: match row.why.as_str() {
                        "expired" => DueWhy::Expired,
                        "expires" => DueWhy::Expires,
                        _ => DueWhy::Rotate,
                    },
                    at: row.at,
                    level: Level::from_number(row.level)?,
                })
            })
            .collect())
    }

    /// Sets after how long a secret's value has to be another; none leaves it to the folders. Errors: `NotFound`, `Denied`.
    pub async fn rotation_set(
        &self,
        caller: &Caller,
        id: Uuid,
        rule: Option<RotationRule>,
    ) -> Result<()> {
        let (mut tx, found) = self
            .within_reach(caller, id, Level::Write, Action::SecretRotation)
            .await?;
        sqlx::query!("delete from rotation_rules where secret_id = $1", id)
            .execute(&mut *tx)
            .await?;
        if let Some(rule) = rule {
            sqlx::query!(
                "insert into rotation_rules (id, owner_id, secret_id, after_days, regenerate, set_by)
                 values ($1, $2, $3, $4, $5, $6)",
                Uuid::now_v7(),
                found.owner_id,
                id,
                rule.after_days,
                rule.regenerate,
                audit::asked_by(caller)
            )
            .execute(&mut *tx)
            .await?;
        }
        let reason = Some(of_rule(rule));
        let entry = found.entry(Action::SecretRotation);
        audit::record(&mut tx, caller, Entry { reason, ..entry }).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The same for every path in a folder of an owner, where the secret or a nearer folder has no rule of its own.
    /// Errors: `NotFound`, `Denied`.
    pub async fn rotation_set_in(
        &self,
        caller: &Caller,
        owner: &Handle,
        folder: &Folder,
        rule: Option<RotationRule>,
    ) -> Result<()> {
        let mut tx = self.begin_as(caller).await?;
        let seen = sqlx::query!(
            r#"select id, reach(id, 'secret', null, $2 || '/') as "level!" from owners where handle = $1"#,
            owner.as_str(),
            folder.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?
        .filter(|seen| seen.level > 0);
        let entry = Entry {
            folder: Some(folder),
            ..Entry::of(Action::SecretRotation)
        };
        let Some(seen) = seen else {
            tx.rollback().await?;
            let entry = Entry::of(Action::SecretRotation);
            return self
                .refuse_on_record(
                    caller,
                    entry,
                    "no such folder in sight",
                    Refusal::not_found("folder"),
                )
                .await;
        };
        let entry = Entry {
            owner_id: Some(seen.id),
            ..entry
        };
        if seen.level < Level::Write.number() {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Denied,
                "You may see this folder, but not decide when its values have to be others.",
            );
            return self
                .refuse_on_record(caller, entry, "level too low", refusal)
                .await;
        }
        sqlx::query!(
            "delete from rotation_rules where owner_id = $1 and prefix = $2",
            seen.id,
            folder.as_str()
        )
        .execute(&mut *tx)
        .await?;
        if let Some(rule) = rule {
            sqlx::query!(
                "insert into rotation_rules (id, owner_id, prefix, after_days, regenerate, set_by)
                 values ($1, $2, $3, $4, $5, $6)",
                Uuid::now_v7(),
                seen.id,
                folder.as_str(),
                rule.after_days,
                rule.regenerate,
                audit::asked_by(caller)
            )
            .execute(&mut *tx)
            .await?;
        }
        let reason = Some(of_rule(rule));
        audit::record(&mut tx, caller, Entry { reason, ..entry }).await?;
        tx.commit().await?;
        Ok(())
    }

    /// How far the caller reaches on what stands in an owner's folder; none where that is not at all.
    pub async fn folder_level(
        &self,
        caller: &Caller,
        owner: &Handle,
        folder: &Folder,
    ) -> Result<Option<Level>> {
        let mut tx = self.begin_as(caller).await?;
        let level = sqlx::query_scalar!(
            r#"select reach(id, 'secret', null, $2 || '/') as "level!" from owners where handle = $1"#,
            owner.as_str(),
            folder.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(level.and_then(Level::from_number))
    }

    /// The rule that was set for a folder itself, if it is in sight.
    pub async fn rotation_in(
        &self,
        caller: &Caller,
        owner: &Handle,
        folder: &Folder,
    ) -> Result<Option<RotationRule>> {
        let mut tx = self.begin_as(caller).await?;
        Ok(sqlx::query_as!(
            RotationRule,
            "select r.after_days, r.regenerate from rotation_rules r join owners o on o.id = r.owner_id
             where o.handle = $1 and r.prefix = $2",
            owner.as_str(),
            folder.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?)
    }

    /// One round: switches off what has expired, and generates anew what is due. Returns how many secrets it changed.
    pub async fn caretaker_step(&self) -> Result<u64> {
        let expired = self.expire_step().await?;
        Ok(expired + self.regenerate_step().await?)
    }

    async fn expire_step(&self) -> Result<u64> {
        let caller = Caller::job(Job::Caretaker);
        let mut tx = self.begin_as(&caller).await?;
        let ended = sqlx::query!(
            "update secrets set active = false, expired_at = now() where id in (
                 select id from secrets where active and expires_at <= now()
                 order by expires_at limit $1 for update skip locked)
             returning id, owner_id, path",
            AT_ONCE
        )
        .fetch_all(&mut *tx)
        .await?;
        let count = ended.len() as u64;
        for row in ended {
            let path = damage::path_of(row.id, &row.path);
            let entry = Entry {
                owner_id: Some(row.owner_id),
                secret: Some((row.id, &path)),
                reason: Some("its end has come"),
                ..Entry::of(Action::SecretExpire)
            };
            audit::record(&mut tx, &caller, entry).await?;
        }
        tx.commit().await?;
        Ok(count)
    }

    /// Each in a transaction of its own: one that fails holds up no other.
    async fn regenerate_step(&self) -> Result<u64> {
        let caller = Caller::job(Job::Caretaker);
        let mut tx = self.begin_as(&caller).await?;
        let due = sqlx::query_scalar!(
            r#"select s.id from (select distinct owner_id from rotation_rules where regenerate) ruled
               join secrets s on s.owner_id = ruled.owner_id
               join secret_versions v on v.secret_id = s.id and v.version = s.version
               cross join lateral rotation_of(s.owner_id, s.id, s.path) rule
               where s.active and (s.expires_at is null or s.expires_at > now()) and v.generated and rule.regenerate
                 and coalesce(v.value_since, v.created_at) + make_interval(days => rule.after_days) <= now()
               -- Not always the same first, should some fail.
               order by random() limit $1"#,
            AT_ONCE
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut count = 0;
        for id in due {
            match self.regenerate(&caller, id).await {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(secret = %id, "a secret could not be generated anew");
                    // Its causes go to the log.
                    error.into_refusal();
                }
            }
        }
        Ok(count)
    }

    /// A new value as long as the old one, and a release of each deployment that runs with it. False: no longer due, or in hand.
    async fn regenerate(&self, caller: &Caller, id: Uuid) -> Result<bool> {
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"select s.owner_id, s.path, s.version, v.sealed
               from secrets s join secret_versions v on v.secret_id = s.id and v.version = s.version
               cross join lateral rotation_of(s.owner_id, s.id, s.path) rule
               where s.id = $1 and s.active and (s.expires_at is null or s.expires_at > now()) and v.generated and rule.regenerate
                 and coalesce(v.value_since, v.created_at) + make_interval(days => rule.after_days) <= now()
               for update of s skip locked"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Ok(false);
        };
        let path = damage::path_of(id, &row.path);
        let len_bytes = value_len_bytes(row.sealed.len());
        let former = Place {
            owner_id: row.owner_id,
            secret_id: id,
            version: row.version,
        };
        // One that does not open is no reason to leave it: what comes next does.
        let encoding = match self.unseal(&mut tx, former, &Sealed(row.sealed)).await {
            Ok(value) => Encoding::of(&value),
            Err(_) => Encoding::default(),
        };
        let bytes = generated_len_bytes(len_bytes, encoding);
        let (value, generated) = resolve(NewValue::Generated { bytes, encoding })?;
        let Some(version) = next_version(&mut tx, id, row.version, None).await? else {
            return Ok(false);
        };
        let place = Place {
            owner_id: row.owner_id,
            secret_id: id,
            version,
        };
        let made = Made {
            generated,
            ..Made::default()
        };
        self.add_version(&mut tx, caller, place, &value, made)
            .await?;
        let entry = Entry {
            owner_id: Some(row.owner_id),
            secret: Some((id, &path)),
            version: Some(version),
            reason: Some("its rotation was due"),
            ..Entry::of(Action::SecretReplace)
        };
        audit::record(&mut tx, caller, entry).await?;
        redeploy_users(&mut tx, caller, (id, &path)).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Queues a release of every deployment that binds the secret and is to run.
async fn redeploy_users(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    secret: (Uuid, &SecretPath),
) -> Result<()> {
    let users = sqlx::query!(
        "select id, owner_id, name, wanted, state, target from deployments
         where wanted and state in ('running', 'restarting', 'deploying')
           and id in (select deployment_id from bindings where secret_id = $1)
         order by id for update",
        secret.0
    )
    .fetch_all(&mut **tx)
    .await?;
    for user in users {
        let found = Reached {
            id: user.id,
            owner_id: user.owner_id,
            wanted: user.wanted,
            state: user.state,
            target: user.target,
            is_placed: false,
            destroying: false,
        };
        // What is installed is used again: only a value changed.
        let number = queue_release(tx, audit::name_of(caller), &found, false).await?;
        let entry = Entry {
            owner_id: Some(user.owner_id),
            secret: Some(secret),
            deployment: Some(&user.name),
            release: Some(number),
            reason: Some("a secret was rotated"),
            ..Entry::of(Action::DeploymentRedeploy)
        };
        audit::record(tx, caller, entry).await?;
    }
    Ok(())
}

/// When a secret's value has to be another, for its page.
pub(super) async fn rotation(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
) -> Result<Option<Rotation>> {
    let row = sqlx::query!(
        r#"select rule.after_days as "after_days!", rule.regenerate as "regenerate!", rule.prefix,
                  coalesce(v.value_since, v.created_at) as "since!: OffsetDateTime"
           from secrets s join secret_versions v on v.secret_id = s.id and v.version = s.version
           cross join lateral rotation_of(s.owner_id, s.id, s.path) rule where s.id = $1"#,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Rotation {
            rule: RotationRule {
                after_days: row.after_days,
                regenerate: row.regenerate,
            },
            folder: row.prefix.as_deref().map(Folder::parse).transpose()?,
            due_at: row.since + time::Duration::days(row.after_days.into()),
        })
    })
    .transpose()
}

fn of_rule(rule: Option<RotationRule>) -> &'static str {
    match rule {
        None => "no rule of its own",
        Some(rule) if rule.regenerate => "to be generated anew",
        Some(_) => "to be reminded of",
    }
}

//! Versions of a secret: every new value is one. An older one can be rolled back to, or destroyed for good.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::connections::{Connecting, connect};
use super::keys::{Place, Sealed};
use super::secret_checks::Checked;
use super::secret_values::{NewValue, check_description, is_maskable, resolve, same};
use super::secrets::{Found, SecretEdit, texts};
use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::SecretPath;
use crate::model::secrets::{Kind, VersionSummary, VersionsKept};

/// Versions on a secret's page.
const VERSIONS_SHOWN: i64 = 50;
/// How many versions back a value is known again as the same.
const COMPARED_VERSIONS: i64 = 10;
/// Versions that one step of the retention destroys.
const DESTROYED_AT_ONCE: i64 = 500;

/// A new version, and what a person may want to know of its value.
pub struct Renewed {
    pub version: i32,
    /// Sentences that quote nothing.
    pub notes: Vec<String>,
}

/// How a version came to be.
#[derive(Clone, Copy, Default)]
pub(super) struct Made {
    pub generated: bool,
    /// The older version, and since when its value has been one.
    pub rolled_back_from: Option<(i32, OffsetDateTime)>,
}

impl Db {
    /// Makes the next version, if the newest is still `expected`. Returns its number. Errors: `Conflict`, `NotFound`, `Invalid`.
    pub async fn secret_replace(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: i32,
        value: NewValue,
    ) -> Result<i32> {
        let renewed = self.secret_renew(caller, id, expected, value, None).await?;
        Ok(renewed.version)
    }

    /// As [`Db::secret_replace`], and moves or clears its end in the same step; where that is left as it is, a certificate brings
    /// its own. Errors: also `Invalid` at `expires_at`.
    pub async fn secret_renew(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: i32,
        value: NewValue,
        expires_at: Option<Option<OffsetDateTime>>,
    ) -> Result<Renewed> {
        let edit = SecretEdit {
            expires_at,
            ..SecretEdit::default()
        };
        self.secret_renew_with(caller, id, expected, value, &edit, None)
            .await
    }

    /// The same, with a new kind, description, tags and end beside the value, connected to what asks for it. A path and a switch in
    /// `edit` are left alone.
    pub(super) async fn secret_renew_with(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: i32,
        value: NewValue,
        edit: &SecretEdit,
        connecting: Option<&Connecting<'_>>,
    ) -> Result<Renewed> {
        if let Some(description) = &edit.description {
            check_description(description)?;
        }
        let (value, generated) = resolve(value)?;
        let (mut tx, found) = self
            .within_reach(caller, id, Level::Write, Action::SecretReplace)
            .await?;
        let asked = found.check_end(edit.expires_at)?;
        let checked = Checked::of(edit.kind.unwrap_or(found.kind), &value)?;
        // An end that a person chose anew stands above a certificate's own.
        let chosen = edit.expires_at.flatten().filter(|_| asked);
        let end = match checked.end_beside(chosen) {
            Some(end) => (found.expires_at != Some(end)).then_some(Some(end)),
            None => asked.then_some(None),
        };
        let Some(version) = next_version(&mut tx, id, expected, end).await? else {
            return self
                .refuse_late(caller, tx, &found, Action::SecretReplace)
                .await;
        };
        let made = Made {
            generated,
            ..Made::default()
        };
        self.add_version(&mut tx, caller, found.place(version), &value, made)
            .await?;
        let described = describe(&mut tx, id, edit).await?;
        let entry = Entry {
            version: Some(version),
            ..found.entry(Action::SecretReplace)
        };
        audit::record(&mut tx, caller, entry).await?;
        if end.is_some() || described {
            audit::record(&mut tx, caller, found.entry(Action::SecretEdit)).await?;
        }
        if let Some(connecting) = connecting {
            connect(&mut tx, caller, connecting, id).await?;
        }
        tx.commit().await?;
        Ok(Renewed {
            version,
            notes: checked.notes(chosen),
        })
    }

    /// Makes an old version's value the newest again, as a new version sealed to its own place, if the newest is still `expected`.
    /// Returns the new number. Errors: `Conflict` for one that was destroyed, is the newest, or came too late; `NotFound`.
    pub async fn secret_roll_back(
        &self,
        caller: &Caller,
        id: Uuid,
        expected: i32,
        to: i32,
    ) -> Result<i32> {
        let action = Action::SecretRollBack;
        let (mut tx, found) = self.within_reach(caller, id, Level::Write, action).await?;
        let old = sqlx::query!(
            r#"select sealed, generated, destroyed_at is not null as "destroyed!", coalesce(value_since, created_at) as "since!"
               from secret_versions where secret_id = $1 and version = $2"#,
            id,
            to
        )
        .fetch_optional(&mut *tx)
        .await?;
        let (reason, detail) = match &old {
            None => (
                "no such version",
                format!("There is no version {to}. Its history shows which there are."),
            ),
            Some(old) if old.destroyed => (
                "the version was destroyed",
                format!("Version {to} was destroyed: nothing is left of it. Take another one."),
            ),
            Some(_) if to == found.version => (
                "the version is the newest",
                format!("Version {to} is the newest already. Nothing was changed."),
            ),
            Some(_) => ("", String::new()),
        };
        let old = match old {
            Some(old) if reason.is_empty() => old,
            _ => {
                tx.rollback().await?;
                let entry = Entry {
                    version: Some(to),
                    ..found.entry(action)
                };
                let kind = match old {
                    None => RefusalKind::NotFound,
                    Some(_) => RefusalKind::Conflict,
                };
                let refusal = Refusal::new(kind, detail);
                return self.refuse_on_record(caller, entry, reason, refusal).await;
            }
        };
        let value = self
            .unseal(&mut tx, found.place(to), &Sealed(old.sealed))
            .await?;
        // What a check would refuse today was a value then; an older certificate brings its own end back.
        let own = Checked::of(found.kind, &value).ok();
        let end = own
            .and_then(|checked| checked.end_beside(None))
            .filter(|end| found.expires_at != Some(*end));
        let Some(version) = next_version(&mut tx, id, expected, end.map(Some)).await? else {
            return self.refuse_late(caller, tx, &found, action).await;
        };
        let made = Made {
            generated: old.generated,
            rolled_back_from: Some((to, old.since)),
        };
        self.add_version(&mut tx, caller, found.place(version), &value, made)
            .await?;
        let entry = Entry {
            version: Some(version),
            ..found.entry(action)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// Destroys what is sealed of one version, for good; that there was one stays. Errors: `Conflict` for the newest; `NotFound`.
    pub async fn secret_version_destroy(
        &self,
        caller: &Caller,
        id: Uuid,
        version: i32,
    ) -> Result<()> {
        let action = Action::SecretVersionDestroy;
        let (mut tx, found) = self.within_reach(caller, id, Level::Admin, action).await?;
        let entry = Entry {
            version: Some(version),
            ..found.entry(action)
        };
        if version == found.version {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                format!(
                    "Version {version} is the newest, so it is in use. Replace the value or roll back first; \
                     or delete the secret, which destroys all versions."
                ),
            );
            return self
                .refuse_on_record(caller, entry, "the version is the newest", refusal)
                .await;
        }
        if destroy(&mut tx, caller, id, version).await? == 0 {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                format!("There is no version {version}, or it was destroyed before."),
            );
            return self
                .refuse_on_record(caller, entry, "no such version", refusal)
                .await;
        }
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Destroys versions beyond what the installation keeps: never the newest, nor one that a release runs or may run again.
    /// Returns how many went.
    pub(super) async fn versions_retention(&self) -> Result<u64> {
        let caller = Caller::job(Job::Retention);
        let kept = self.versions_kept(&caller).await?;
        if kept.count.is_none() && kept.days.is_none() {
            return Ok(0);
        }
        let mut tx = self.begin_as(&caller).await?;
        let rows = beyond(&mut tx, kept, DESTROYED_AT_ONCE).await?;
        let mut gone = 0;
        for row in rows {
            let went = destroy(&mut tx, &caller, row.secret_id, row.version).await?;
            // A path that does not read is on record by its id.
            let path = SecretPath::parse(&row.path).ok();
            let entry = Entry {
                owner_id: Some(row.owner_id),
                secret: path.as_ref().map(|path| (row.secret_id, path)),
                version: Some(row.version),
                reason: Some(if row.too_many {
                    "more than the installation keeps"
                } else {
                    "older than the installation keeps"
                }),
                ..Entry::of(Action::SecretVersionDestroy)
            };
            if went > 0 {
                audit::record(&mut tx, &caller, entry).await?;
            }
            gone += went;
        }
        tx.commit().await?;
        Ok(gone)
    }

    /// Says that the newest is another than the caller saw, on record.
    async fn refuse_late<T>(
        &self,
        caller: &Caller,
        tx: Transaction<'_, Postgres>,
        found: &Found,
        action: Action,
    ) -> Result<T> {
        tx.rollback().await?;
        let refusal = Refusal::new(
            RefusalKind::Conflict,
            format!(
                "Someone replaced this secret meanwhile: it is at version {} now. Look at it again, then decide.",
                found.version
            ),
        );
        self.refuse_on_record(caller, found.entry(action), "newer version exists", refusal)
            .await
    }

    pub(super) async fn add_version(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        caller: &Caller,
        place: Place,
        value: &SecretString,
        made: Made,
    ) -> Result<()> {
        let value_id = self.value_id(tx, place, value).await?;
        let (data_key_id, sealed) = self.seal(tx, place, value).await?;
        sqlx::query!(
            "insert into secret_versions (secret_id, owner_id, version, data_key_id, sealed, generated, maskable, created_by,
                                          address, agent, rolled_back_from, value_since, value_id)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            place.secret_id,
            place.owner_id,
            place.version,
            data_key_id,
            sealed.0,
            made.generated,
            is_maskable(value),
            audit::asked_by(caller),
            caller.origin.address.map(ipnet::IpNet::from),
            audit::plain(&caller.origin.agent),
            made.rolled_back_from.map(|(version, _)| version),
            made.rolled_back_from.map(|(_, since)| since),
            value_id
        )
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    /// The id of the value: that of a recent version with the same one, else a new one.
    async fn value_id(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: Place,
        value: &SecretString,
    ) -> Result<Uuid> {
        let recent = sqlx::query!(
            "select version, sealed, value_id from secret_versions
             where secret_id = $1 and destroyed_at is null order by version desc limit $2",
            place.secret_id,
            COMPARED_VERSIONS
        )
        .fetch_all(&mut **tx)
        .await?;
        for row in recent {
            let before = Place {
                version: row.version,
                ..place
            };
            // One that is damaged or destroyed is like no other.
            if let Ok(old) = self.unseal(tx, before, &Sealed(row.sealed)).await
                && same(&old, value)
            {
                return Ok(row.value_id);
            }
        }
        Ok(Uuid::now_v7())
    }
}

/// Raises the number of the newest version if it is still `expected`; `end` moves the secret's end.
/// Changes what stands beside the value, where `edit` has it. Returns whether it has anything.
async fn describe(tx: &mut Transaction<'_, Postgres>, id: Uuid, edit: &SecretEdit) -> Result<bool> {
    if edit.kind.is_none() && edit.description.is_none() && edit.tags.is_none() {
        return Ok(false);
    }
    let tags = edit.tags.as_deref().map(texts);
    sqlx::query!(
        "update secrets set kind = coalesce($2, kind), description = coalesce($3, description), tags = coalesce($4, tags)
         where id = $1",
        id,
        edit.kind.map(Kind::as_str),
        edit.description,
        tags.as_deref()
    )
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

pub(super) async fn next_version(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    expected: i32,
    end: Option<Option<OffsetDateTime>>,
) -> Result<Option<i32>> {
    Ok(sqlx::query_scalar!(
        "update secrets set version = version + 1, changed_at = now(), \
         expires_at = case when $3 then $4 else expires_at end, \
         active = active or ($3 and expired_at is not null), \
         expired_at = case when $3 then null else expired_at end \
         where id = $1 and version = $2 returning version",
        id,
        expected,
        end.is_some(),
        end.flatten()
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// A version beyond what is kept.
pub(super) struct Beyond {
    pub secret_id: Uuid,
    owner_id: Uuid,
    version: i32,
    path: String,
    /// Rather than too old.
    too_many: bool,
}

/// Versions beyond what is kept, at most so many: never the newest, nor one that a release runs or may run again.
pub(super) async fn beyond(
    tx: &mut Transaction<'_, Postgres>,
    kept: VersionsKept,
    at_most: i64,
) -> Result<Vec<Beyond>> {
    Ok(sqlx::query_as!(
        Beyond,
        r#"select v.secret_id as "secret_id!", v.owner_id as "owner_id!", v.version as "version!", s.path as "path!",
                  v.too_many as "too_many!"
           from (
               select secret_id, owner_id, version, destroyed_at,
                      coalesce(row_number() over newest > $1 + 1, false) as too_many,
                      -- Since when it is not the newest any more.
                      lag(created_at) over newest < now() - make_interval(days => $2) as too_old
               from secret_versions
               window newest as (partition by secret_id order by version desc)
           ) v join secrets s on s.id = v.secret_id
           where v.destroyed_at is null and v.version < s.version
             and (v.too_many or coalesce(v.too_old, false))
             and not exists (
                 select 1 from release_bindings b join releases r on r.deployment_id = b.deployment_id and r.number = b.number
                 where b.secret_id = v.secret_id and b.version = v.version
                   and (r.state in ('queued', 'running') or (r.state = 'live' and not exists (
                       select 1 from releases newer
                       where newer.deployment_id = r.deployment_id and newer.number > r.number and newer.state = 'live')))
             )
           limit $3"#,
        kept.count.map(i64::from) as Option<i64>,
        kept.days as Option<i32>,
        at_most
    )
    .fetch_all(&mut **tx)
    .await?)
}

async fn destroy(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    id: Uuid,
    version: i32,
) -> Result<u64> {
    let destroyed = sqlx::query!(
        "update secret_versions set sealed = ''::bytea, data_key_id = null, destroyed_at = now(), destroyed_by = $3
         where secret_id = $1 and version = $2 and destroyed_at is null",
        id,
        version,
        audit::asked_by(caller)
    )
    .execute(&mut **tx)
    .await?;
    Ok(destroyed.rows_affected())
}

/// The newest versions, for the secret's page. From where stands there for those who may write.
pub(super) async fn history(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
) -> Result<Vec<VersionSummary>> {
    Ok(sqlx::query_as!(
        VersionSummary,
        r#"select v.version, v.created_at, v.created_by, v.generated,
                  case when s.level >= 3 then host(v.address) end as address, case when s.level >= 3 then v.agent end as agent,
                  v.rolled_back_from, v.destroyed_at, v.destroyed_by
           from (select id, reach(owner_id, 'secret', id, path) as level from secrets where id = $1) s
           join secret_versions v on v.secret_id = s.id
           order by v.version desc limit $2"#,
        id,
        VERSIONS_SHOWN
    )
    .fetch_all(&mut **tx)
    .await?)
}

impl Found {
    /// Where a version of it is sealed to.
    fn place(&self, version: i32) -> Place {
        Place {
            owner_id: self.owner_id,
            secret_id: self.id,
            version,
        }
    }
}

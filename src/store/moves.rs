//! Moving a secret to another owner: every version is sealed anew, because a value is sealed to its owner.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::error::OnConstraint;
use super::keyring::SealError;
use super::keys::{Place, Sealed};
use super::{Db, Error, Result, damage};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::moves::{MoveEffect, MovePlan, ReachChange};
use crate::model::paths::{Handle, SecretPath};

/// Versions that are opened and sealed anew at a time: with values of 64 KiB, a few megabytes.
const RESEALED_AT_ONCE: i64 = 50;
/// Rows of the lists of a plan.
const LISTED: i64 = 200;

/// A secret that the caller may move.
struct Movable {
    id: Uuid,
    path: SecretPath,
    owner_id: Uuid,
    owner: String,
    level: i32,
}

/// Where one may be moved to.
struct Target {
    id: Uuid,
    handle: String,
}

impl Movable {
    fn entry(&self) -> Entry<'_> {
        Entry {
            owner_id: Some(self.owner_id),
            secret: Some((self.id, &self.path)),
            ..Entry::of(Action::SecretMove)
        }
    }
}

impl Db {
    /// What moving the secret to `to` would do; to whom it may move when nobody is named. Changes nothing.
    /// Errors: `NotFound`; `Denied` without `admin` on all that its owner owns; `Invalid` at `to`.
    pub async fn secret_move_plan(
        &self,
        caller: &Caller,
        id: Uuid,
        to: Option<&Handle>,
    ) -> Result<MovePlan> {
        let (mut tx, found) = self.movable(caller, id).await?;
        let targets = targets(&mut tx, found.owner_id).await?;
        let effect = match to {
            None => None,
            Some(to) => {
                let target = one_of(&targets, to).ok_or_else(no_target)?;
                Some(effect(&mut tx, &found, target).await?)
            }
        };
        Ok(MovePlan {
            id,
            path: found.path,
            owner: found.owner,
            targets: targets.into_iter().map(|target| target.handle).collect(),
            effect,
        })
    }

    /// Moves the secret with its versions; what was granted on it stays, but for the new owner, who needs no grant. Bindings stay, for
    /// they go by id. On record for both owners. Returns its path.
    /// Errors: `NotFound`; `Denied` without `admin` on all that its owner owns; `Invalid` at `to` without `write` there; `Taken` at `to`.
    pub async fn secret_move(&self, caller: &Caller, id: Uuid, to: &Handle) -> Result<SecretPath> {
        let (mut tx, found) = self.movable(caller, id).await?;
        let targets = targets(&mut tx, found.owner_id).await?;
        let Some(target) = one_of(&targets, to) else {
            tx.rollback().await?;
            return self
                .refuse_on_record(caller, found.entry(), "no right to the target", no_target())
                .await;
        };
        // Replacing it waits from here on, and its owner cannot be another by now.
        let locked =
            sqlx::query_scalar!("select owner_id from secrets where id = $1 for update", id)
                .fetch_optional(&mut *tx)
                .await?;
        if locked != Some(found.owner_id) {
            return Err(Refusal::not_found("secret").into());
        }
        // Before the move: afterwards the caller may have no part in what was its owner's.
        let from = Entry {
            reason: Some("to another owner"),
            ..found.entry()
        };
        audit::record(&mut tx, caller, from).await?;
        sqlx::query!(
            "delete from grants where secret_id = $1 and grantee_id = $2",
            id,
            target.id
        )
        .execute(&mut *tx)
        .await?;
        self.reseal(&mut tx, &[id], found.owner_id, target.id)
            .await?;
        let moved = sqlx::query!(
            "update secrets set owner_id = $2, changed_at = now() where id = $1",
            id,
            target.id
        )
        .execute(&mut *tx)
        .await
        .on_constraint("secrets_path_key", path_taken);
        match moved {
            Ok(moved) if moved.rows_affected() == 1 => {}
            Ok(_) => return Err(Refusal::not_found("secret").into()),
            Err(Error::Refused(refusal)) if refusal.kind == RefusalKind::Taken => {
                tx.rollback().await?;
                return self
                    .refuse_on_record(caller, found.entry(), "path in use", refusal)
                    .await;
            }
            Err(error) => return Err(error),
        }
        let to = Entry {
            owner_id: Some(target.id),
            reason: Some("from another owner"),
            ..found.entry()
        };
        audit::record(&mut tx, caller, to).await?;
        tx.commit().await?;
        Ok(found.path)
    }

    /// Opens every version of these secrets and seals it for `to`, a bounded number at a time. The caller changes the owner afterwards,
    /// in the same transaction. Errors: `Conflict` for one that does not open.
    pub(super) async fn reseal(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        ids: &[Uuid],
        from: Uuid,
        to: Uuid,
    ) -> Result<()> {
        let mut after = (Uuid::nil(), 0);
        loop {
            let page = sqlx::query!(
                "select secret_id, version, sealed from secret_versions
                 where secret_id = any($1) and owner_id = $2 and destroyed_at is null and (secret_id, version) > ($3, $4)
                 order by secret_id, version limit $5",
                ids,
                from,
                after.0,
                after.1,
                RESEALED_AT_ONCE
            )
            .fetch_all(&mut **tx)
            .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = (last.secret_id, last.version);
            let mut anew = Resealed::default();
            for row in page {
                let place = |owner_id| Place {
                    owner_id,
                    secret_id: row.secret_id,
                    version: row.version,
                };
                let value = match self.unseal(tx, place(from), &Sealed(row.sealed)).await {
                    Ok(value) => value,
                    Err(error) => return Err(damaged(tx, row.secret_id, row.version, error).await),
                };
                let (data_key_id, sealed) = self.seal(tx, place(to), &value).await?;
                anew.secret_ids.push(row.secret_id);
                anew.versions.push(row.version);
                anew.data_key_ids.push(data_key_id);
                anew.sealed.push(sealed.0);
            }
            let changed = sqlx::query!(
                "update secret_versions v set data_key_id = anew.data_key_id, sealed = anew.sealed
                 from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bytea[]) as anew (secret_id, version, data_key_id, sealed)
                 where v.secret_id = anew.secret_id and v.version = anew.version",
                &anew.secret_ids,
                &anew.versions,
                &anew.data_key_ids,
                &anew.sealed
            )
            .execute(&mut **tx)
            .await?;
            if changed.rows_affected() != anew.secret_ids.len() as u64 {
                return Err(Error::broken("a version could not be sealed anew"));
            }
        }
    }

    /// A transaction and the secret in it, if the caller may move it; otherwise the refusal, on record.
    async fn movable(
        &self,
        caller: &Caller,
        id: Uuid,
    ) -> Result<(Transaction<'static, Postgres>, Movable)> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"select s.owner_id, s.path, o.handle, reach(s.owner_id, 'owner', s.owner_id, null) as "level!"
               from secrets s join owners o on o.id = s.owner_id where s.id = $1"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            tx.rollback().await?;
            let nothing = Refusal::not_found("secret");
            return self
                .refuse_on_record(
                    caller,
                    Entry::of(Action::SecretMove),
                    "no such secret in sight",
                    nothing,
                )
                .await;
        };
        let found = Movable {
            id,
            path: damage::path_of(id, &row.path),
            owner_id: row.owner_id,
            owner: row.handle,
            level: row.level,
        };
        // No grant is enough: it would take the secret from its owner.
        if found.level < Level::Admin.number() {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Denied,
                "Only its owner moves a secret, or an admin of the team that owns it.",
            );
            return self
                .refuse_on_record(caller, found.entry(), "level too low", refusal)
                .await;
        }
        Ok((tx, found))
    }
}

#[derive(Default)]
struct Resealed {
    secret_ids: Vec<Uuid>,
    versions: Vec<i32>,
    data_key_ids: Vec<Uuid>,
    sealed: Vec<Vec<u8>>,
}

/// Oneself, and the teams in which the caller may write; not whose it is now.
async fn targets(tx: &mut Transaction<'_, Postgres>, owner_id: Uuid) -> Result<Vec<Target>> {
    let targets = sqlx::query_as!(
        Target,
        "select o.id, o.handle from owners o
         where o.id = any (acting_for()) and o.id <> $1 and o.ended_at is null and reach(o.id, 'owner', o.id, null) >= $2
         order by o.id <> current_actor(), o.handle limit $3",
        owner_id,
        Level::Write.number(),
        LISTED
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(targets)
}

fn one_of<'a>(targets: &'a [Target], handle: &Handle) -> Option<&'a Target> {
    targets
        .iter()
        .find(|target| target.handle == handle.as_str())
}

/// Who reaches it otherwise afterwards: whose it is and was, members, and what is granted on the folders above it. The rest stays.
async fn effect(
    tx: &mut Transaction<'_, Postgres>,
    found: &Movable,
    target: &Target,
) -> Result<MoveEffect> {
    let rows = sqlx::query!(
        r#"select handle as "handle!", max(level) filter (where not later) as before, max(level) filter (where later) as after
           from (
               select o.handle, 4 as level, o.id = $3 as later from owners o where o.id in ($2, $3) and o.kind = 'user'
               union all
               select o.handle, m.level, m.team_id = $3 from team_members m join owners o on o.id = m.user_id
               where m.team_id in ($2, $3)
               union all
               select o.handle, g.level, g.owner_id = $3 from grants g join owners o on o.id = g.grantee_id
               where g.owner_id in ($2, $3) and g.prefix is not null and starts_with($4, g.prefix || '/')
               union all
               select o.handle, g.level, sides.later from grants g join owners o on o.id = g.grantee_id,
                   (values (false), (true)) as sides (later)
               where g.secret_id = $1 and not (sides.later and g.grantee_id = $3)
           ) reaching
           group by handle
           having max(level) filter (where not later) is distinct from max(level) filter (where later)
           order by handle limit $5"#,
        found.id,
        found.owner_id,
        target.id,
        found.path.as_str(),
        LISTED
    )
    .fetch_all(&mut **tx)
    .await?;
    let others = sqlx::query!(
        r#"select exists (select 1 from secrets where owner_id = $2 and path_key = lower($3 collate "C")) as "taken!",
                  array(select d.name from deployments d
                        where d.owner_id <> $2 and (d.fetch_key = $1
                              or exists (select 1 from bindings b where b.deployment_id = d.id and b.secret_id = $1))
                        order by d.name limit $4) as "used_by!: Vec<String>",
                  (select prefix from rotation_of($5, $1, $3)) as rule_lost"#,
        found.id,
        target.id,
        found.path.as_str(),
        LISTED,
        found.owner_id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(MoveEffect {
        to: target.handle.clone(),
        taken: others.taken,
        changes: rows
            .into_iter()
            .map(|row| ReachChange {
                handle: row.handle,
                before: row.before.and_then(Level::from_number),
                after: row.after.and_then(Level::from_number),
            })
            .collect(),
        used_by: others.used_by,
        rule_lost: others.rule_lost,
    })
}

/// One damaged value keeps the whole where it is, and is named.
async fn damaged(
    tx: &mut Transaction<'_, Postgres>,
    secret_id: Uuid,
    version: i32,
    error: Error,
) -> Error {
    match &error {
        Error::Broken(_, Some(cause)) if cause.is::<SealError>() => {}
        _ => return error,
    }
    let path = sqlx::query_scalar!("select path from secrets where id = $1", secret_id)
        .fetch_optional(&mut **tx)
        .await;
    match path {
        Ok(path) => Refusal::new(
            RefusalKind::Conflict,
            format!(
                "Version {version} of {} is damaged: it does not open, so it cannot be sealed for another owner. Whoever administers \
                 it can replace and delete it; then try again. Nothing was moved.",
                path.unwrap_or_default()
            ),
        )
        .into(),
        Err(error) => error.into(),
    }
}

fn no_target() -> Refusal {
    Refusal::invalid(
        "to",
        "A secret moves to yourself or to a team where you may write. Choose one of them.",
    )
}

fn path_taken() -> Refusal {
    Refusal::new(
        RefusalKind::Taken,
        "There is a secret with this path already, perhaps in another case. Rename one of the two first.",
    )
    .at("to")
}

//! Sharing as it is shown: who can reach this, what can this person do, what a rename changes.

use std::collections::BTreeMap;

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::deployments::person;
use super::grants::{as_owner, entry_on};
use super::{Db, Error, Result, damage, renames};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::grants::{
    Grant, Holder, HolderReach, LevelChange, Member, Reachers, Shareable, Shared,
};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, Folder, Handle, SecretPath};

/// Rows of one list.
const LISTED: i64 = 2_000;

impl Db {
    /// What reaches the one named, by e-mail address or handle. Errors: as of `reachers`, and as of sharing with nobody.
    pub async fn grants_to(
        &self,
        caller: &Caller,
        on: &Shareable,
        named: &str,
    ) -> Result<Vec<Grant>> {
        // First, so that only an admin learns whether there is somebody of this name.
        let mut grants = self.reachers(caller, on).await?.grants;
        let found = self
            .holder_named(caller, named, Entry::of(Action::Share))
            .await?;
        grants.retain(|grant| grant.grantee.handle == found.holder.handle);
        Ok(grants)
    }

    /// Everyone who reaches it, and by what; for its admins. Errors: `NotFound`, `Denied`, on record.
    pub async fn reachers(&self, caller: &Caller, on: &Shareable) -> Result<Reachers> {
        person(caller)?;
        let object = self.administered(caller, on, Action::Share).await?;
        let endable = self.endable_by(caller, object.owner_id).await?;
        let mut tx = self.begin_as(&as_owner(caller, object.owner_id)).await?;
        let owner = holder(&mut tx, object.owner_id).await?;
        let members = members(&mut tx, object.owner_id).await?;
        let path = match &object.on {
            Shared::Secret { path, .. } => path.to_string(),
            Shared::Folder { prefix } => format!("{prefix}/"),
            Shared::Deployment { .. } => String::new(),
        };
        let rows = sqlx::query_as!(
            GrantRow,
            r#"select g.id, g.secret_id, s.path as "path?", g.prefix, d.name as "deployment?", o.handle as owner,
                      e.handle as grantee, e.kind = 'team' as "is_team!", e.ended_at is not null as "ended!",
                      g.level, coalesce(g.only_deployments, '{}') as "only!", g.granted_by_name, g.granted_at,
                      g.id = any ($5) as "endable!"
               from grants g join owners o on o.id = g.owner_id join owners e on e.id = g.grantee_id
               left join secrets s on s.id = g.secret_id
               left join deployments d on d.id = g.deployment_id
               where g.owner_id = $1 and (g.secret_id = $2 or g.deployment_id = $3 or starts_with($4, g.prefix || '/'))
               order by g.prefix nulls first, e.handle limit $6"#,
            object.owner_id,
            object.secret_id(),
            object.deployment_id,
            path,
            &endable,
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?;
        let through = through(&mut tx, &rows).await?;
        tx.rollback().await?;
        let grants = rows
            .into_iter()
            .map(GrantRow::into_grant)
            .collect::<Result<_>>()?;
        Ok(Reachers {
            on: object.on,
            owner,
            members,
            grants,
            through,
        })
    }

    /// What a user or a team can do, as far as the caller may know: on what the caller administers; all of it for oneself and for
    /// teams of one's own. Errors: `NotFound`.
    pub async fn holder_reach(&self, caller: &Caller, handle: &Handle) -> Result<HolderReach> {
        let user = person(caller)?;
        let found = self.holder(caller, handle).await?;
        let mut tx = self.begin_as(caller).await?;
        let teams = sqlx::query!(
            "select o.handle, m.level from team_members m join owners o on o.id = m.team_id
             where m.user_id = $1 order by o.handle limit $2",
            found.id,
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .filter_map(|row| Some((row.handle, Level::from_number(row.level)?)))
        .collect();
        let rows = sqlx::query_as!(
            GrantRow,
            r#"select g.id, g.secret_id, s.path as "path?", g.prefix, d.name as "deployment?", o.handle as owner,
                      e.handle as grantee, e.kind = 'team' as "is_team!", e.ended_at is not null as "ended!",
                      g.level, coalesce(g.only_deployments, '{}') as "only!", g.granted_by_name, g.granted_at,
                      (g.grantee_id = any (record_owners())
                       or reach_of_grant(g.owner_id, g.secret_id, g.prefix, g.deployment_id) >= 4) as "endable!"
               from grants g join owners o on o.id = g.owner_id join owners e on e.id = g.grantee_id
               left join secrets s on s.id = g.secret_id
               left join deployments d on d.id = g.deployment_id
               where g.grantee_id = $1
                  or g.grantee_id in (select m.team_id from team_members m where m.user_id = $1)
               order by o.handle, s.path, g.prefix, d.name limit $2"#,
            found.id,
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?;
        let grants = rows
            .into_iter()
            .map(GrantRow::into_grant)
            .collect::<Result<_>>()?;
        Ok(HolderReach {
            is_self: found.id == user.id,
            holder: found.holder,
            teams,
            grants,
        })
    }

    /// Who gains and who loses when a secret gets another path: what is shared by folder goes by the path. For its admins.
    /// Errors: `NotFound`, `Denied`, on record.
    pub async fn rename_effect(
        &self,
        caller: &Caller,
        id: Uuid,
        new_path: &SecretPath,
    ) -> Result<Vec<LevelChange>> {
        let on = Shareable::Secret { id };
        let object = self.administered(caller, &on, Action::SecretEdit).await?;
        let Shared::Secret { path: old_path, .. } = &object.on else {
            return Err(Error::broken("a secret is none"));
        };
        // Who reaches what stands in another folder is for those who may rename it there.
        let mut tx = self.begin_as(caller).await?;
        let may = renames::may_rename(&mut tx, object.owner_id, old_path, new_path).await?;
        tx.rollback().await?;
        if !may {
            let entry = entry_on(Action::SecretEdit, object.owner_id, &object.on);
            return self
                .refuse_on_record(caller, entry, renames::NOT_THEIRS, renames::not_theirs())
                .await;
        }
        let mut tx = self.begin_as(&as_owner(caller, object.owner_id)).await?;
        let rows = sqlx::query!(
            r#"select e.handle, e.kind = 'team' as "is_team!", e.ended_at is not null as "ended!",
                      coalesce(max(g.level) filter (where g.secret_id = $2 or starts_with($3, g.prefix || '/')), 0) as "before!",
                      coalesce(max(g.level) filter (where g.secret_id = $2 or starts_with($4, g.prefix || '/')), 0) as "after!"
               from grants g join owners e on e.id = g.grantee_id
               where g.owner_id = $1 and (g.secret_id = $2 or g.prefix is not null)
               group by e.id, e.handle, e.kind, e.ended_at order by e.handle limit $5"#,
            object.owner_id,
            id,
            old_path.as_str(),
            new_path.as_str(),
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.before != row.after)
            .map(|row| LevelChange {
                holder: Holder {
                    handle: row.handle,
                    is_team: row.is_team,
                    ended: row.ended,
                },
                before: Level::from_number(row.before),
                after: Level::from_number(row.after),
            })
            .collect())
    }

    /// The grants of an owner's that the caller can end.
    async fn endable_by(&self, caller: &Caller, owner_id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.begin_as(caller).await?;
        Ok(sqlx::query_scalar!(
            "select id from grants
             where owner_id = $1 and reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4 limit $2",
            owner_id,
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?)
    }
}

struct GrantRow {
    id: Uuid,
    secret_id: Option<Uuid>,
    path: Option<String>,
    prefix: Option<String>,
    deployment: Option<String>,
    owner: String,
    grantee: String,
    is_team: bool,
    ended: bool,
    level: i32,
    only: Vec<String>,
    granted_by_name: String,
    granted_at: OffsetDateTime,
    endable: bool,
}

impl GrantRow {
    fn into_grant(self) -> Result<Grant> {
        Ok(Grant {
            id: self.id,
            on: shown(self.secret_id, self.path, self.prefix, self.deployment)?,
            owner: self.owner,
            grantee: Holder {
                handle: self.grantee,
                is_team: self.is_team,
                ended: self.ended,
            },
            level: Level::from_number(self.level)
                .ok_or_else(|| Error::broken("a grant's level does not read"))?,
            only: self.only,
            given_by: self.granted_by_name,
            given_at: self.granted_at,
            endable: self.endable,
        })
    }
}

/// What a grant is about, of the columns that name it.
pub(super) fn shown(
    secret_id: Option<Uuid>,
    path: Option<String>,
    prefix: Option<String>,
    deployment: Option<String>,
) -> Result<Shared> {
    match (secret_id, path, prefix, deployment) {
        (Some(id), Some(path), _, _) => Ok(Shared::Secret {
            id,
            path: damage::path_of(id, &path),
        }),
        (_, _, Some(prefix), _) => Ok(Shared::Folder {
            prefix: Folder::parse(&prefix)?,
        }),
        (_, _, _, Some(name)) => Ok(Shared::Deployment {
            name: DeploymentName::parse(&name)?,
        }),
        _ => Err(Refusal::not_found("share").into()),
    }
}

async fn holder(tx: &mut Transaction<'_, Postgres>, id: Uuid) -> Result<Holder> {
    Ok(sqlx::query_as!(
        Holder,
        r#"select handle, kind = 'team' as "is_team!", ended_at is not null as "ended!" from owners where id = $1"#,
        id
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// A team's members, the highest level first.
pub(super) async fn members(
    tx: &mut Transaction<'_, Postgres>,
    team_id: Uuid,
) -> Result<Vec<Member>> {
    let rows = sqlx::query!(
        "select o.handle, m.level, m.added_by, m.added_at from team_members m join owners o on o.id = m.user_id
         where m.team_id = $1 order by m.level desc, o.handle limit $2",
        team_id,
        LISTED
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Member {
                handle: row.handle,
                level: Level::from_number(row.level)?,
                added_by: row.added_by,
                added_at: row.added_at,
            })
        })
        .collect())
}

/// Who is in the teams among the grantees: team, then handle.
async fn through(
    tx: &mut Transaction<'_, Postgres>,
    grants: &[GrantRow],
) -> Result<Vec<(String, String)>> {
    let teams: BTreeMap<&str, ()> = grants
        .iter()
        .filter(|grant| grant.is_team)
        .map(|grant| (grant.grantee.as_str(), ()))
        .collect();
    let teams: Vec<String> = teams.into_keys().map(str::to_owned).collect();
    if teams.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"select t.handle as "team!", o.handle as "member!"
           from owners t join team_members m on m.team_id = t.id join owners o on o.id = m.user_id
           where t.handle = any ($1) order by t.handle, o.handle limit $2"#,
        &teams,
        LISTED
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.team, row.member)).collect())
}

//! Sharing: levels that are given to users and teams, and taken back. What they come to is decided in SQL, by `reach`.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::grant_pages::shown;
use super::holders::Found;
use super::{Db, Result, damage};
use crate::model::actors::{Actor, Caller};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::grants::{ONLY_MAX, Shareable, Shared};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;

/// Something within sight that can be shared.
pub(super) struct Object {
    pub owner_id: Uuid,
    pub on: Shared,
    /// How far the caller reaches on it.
    pub level: i32,
    pub deployment_id: Option<Uuid>,
}

impl Object {
    pub(super) fn secret_id(&self) -> Option<Uuid> {
        match self.on {
            Shared::Secret { id, .. } => Some(id),
            _ => None,
        }
    }

    pub(super) fn prefix(&self) -> Option<&str> {
        match &self.on {
            Shared::Folder { prefix } => Some(prefix.as_str()),
            _ => None,
        }
    }

    fn entry(&self, action: Action) -> Entry<'_> {
        entry_on(action, self.owner_id, &self.on)
    }
}

pub(super) fn entry_on(action: Action, owner_id: Uuid, on: &Shared) -> Entry<'_> {
    let entry = Entry {
        owner_id: Some(owner_id),
        ..Entry::of(action)
    };
    match on {
        Shared::Secret { id, path } => Entry {
            secret: Some((*id, path)),
            ..entry
        },
        Shared::Folder { prefix } => Entry {
            folder: Some(prefix),
            ..entry
        },
        Shared::Deployment { name } => Entry {
            deployment: Some(name.as_str()),
            ..entry
        },
    }
}

impl Db {
    /// Gives a level to a user or a team, named by e-mail address or handle, or changes the one that was given.
    /// `only` narrows `use` of a secret or a folder to these deployments. Returns the grant's id.
    /// Errors: `NotFound`, `Denied` without `admin`; `Invalid` at `with` or `only`; `TooMany`.
    pub async fn share(
        &self,
        caller: &Caller,
        on: &Shareable,
        with: &str,
        level: Level,
        only: &[DeploymentName],
    ) -> Result<Uuid> {
        let user = person(caller)?;
        let object = self.administered(caller, on, Action::Share).await?;
        check_only(&object, level, only)?;
        let found = self
            .holder_named(caller, with, object.entry(Action::Share))
            .await?;
        let mut tx = self.begin_as(caller).await?;
        if found.id == object.owner_id {
            return Err(Refusal::invalid(
                "with",
                format!("It is {}’s own already.", found.holder.handle),
            )
            .into());
        }
        let only: Option<Vec<String>> =
            (!only.is_empty()).then(|| only.iter().map(DeploymentName::to_string).collect());
        let new = NewGrant {
            level,
            only: only.as_deref(),
            giver: user.id,
            giver_name: &user.handle,
        };
        let id = put(&mut tx, &object, &found, &new).await?;
        let entry = Entry {
            grantee: Some(&found.holder.handle),
            level: Some(level),
            reason: only.is_some().then_some("in named deployments alone"),
            ..object.entry(Action::Share)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Takes a level back: by whoever administers what it is on, or given back by the one who has it. It holds no more from the next
    /// request on. Errors: `NotFound`, `Denied`.
    pub async fn unshare(&self, caller: &Caller, id: Uuid) -> Result<()> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"select g.owner_id, g.secret_id, s.path as "path?", g.prefix, d.name as "deployment?", g.level, o.handle as grantee,
                      (g.grantee_id = any (record_owners())
                       or reach_of_grant(g.owner_id, g.secret_id, g.prefix, g.deployment_id) >= 4) as "endable!"
               from grants g join owners o on o.id = g.grantee_id
               left join secrets s on s.id = g.secret_id
               left join deployments d on d.id = g.deployment_id
               where g.id = $1"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        // What others gave to its maker is not a token's: it acts for one owner.
        let row = row.filter(|row| match &caller.actor {
            Actor::Token(token) => row.owner_id == token.owner_id,
            _ => true,
        });
        let Some(row) = row else {
            tx.rollback().await?;
            let entry = Entry::of(Action::Unshare);
            let refusal = Refusal::not_found("share");
            return self
                .refuse_on_record(caller, entry, "no such share in sight", refusal)
                .await;
        };
        let on = shown(row.secret_id, row.path, row.prefix, row.deployment)?;
        let entry = Entry {
            grantee: Some(&row.grantee),
            level: Level::from_number(row.level),
            ..entry_on(Action::Unshare, row.owner_id, &on)
        };
        if !row.endable {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Denied,
                "It was given to a team of yours. An admin of the team gives it back, or whoever shares it takes it back.",
            );
            return self
                .refuse_on_record(caller, entry, "level too low", refusal)
                .await;
        }
        // Before the end of the grant, for by it one may write in the owner's record.
        audit::record(&mut tx, caller, entry).await?;
        let ended = sqlx::query!("delete from grants where id = $1", id)
            .execute(&mut *tx)
            .await?;
        if ended.rows_affected() != 1 {
            return Err(Refusal::not_found("share").into());
        }
        tx.commit().await?;
        Ok(())
    }

    /// What the caller administers; otherwise the refusal, on record.
    pub(super) async fn administered(
        &self,
        caller: &Caller,
        on: &Shareable,
        action: Action,
    ) -> Result<Object> {
        let mut tx = self.begin_as(caller).await?;
        let object = object(&mut tx, on).await?;
        tx.rollback().await?;
        let Some(object) = object else {
            let refusal = Refusal::not_found(match on {
                Shareable::Secret { .. } => "secret",
                Shareable::Folder { .. } => "folder",
                Shareable::Deployment { .. } => "deployment",
            });
            return self
                .refuse_on_record(caller, Entry::of(action), "nothing such in sight", refusal)
                .await;
        };
        if object.level < Level::Admin.number() {
            let refusal = Refusal::new(
                RefusalKind::Denied,
                "You may see this, but only its owner and those with admin share it.",
            );
            return self
                .refuse_on_record(caller, object.entry(action), "level too low", refusal)
                .await;
        }
        Ok(object)
    }
}

/// The owner's eyes, for what has to be whole: an admin of one secret does not see what is granted on the folder around it. Only
/// after the caller's own right was asked.
pub(super) fn as_owner(caller: &Caller, owner_id: Uuid) -> Caller {
    Caller {
        actor: Actor::Deployment {
            id: Uuid::nil(),
            owner_id,
        },
        origin: caller.origin.clone(),
    }
}

/// None when the caller has nothing to do with it.
async fn object(tx: &mut Transaction<'_, Postgres>, on: &Shareable) -> Result<Option<Object>> {
    Ok(match on {
        Shareable::Secret { id } => sqlx::query!(
            r#"select owner_id, path, reach(owner_id, 'secret', id, path) as "level!" from secrets where id = $1"#,
            id
        )
        .fetch_optional(&mut **tx)
        .await?
        .map(|row| Object {
            owner_id: row.owner_id,
            on: Shared::Secret { id: *id, path: damage::path_of(*id, &row.path) },
            level: row.level,
            deployment_id: None,
        }),
        Shareable::Folder { owner, prefix } => sqlx::query!(
            r#"select id, reach(id, 'secret', null, $2) as "level!" from owners where handle = $1 and ended_at is null"#,
            owner.as_str(),
            format!("{prefix}/")
        )
        .fetch_optional(&mut **tx)
        .await?
        .filter(|row| row.level > 0)
        .map(|row| Object {
            owner_id: row.id,
            on: Shared::Folder { prefix: prefix.clone() },
            level: row.level,
            deployment_id: None,
        }),
        Shareable::Deployment { name } => sqlx::query!(
            r#"select id, owner_id, reach(owner_id, 'deployment', id, null) as "level!" from deployments where name = $1"#,
            name.as_str()
        )
        .fetch_optional(&mut **tx)
        .await?
        .map(|row| Object {
            owner_id: row.owner_id,
            on: Shared::Deployment { name: name.clone() },
            level: row.level,
            deployment_id: Some(row.id),
        }),
    })
}

fn check_only(object: &Object, level: Level, only: &[DeploymentName]) -> Result<(), Refusal> {
    if only.is_empty() {
        return Ok(());
    }
    let detail = if matches!(object.on, Shared::Deployment { .. }) {
        "Only secrets and folders are narrowed to deployments.".to_owned()
    } else if level != Level::Use {
        format!(
            "Only use can be narrowed to deployments: with {} one reads the value itself.",
            level.as_str()
        )
    } else if only.len() > ONLY_MAX {
        format!("Name at most {ONLY_MAX} deployments.")
    } else {
        return Ok(());
    };
    Err(Refusal::invalid("only", detail))
}

struct NewGrant<'a> {
    level: Level,
    only: Option<&'a [String]>,
    giver: Uuid,
    giver_name: &'a str,
}

/// Makes the grant, or changes the one that is there.
async fn put(
    tx: &mut Transaction<'_, Postgres>,
    object: &Object,
    found: &Found,
    new: &NewGrant<'_>,
) -> Result<Uuid> {
    let id = Uuid::now_v7();
    let made = sqlx::query!(
        "insert into grants (id, owner_id, secret_id, prefix, deployment_id, grantee_id, level, only_deployments, granted_by, granted_by_name)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing",
        id,
        object.owner_id,
        object.secret_id(),
        object.prefix(),
        object.deployment_id,
        found.id,
        new.level.number(),
        new.only,
        new.giver,
        new.giver_name
    )
    .execute(&mut **tx)
    .await?;
    if made.rows_affected() == 1 {
        return Ok(id);
    }
    sqlx::query_scalar!(
        "update grants set level = $6, only_deployments = $7, granted_by = $8, granted_by_name = $9, granted_at = now()
         where owner_id = $1 and grantee_id = $5 and secret_id is not distinct from $2 and prefix is not distinct from $3
           and deployment_id is not distinct from $4
         returning id",
        object.owner_id,
        object.secret_id(),
        object.prefix(),
        object.deployment_id,
        found.id,
        new.level.number(),
        new.only,
        new.giver,
        new.giver_name
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| {
        Refusal::new(
            RefusalKind::Conflict,
            "It was changed at the same moment. Look at it again.",
        )
        .into()
    })
}

//! Which value runs where: releases that run an older one than is newest, and deployments that follow changes by themselves.

use uuid::Uuid;

use sqlx::{Postgres, Transaction};

use super::audit;
use super::deployments::{about, queue_release};
use super::{Db, Result};
use crate::model::actors::{Actor, Caller, Origin};
use crate::model::audit::Action;
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;

impl Db {
    /// Whether a changed value of a bound secret redeploys it by itself. Errors: `NotFound`, `Denied`.
    pub async fn deployment_follow(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        follows: bool,
    ) -> Result<()> {
        let action = Action::DeploymentChange;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        sqlx::query!(
            "update deployments set follows_changes = $2 where id = $1",
            found.id,
            follows,
        )
        .execute(&mut *tx)
        .await?;
        let reason = Some(if follows {
            "follows changes"
        } else {
            "follows no changes"
        });
        let entry = audit::Entry {
            reason,
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// One round over the deployments that `holder` holds and that follow changes: those that run an older value get a release.
    /// Each with the rights that its owner has now. Returns how many there were.
    pub async fn follow_step(&self, holder: Uuid) -> Result<u64> {
        let mut tx = self
            .begin_as(&Caller::job(crate::model::actors::Job::Supervisor))
            .await?;
        let following = sqlx::query!(
            "select id, owner_id, name from deployments \
             where holder = $1 and follows_changes and wanted and state <> 'deploying' order by id",
            holder,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut queued = 0;
        for row in following {
            let name = DeploymentName::parse(&row.name)?;
            queued += u64::from(self.follow(row.id, row.owner_id, &name).await?);
        }
        Ok(queued)
    }

    async fn follow(&self, id: Uuid, owner_id: Uuid, name: &DeploymentName) -> Result<bool> {
        let caller = Caller {
            actor: Actor::Deployment { id, owner_id },
            origin: Origin::default(),
        };
        let mut tx = self.begin_as(&caller).await?;
        // A release that failed with the newest value is not tried again until there is a newer one.
        let due = sqlx::query_scalar!(
            r#"select exists (
                 select 1 from deployments d
                 join releases newest on newest.deployment_id = d.id and newest.number = d.release
                 join release_bindings rb on rb.deployment_id = d.id
                   and rb.number = (select max(r.number) from releases r where r.deployment_id = d.id and r.state = 'live')
                 join bindings b on b.deployment_id = d.id and b.env = rb.env and b.secret_id = rb.secret_id
                 join secrets s on s.id = rb.secret_id and s.active and (s.expires_at is null or s.expires_at > now())
                 join secret_versions ran on ran.secret_id = s.id and ran.version = rb.version
                 join secret_versions now_is on now_is.secret_id = s.id and now_is.version = s.version
                 where d.id = $1 and ran.value_id <> now_is.value_id
                   and (newest.state = 'live' or now_is.created_at > newest.created_at)
               ) as "due!""#,
            id,
        )
        .fetch_one(&mut *tx)
        .await?;
        if !due {
            return Ok(false);
        }
        let Some(found) = lock_following(&mut tx, id).await? else {
            return Ok(false);
        };
        let number = queue_release(&mut tx, "sealport", &found, false).await?;
        let entry = audit::Entry {
            release: Some(number),
            reason: Some("a bound secret has a newer value"),
            ..about(Action::DeploymentRedeploy, owner_id, name)
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// The deployment, locked, if it still follows, is wanted and has no release under way.
async fn lock_following(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
) -> Result<Option<super::deployments::Reached>> {
    Ok(sqlx::query_as!(
        super::deployments::Reached,
        "select id, owner_id, wanted, state, target, false as \"is_placed!\", destroying from deployments d \
         where id = $1 and follows_changes and wanted \
           and not exists (select 1 from releases r where r.deployment_id = d.id and r.state in ('queued', 'running')) \
         for update",
        id,
    )
    .fetch_optional(&mut **tx)
    .await?)
}

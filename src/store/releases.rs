//! Releases: each attempt to run a deployment, and its steps. What a release may write is checked against the fence
//! under which it was claimed.

use std::collections::BTreeMap;

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::holds::held_elsewhere;
use super::logs::clean_sentence;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::deployments::{DeploymentState, ReleaseState, StepName};
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::{Placed, Target};

pub use super::bindings::OpenedBindings;

/// A release claimed for work.
#[derive(Clone, Debug)]
pub struct ReleaseTask {
    pub deployment_id: Uuid,
    pub ordinal: i32,
    pub name: String,
    pub owner_id: Uuid,
    pub number: i32,
    pub fence: i64,
    pub source: Source,
    pub start: StartPlan,
    pub fetch_key: Option<Uuid>,
    pub target: Target,
    /// What the target wants to know, by name.
    pub options: BTreeMap<String, String>,
    pub provider_key: Option<Uuid>,
    /// What the provider has of it.
    pub placed: Placed,
    /// Each caller has an instance of their own.
    pub per_user: bool,
    /// What has no version, a directory, is to be copied anew.
    pub anew: bool,
    /// The commit that an older release ran, where that is to be built rather than what is newest.
    pub commit: Option<String>,
    /// Whether the owner is an administrator now: nobody else has a directory of this machine copied.
    pub owner_is_administrator: bool,
}

/// Times that a release is begun; a server that dies of one must not die of it for ever.
const RELEASE_TRIES_MAX: i32 = 4;

impl Db {
    /// The oldest queued release among the deployments that `holder` holds; now running. Also one that an earlier holder left
    /// running (an earlier process of this server, say): it starts over, its steps waiting again, but not for ever.
    pub async fn release_claim(&self, holder: Uuid) -> Result<Option<ReleaseTask>> {
        while let Some((task, tries)) = self.release_claim_one(holder).await? {
            if tries <= RELEASE_TRIES_MAX {
                return Ok(Some(task));
            }
            let reason = format!(
                "The release was begun {RELEASE_TRIES_MAX} times, and each time Sealport was interrupted before its end. Redeploy it to try again."
            );
            self.release_end(&task, ReleaseState::Failed, Some(&reason))
                .await?;
        }
        Ok(None)
    }

    async fn release_claim_one(&self, holder: Uuid) -> Result<Option<(ReleaseTask, i32)>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let found = sqlx::query!(
            r#"select r.deployment_id, r.number, r.owner_id, r.anew, d.ordinal, d.name, d.fence, d.source, d.start, d.fetch_key,
               d.target, d.options, d.provider_key, d.placed, d.per_user, case when r.code_of is not null then r.commit end as commit,
               exists (select 1 from users u where u.id = d.owner_id and u.is_admin and u.ended_at is null) as "owner_is_administrator!"
             from releases r join deployments d on d.id = r.deployment_id
             where d.holder = $1 and d.held_until > now() and d.wanted
               and (r.state = 'queued' or (r.state = 'running' and r.fence is distinct from d.fence))
             order by r.state, r.created_at limit 1 for update of d, r skip locked"#,
            holder,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let tries = sqlx::query_scalar!(
            "update releases set state = 'running', fence = $3, tries = tries + 1 \
             where deployment_id = $1 and number = $2 returning tries",
            row.deployment_id,
            row.number,
            row.fence,
        )
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query!(
            "update release_steps set state = 'waiting', started_at = null, ended_at = null, detail = '' \
             where deployment_id = $1 and number = $2",
            row.deployment_id,
            row.number,
        )
        .execute(&mut *tx)
        .await?;
        let unreadable = |_| Error::broken("a deployment's row does not read");
        let task = ReleaseTask {
            deployment_id: row.deployment_id,
            ordinal: row.ordinal,
            name: row.name,
            owner_id: row.owner_id,
            number: row.number,
            fence: row.fence,
            source: Source::parse(&row.source)?,
            start: serde_json::from_value(row.start).map_err(unreadable)?,
            fetch_key: row.fetch_key,
            target: Target::from_name(&row.target)
                .ok_or_else(|| Error::broken("a deployment's target does not read"))?,
            options: serde_json::from_value(row.options).map_err(unreadable)?,
            provider_key: row.provider_key,
            placed: serde_json::from_value(row.placed).map_err(unreadable)?,
            per_user: row.per_user,
            anew: row.anew,
            commit: row.commit,
            owner_is_administrator: row.owner_is_administrator,
        };
        tx.commit().await?;
        Ok(Some((task, tries)))
    }

    /// Whether the release is still wanted: not superseded, not stopped, not destroyed, the fence unchanged.
    pub async fn release_wanted(&self, task: &ReleaseTask) -> Result<bool> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let wanted = sqlx::query_scalar!(
            r#"select exists (
                 select 1 from deployments d join releases r on r.deployment_id = d.id
                 where d.id = $1 and d.fence = $2 and d.wanted
                   and r.number = $3 and r.fence = $2 and r.state = 'running') as "wanted!""#,
            task.deployment_id,
            task.fence,
            task.number,
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(wanted)
    }

    /// `running`, `done` or `failed`, with a masked sentence. Errors: `Conflict` when the release is no longer this server's.
    pub async fn release_step(
        &self,
        task: &ReleaseTask,
        step: StepName,
        state: &str,
        detail: &str,
    ) -> Result<()> {
        if !["running", "done", "failed"].contains(&state) {
            return Err(Error::broken(format!("{state} is no state of a step")));
        }
        let mut tx = self.own(task).await?;
        sqlx::query!(
            "update release_steps set state = $4, detail = $5, \
             started_at = case when $4 = 'running' then now() else coalesce(started_at, now()) end, \
             ended_at = case when $4 = 'running' then null else coalesce(ended_at, now()) end \
             where deployment_id = $1 and number = $2 and step = $3",
            task.deployment_id,
            task.number,
            step.as_str(),
            state,
            clean_sentence(detail),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends the release (live, failed or superseded) and sets the deployment's state with it, in one transaction, on record.
    /// Errors: `Conflict` when the release is no longer this server's; ending as superseded what is superseded is no error.
    pub async fn release_end(
        &self,
        task: &ReleaseTask,
        state: ReleaseState,
        reason: Option<&str>,
    ) -> Result<()> {
        let (deployment_state, recorded) = match state {
            ReleaseState::Live => (Some(DeploymentState::Running), "live"),
            ReleaseState::Failed => (Some(DeploymentState::Failed), "failed"),
            ReleaseState::Superseded => (None, "superseded"),
            ReleaseState::Queued | ReleaseState::Running => {
                return Err(Error::broken("a release ends live, failed or superseded"));
            }
        };
        let mut tx = match self.own(task).await {
            Err(Error::Refused(_)) if state == ReleaseState::Superseded => return Ok(()),
            other => other?,
        };
        let reason = reason.map(clean_sentence);
        sqlx::query!(
            "update releases set state = $3, reason = $4, ended_at = now() where deployment_id = $1 and number = $2",
            task.deployment_id,
            task.number,
            state.as_str(),
            reason,
        )
        .execute(&mut *tx)
        .await?;
        // What was under way when the release ended did not come to its end.
        sqlx::query!(
            "update release_steps set state = 'failed', ended_at = now() \
             where deployment_id = $1 and number = $2 and state = 'running'",
            task.deployment_id,
            task.number,
        )
        .execute(&mut *tx)
        .await?;
        metrics::counter!("sealport_releases_total", "outcome" => recorded).increment(1);
        if let Some(deployment_state) = deployment_state {
            sqlx::query!(
                "update deployments set state = $2, reason = $3, state_since = now() where id = $1",
                task.deployment_id,
                deployment_state.as_str(),
                reason,
            )
            .execute(&mut *tx)
            .await?;
        }
        let entry = Entry {
            owner_id: Some(task.owner_id),
            deployment: Some(&task.name),
            release: Some(task.number),
            reason: Some(recorded),
            ..Entry::of(Action::ReleaseEnd)
        };
        audit::record(&mut tx, &Caller::job(Job::Supervisor), entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction in which the deployment is locked and the release is this server's and under way.
    async fn own(&self, task: &ReleaseTask) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        // The deployment first, as everyone locks it first: the release's row is then ours as well.
        let held = sqlx::query!(
            "select fence from deployments where id = $1 and fence = $2 for update",
            task.deployment_id,
            task.fence,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let running = sqlx::query!(
            "select number from releases where deployment_id = $1 and number = $2 and fence = $3 and state = 'running'",
            task.deployment_id,
            task.number,
            task.fence,
        )
        .fetch_optional(&mut *tx)
        .await?;
        match (held, running) {
            (Some(_), Some(_)) => Ok(tx),
            _ => {
                // Awaited, not left to the drop: a lock that lingers would hide the row from a claim.
                tx.rollback().await?;
                Err(held_elsewhere())
            }
        }
    }
}

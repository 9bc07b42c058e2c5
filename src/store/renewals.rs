//! Where a secret runs, and renewing it there: each deployment that runs an older value is redeployed, with the caller's rights to it.

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::deployments::person;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::deployments::{DeploymentState, ReleaseState, StepName};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::model::plans::Begun;
use crate::model::renewals::{Renewal, Renewed, SecretRun, Skipped};
use crate::model::targets::Target;

/// Where one secret runs, on its page; no more are redeployed by one request.
const RUNS_SHOWN: i64 = 100;

impl Db {
    /// Where the secret runs, as far as the caller may read about it; at most 100. Errors: `NotFound`.
    pub async fn secret_runs(&self, caller: &Caller, secret_id: Uuid) -> Result<Vec<SecretRun>> {
        let mut tx = self.begin_as(caller).await?;
        let seen = sqlx::query_scalar!("select id from secrets where id = $1", secret_id);
        if seen.fetch_optional(&mut *tx).await?.is_none() {
            return Err(Refusal::not_found("secret").into());
        }
        runs_of(&mut tx, secret_id).await
    }

    /// Queues a release of each deployment within sight that runs an older value than the newest, at most 100, unless one is under way.
    /// Each is asked for as [`Db::deployment_redeploy`] asks; what is refused is named, and on record.
    /// Errors: `NotFound`; `Conflict` while nobody can use the secret: every release would fail.
    pub async fn redeploy_using(&self, caller: &Caller, secret_id: Uuid) -> Result<Renewed> {
        person(caller)?;
        let secret = self.secrets_of(caller, &[secret_id]).await?.pop();
        let Some(secret) = secret else {
            let entry = Entry::of(Action::DeploymentRedeploy);
            let refusal = Refusal::not_found("secret");
            return self
                .refuse_on_record(caller, entry, "no such secret", refusal)
                .await;
        };
        if let Some(why) = secret.unusable(OffsetDateTime::now_utc()) {
            let says = format!(
                "It is {why}: a release would not be given its value. Nothing was redeployed."
            );
            return Err(Refusal::new(RefusalKind::Conflict, says).into());
        }
        let runs = self.secret_runs(caller, secret_id).await?;
        let mut renewed = Renewed {
            more: runs.len() >= usize::try_from(RUNS_SHOWN).unwrap_or(usize::MAX),
            ..Renewed::default()
        };
        let mut skipped_for_level = false;
        for run in runs.into_iter().filter(SecretRun::is_older) {
            let name = run.deployment;
            // Asked one by one, each refusal would be a row of the record.
            if run.level < Level::Write {
                skipped_for_level = true;
                renewed.skipped.push(Skipped {
                    deployment: name,
                    why: "It takes write on it.".into(),
                });
                continue;
            }
            let reason = Some("it ran an older value of a secret");
            match self.redeploy_because(caller, &name, reason).await {
                Ok(release) => renewed.begun.push(Begun { name, release }),
                Err(Error::Refused(refusal)) => renewed.skipped.push(Skipped {
                    deployment: name,
                    why: refusal.detail,
                }),
                Err(broken) => return Err(broken),
            }
        }
        if skipped_for_level {
            let entry = Entry {
                secret: Some((secret_id, &secret.path)),
                reason: Some("level too low on a deployment"),
                ..Entry::of(Action::DeploymentRedeploy)
            };
            self.record_refusal(caller, entry).await?;
        }
        Ok(renewed)
    }

    /// How many deployments run the secret that the caller may not read about. Only for its admins, as whose these are is not said.
    pub(super) async fn runs_hidden(&self, caller: &Caller, secret_id: Uuid) -> Result<i64> {
        let mut tx = self.begin_as(caller).await?;
        let seen = count_runs(&mut tx, secret_id).await?;
        tx.rollback().await?;
        // Bindings of others are not the caller's to see.
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let all = count_runs(&mut tx, secret_id).await?;
        tx.rollback().await?;
        Ok((all - seen).max(0))
    }
}

async fn count_runs(tx: &mut Transaction<'_, Postgres>, secret_id: Uuid) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(distinct d.id) as "count!"
           from bindings b join deployments d on d.id = b.deployment_id
           where b.secret_id = $1 and d.wanted and d.state in ('running', 'restarting', 'deploying')"#,
        secret_id,
    );
    Ok(count.fetch_one(&mut **tx).await?)
}

/// The deployments within sight that run a secret, and whether with its newest value; and those that were asked to since it is there.
pub(super) async fn runs_of(
    tx: &mut Transaction<'_, Postgres>,
    secret_id: Uuid,
) -> Result<Vec<SecretRun>> {
    let rows = sqlx::query!(
        r#"select d.name, d.target, d.state, reach(d.owner_id, 'deployment', d.id, null) as "level!",
                  r.number as release, r.state as release_state, r.reason, r.created_at >= newest.created_at as "is_since!",
                  (select st.step from release_steps st
                   where st.deployment_id = d.id and st.number = r.number and st.state = 'running' order by st.step limit 1) as step,
                  ran.version, coalesce(ran.is_current, false) as "is_current!"
           from (select distinct deployment_id from bindings where secret_id = $1) bound
           join deployments d on d.id = bound.deployment_id and d.wanted
           join secrets s on s.id = $1
           join secret_versions newest on newest.secret_id = s.id and newest.version = s.version
           join releases r on r.deployment_id = d.id and r.number = d.release
           left join lateral (
               select min(rb.version) as version, bool_and(v.value_id is not distinct from newest.value_id) as is_current
               from bindings b
               join release_bindings rb on rb.deployment_id = b.deployment_id and rb.env = b.env and rb.secret_id = b.secret_id
               left join secret_versions v on v.secret_id = rb.secret_id and v.version = rb.version
               where b.deployment_id = d.id and b.secret_id = $1
                 and rb.number = (select max(l.number) from releases l where l.deployment_id = d.id and l.state = 'live')
           ) ran on d.state in ('running', 'restarting', 'deploying')
           where ran.version is not null or r.created_at >= newest.created_at
           -- What wants renewing first, and of that what the caller may: so what one request leaves comes first in the next.
           order by ran.version is not null and not ran.is_current and r.state not in ('queued', 'running') desc,
                    reach(d.owner_id, 'deployment', d.id, null) >= 3 desc, d.name collate "C"
           limit $2"#,
        secret_id,
        RUNS_SHOWN,
    )
    .fetch_all(&mut **tx)
    .await?;
    let unreadable = || Error::broken("a deployment's row does not read");
    rows.into_iter()
        .map(|row| {
            let renewal = Renewal {
                release: row.release,
                state: ReleaseState::from_name(&row.release_state).ok_or_else(unreadable)?,
                step: row.step.as_deref().and_then(StepName::from_name),
                reason: row.reason,
            };
            Ok(SecretRun {
                deployment: DeploymentName::parse(&row.name)?,
                target: Target::from_name(&row.target).ok_or_else(unreadable)?,
                state: DeploymentState::from_name(&row.state).ok_or_else(unreadable)?,
                level: Level::from_number(row.level).ok_or_else(unreadable)?,
                version: row.version,
                is_current: row.is_current,
                renewal: Some(renewal).filter(|_| row.is_since),
            })
        })
        .collect()
}

//! Which server looks after which deployment: a hold that lapses unless it is renewed, and a fence that rises when
//! another server takes it, so that a late server's writes are refused.

use serde_json::Value;
use uuid::Uuid;

use super::deployments::Held;
use super::logs::clean_sentence;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::deployments::DeploymentState;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::DeploymentName;
use crate::model::sources::Source;
use crate::model::targets::Target;

impl Db {
    /// Takes or keeps the hold on deployments for `holder`, for `hold_secs`; all that it holds now: those that are
    /// wanted, and those that are not but are not stopped yet. A hold that another server let lapse is taken with a
    /// higher fence. A destroyed deployment is not among them: what still runs without being here is to be stopped.
    /// `holder` is new with each start of a server; the fence then tells what an earlier process left.
    pub async fn deployments_hold(&self, holder: Uuid, hold_secs: i32) -> Result<Vec<Held>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        // Locked in one order by every server, and waited for: a row that is missing here reads as one to stop.
        let rows = sqlx::query_as!(
            HeldRow,
            r#"with mine as (
                 select id from deployments
                 where (wanted or destroying or state <> 'stopped')
                   and (holder is null or holder = $1 or held_until < now())
                 order by id for update
               )
               update deployments d
               set fence = d.fence + case when d.holder is not distinct from $1 then 0 else 1 end,
                 holder = $1, held_until = now() + make_interval(secs => $2)
               from mine where d.id = mine.id
               returning d.id, d.ordinal, d.name, d.owner_id, d.wanted, d.state, d.release, d.fence, d.source, d.start,
                 d.target, d.placed, d.destroying, d.per_user, d.terms, d.options,
                 (select max(r.number) from releases r where r.deployment_id = d.id and r.state = 'live') as live_release"#,
            holder,
            f64::from(hold_secs),
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut held: Vec<Held> = rows.into_iter().filter_map(HeldRow::into_held).collect();
        held.sort_by_key(|held| held.ordinal);
        Ok(held)
    }

    /// A deployment as it is now, if `holder` holds it.
    pub async fn deployment_held(&self, holder: Uuid, id: Uuid) -> Result<Option<Held>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let row = sqlx::query_as!(
            HeldRow,
            r#"select d.id, d.ordinal, d.name, d.owner_id, d.wanted, d.state, d.release, d.fence, d.source, d.start,
                 d.target, d.placed, d.destroying, d.per_user, d.terms, d.options,
                 (select max(r.number) from releases r where r.deployment_id = d.id and r.state = 'live') as live_release
               from deployments d where d.id = $2 and d.holder = $1 and d.held_until > now()"#,
            holder,
            id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(row.and_then(HeldRow::into_held))
    }

    /// The state of a deployment, whoever holds it.
    pub async fn deployment_standing(&self, id: Uuid) -> Result<Option<DeploymentState>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let state = sqlx::query_scalar!("select state from deployments where id = $1", id)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(state.and_then(|state| DeploymentState::from_name(&state)))
    }

    /// Which of these deployments were destroyed, so that their files can go. That one is not in this database is no reason:
    /// it may be another database, or an older copy.
    pub async fn deployments_destroyed(&self, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let gone = sqlx::query_scalar!(
            "select id from destroyed_deployments where id = any($1)",
            ids
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// Gives up all holds of `holder`, at a normal stop.
    pub async fn deployments_release_holds(&self, holder: Uuid) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update deployments set holder = null, held_until = null where holder = $1",
            holder,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Gives up every hold, whoever had it. Only for a server that knows itself to be alone (it owns the data directory
    /// of an embedded database): after a crash it then need not wait until its former holds lapse.
    pub async fn deployments_release_all_holds(&self) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update deployments set holder = null, held_until = null where holder is not null"
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sets where a deployment stands, if `fence` still holds and `release`, of which it is said, is wanted and the live one.
    /// While a release is open it stays `deploying`: the release's end says how it went. Errors: `Conflict` when another
    /// server took it, a newer release went live, it is to stop, or it is gone.
    pub async fn deployment_state(
        &self,
        id: Uuid,
        fence: i64,
        release: Option<i32>,
        state: DeploymentState,
        reason: Option<&str>,
    ) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let locked = sqlx::query!(
            "select wanted from deployments where id = $1 and fence = $2 for update",
            id,
            fence,
        )
        .fetch_optional(&mut *tx)
        .await?;
        // After the lock, which every end of a release takes as well.
        let live = sqlx::query_scalar!(
            "select max(number) from releases where deployment_id = $1 and state = 'live'",
            id,
        )
        .fetch_one(&mut *tx)
        .await?;
        let holds = locked.is_some_and(|row| match release {
            Some(release) => row.wanted && live == Some(release),
            // Of what is to stop.
            None => !row.wanted,
        });
        if !holds {
            tx.rollback().await?;
            return Err(held_elsewhere());
        }
        sqlx::query!(
            "update deployments set \
             state_since = case when state = $2 then state_since else now() end, state = $2, reason = $3, \
             destroy_failed_at = case when destroying and $3::text is not null then now() else destroy_failed_at end \
             where id = $1 and not exists ( \
               select 1 from releases r where r.deployment_id = $1 and r.state in ('queued', 'running'))",
            id,
            state.as_str(),
            reason.map(clean_sentence),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What a late server is told.
pub(super) fn held_elsewhere() -> Error {
    Refusal::new(
        RefusalKind::Conflict,
        "The deployment moved on: another server holds it, a newer release or a stop came first, or it was destroyed.",
    )
    .into()
}

struct HeldRow {
    id: Uuid,
    ordinal: i32,
    name: String,
    owner_id: Uuid,
    wanted: bool,
    state: String,
    release: i32,
    fence: i64,
    source: String,
    start: Value,
    target: String,
    placed: Value,
    destroying: bool,
    per_user: bool,
    terms: i32,
    options: Value,
    live_release: Option<i32>,
}

impl HeldRow {
    /// A row that does not read is left alone, and said: the others go on.
    fn into_held(self) -> Option<Held> {
        let held = (|| {
            Some(Held {
                id: self.id,
                ordinal: self.ordinal,
                name: DeploymentName::parse(&self.name).ok()?,
                owner_id: self.owner_id,
                wanted: self.wanted,
                state: DeploymentState::from_name(&self.state)?,
                release: self.release,
                live_release: self.live_release,
                fence: self.fence,
                source: Source::parse(&self.source).ok()?,
                start: serde_json::from_value(self.start).ok()?,
                target: Target::from_name(&self.target)?,
                placed: serde_json::from_value(self.placed).ok()?,
                destroying: self.destroying,
                per_user: self.per_user,
                terms: self.terms,
                options: serde_json::from_value(self.options).ok()?,
            })
        })();
        if held.is_none() {
            tracing::error!(deployment = %self.id, "a deployment's row does not read and is not run");
        }
        held
    }
}

//! What was restored acts by nobody's leave but its people's: it may be a copy of a store that still runs, or one that
//! somebody got hold of.

use sqlx::{Postgres, Transaction};

use super::super::audit::{self, Entry};
use super::super::{Error, Result};
use super::restore::failed;
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;

/// Why deployments stand still after a restore.
const REASON: &str = "restored from a backup";

/// Nothing of the restored store acts by itself: tokens are revoked, deployments stopped, releases under way ended.
/// Returns the number of both.
pub(super) async fn still(tx: &mut Transaction<'_, Postgres>) -> Result<(u64, u64)> {
    act_as(tx, Job::Operator).await?;
    let tokens = sqlx::query!("update tokens set revoked_at = now() where revoked_at is null")
        .execute(&mut **tx)
        .await
        .map_err(failed)?
        .rows_affected();
    let operator = Caller::job(Job::Operator);
    let entry = Entry {
        reason: Some("tokens were revoked, and deployments stopped"),
        ..Entry::of(Action::StoreRestore)
    };
    audit::record(tx, &operator, entry).await?;

    act_as(tx, Job::Supervisor).await?;
    sqlx::query!(
        "update release_steps set state = 'failed', ended_at = now() where state = 'running'"
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "update releases set state = 'failed', reason = $1, ended_at = now() where state in ('queued', 'running')",
        REASON
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?;
    sqlx::query!("update deployments set holder = null, held_until = null, fence = fence + 1")
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    let deployments = sqlx::query!(
        "update deployments set wanted = false, state = 'stopped', state_since = now(), reason = $1
         where wanted or state <> 'stopped'",
        REASON
    )
    .execute(&mut **tx)
    .await
    .map_err(failed)?
    .rows_affected();

    // Asked of those who see every row: a policy that kept one from the changes above must not leave it as it was.
    act_as(tx, Job::Backup).await?;
    let left = sqlx::query_scalar!(
        r#"select (select count(*) from tokens where revoked_at is null)
                + (select count(*) from deployments where wanted or holder is not null or state <> 'stopped')
                + (select count(*) from releases where state in ('queued', 'running')) as "left!""#
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed)?;
    if left > 0 {
        return Err(Error::broken(
            "not every token was revoked and every deployment stopped",
        ));
    }
    Ok((tokens, deployments))
}

async fn act_as(tx: &mut Transaction<'_, Postgres>, job: Job) -> Result<()> {
    sqlx::query!("select set_config('sealport.job', $1, true)", job.as_str())
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(())
}

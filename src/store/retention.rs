//! What is past its age goes: drafts, imports that wait, sessions, links, attempts, known addresses, log lines, old releases, old
//! versions.

use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::deployments::{LOG_LINES_KEPT, LOG_MAX_AGE_DAYS};
use crate::model::drafts::DRAFT_MAX_AGE_DAYS;

/// Releases of one deployment that are kept, besides the newest that went live.
const RELEASES_KEPT: i32 = 50;

impl Db {
    /// One round of removing; the number of rows that went.
    pub async fn retention_step(&self) -> Result<u64> {
        let caller = Caller::job(Job::Retention);
        let mut gone = 0;
        // Each noun in a transaction of its own: a large one holds up no other.
        let mut tx = self.begin_as(&caller).await?;
        gone += sqlx::query!(
            "delete from drafts where changed_at < now() - make_interval(days => $1)",
            DRAFT_MAX_AGE_DAYS as i32,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        gone += sqlx::query!("delete from pending_imports where expires_at < now()")
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;

        let mut tx = self.begin_as(&caller).await?;
        gone += sqlx::query!("delete from sessions where expires_at < now()")
            .execute(&mut *tx)
            .await?
            .rows_affected();
        gone += sqlx::query!("delete from one_time_links where expires_at < now()")
            .execute(&mut *tx)
            .await?
            .rows_affected();
        gone += sqlx::query!("delete from attempts where window_start < now() - interval '1 day'")
            .execute(&mut *tx)
            .await?
            .rows_affected();
        gone +=
            sqlx::query!("delete from known_addresses where last_at < now() - interval '90 days'")
                .execute(&mut *tx)
                .await?
                .rows_affected();
        tx.commit().await?;

        let mut tx = self.begin_as(&caller).await?;
        gone += sqlx::query!(
            "delete from log_lines where at < now() - make_interval(days => $1)",
            LOG_MAX_AGE_DAYS as i32,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        gone += sqlx::query!(
            "delete from log_lines l using ( \
               select deployment_id, seq, row_number() over (partition by deployment_id, user_id order by seq desc) as place \
               from log_lines) ranked \
             where l.deployment_id = ranked.deployment_id and l.seq = ranked.seq and ranked.place > $1",
            LOG_LINES_KEPT,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        gone += sqlx::query!(
            "delete from calls where at < now() - make_interval(days => $1)",
            LOG_MAX_AGE_DAYS as i32,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;

        let mut tx = self.begin_as(&caller).await?;
        // The newest that went live stays whatever came after it: it may be what runs.
        gone += sqlx::query!(
            "delete from releases r using ( \
               select deployment_id, max(number) as newest, max(number) filter (where state = 'live') as live \
               from releases group by deployment_id) kept \
             where r.deployment_id = kept.deployment_id and r.number <= kept.newest - $1 \
               and r.number is distinct from kept.live and r.state in ('live', 'failed', 'superseded')",
            RELEASES_KEPT,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;

        gone += self.versions_retention().await?;
        Ok(gone)
    }
}

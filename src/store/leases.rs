//! Work that one server does at a time: a lease that lapses unless it is renewed, and a fence that rises when another takes it.

use sqlx::{Postgres, Transaction};

use super::{Db, Result};
use crate::model::actors::{Caller, Job};

impl Db {
    /// Takes or renews the lease of this name for `secs`. The fence, or none while another holds it.
    pub(super) async fn lease_hold(
        &self,
        job: Job,
        name: &'static str,
        secs: i32,
    ) -> Result<Option<i64>> {
        let mut tx = self.begin_as(&Caller::job(job)).await?;
        let fence = self.lease_hold_in(&mut tx, name, secs).await?;
        tx.commit().await?;
        Ok(fence)
    }

    /// The same within the transaction of the work itself. Its row is locked until that ends, so that no other works meanwhile.
    pub(super) async fn lease_hold_in(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        name: &'static str,
        secs: i32,
    ) -> Result<Option<i64>> {
        let fence = sqlx::query_scalar!(
            "insert into leases as l (name, holder, held_until) values ($1, $2, now() + make_interval(secs => $3))
             on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until,
               fence = l.fence + case when l.holder = excluded.holder then 0 else 1 end
             where l.holder = excluded.holder or l.held_until < now()
             returning fence",
            name,
            self.id(),
            f64::from(secs),
        )
        .fetch_optional(&mut **tx)
        .await?;
        Ok(fence)
    }

    /// Gives the lease up, if it is ours: another need not wait until it lapses.
    pub(super) async fn lease_release(&self, job: Job, name: &'static str) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(job)).await?;
        sqlx::query!(
            "delete from leases where name = $1 and holder = $2",
            name,
            self.id()
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

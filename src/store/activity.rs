//! The record as it is shown. What a list begins from are the indexes on whose object it was and who acted, so that it does not read
//! what others have on record; the policy then decides on each row. Ranges of (whose, id) rather than equality: see the indexes.

use std::collections::HashMap;

use sqlx::{Postgres, Transaction};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::{Db, Result};
use crate::model::actors::{Actor, Caller};
use crate::model::audit::{
    ACCESSES_COUNTED_MAX, Action, AuditDay, AuditDays, AuditFilter, AuditRow, ObjectActivity,
};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::DeploymentName;

/// The most rows of one list.
const LIST_MAX: i64 = 500;
/// The rows of a chart that are counted, the newest first.
const COUNTED_MAX: i64 = 50_000;
/// Days of a chart, unless asked otherwise, and at most.
const CHART_DAYS: i64 = 30;
const CHART_DAYS_MAX: i64 = 92;
/// Rows on the page of a secret or a deployment.
const RECENT_SHOWN: i64 = 10;
/// PostgreSQL's code for a statement that took too long.
const QUERY_CANCELED: &str = "57014";
/// By how much the moment in a row's id, of the server's clock, may lie beside the row's own, of the database's.
const CLOCKS_APART: Duration = Duration::days(1);

impl Db {
    /// The newest rows that the caller may see and that match; `before` pages on.
    pub async fn audit_list(
        &self,
        caller: &Caller,
        filter: &AuditFilter,
        before: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<AuditRow>> {
        let (lowest, highest) = ids(filter);
        let mut tx = self.begin_as(caller).await?;
        if let Actor::Token(_) = caller.actor {
            // One that sees little of its maker's long record makes the database read much of it.
            sqlx::query!("select set_config('statement_timeout', '5s', true)")
                .fetch_one(&mut *tx)
                .await?;
        }
        let rows = sqlx::query_as!(
            AuditRow,
            r#"select a.id, a.at, a.actor_kind, a.actor_name, a.action, a.outcome, a.path, a.version, a.deployment, a.release,
                      host(a.address) as address, a.agent, a.grantee, a.level, a.reason,
                      (select handle from owners where owners.id = a.owner_id) as owner,
                      (select handle from owners where owners.id = a.user_id and a.actor_kind = 'token') as maker
               from (
                   select theirs.id from unnest(record_owners()) as o (id)
                   cross join lateral (
                       select a.id from audit a
                       where (a.owner_id, a.id) < (o.id, $1) and (a.owner_id, a.id) >= (o.id, $2)
                         and audit_matches(a, $3, $4, $5, $6, $7, $8, $9)
                       order by a.owner_id desc, a.id desc limit $10
                   ) theirs
                   union
                   (select a.id from audit a
                    where (a.user_id, a.id) < (current_actor(), $1) and (a.user_id, a.id) >= (current_actor(), $2)
                      and audit_matches(a, $3, $4, $5, $6, $7, $8, $9)
                    order by a.user_id desc, a.id desc limit $10)
               ) found
               join audit a on a.id = found.id
               order by a.id desc limit $10"#,
            before.map_or(highest, |before| before.min(highest)),
            lowest,
            filter.path,
            filter.person,
            filter.action,
            filter.deployment,
            filter.secret,
            filter.since,
            filter.until,
            limit.clamp(0, LIST_MAX)
        )
        .fetch_all(&mut *tx)
        .await;
        match rows {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(QUERY_CANCELED) =>
            {
                Err(Refusal::new(
                    RefusalKind::Unavailable,
                    "That is too much of the record to look through at once. Ask for fewer days.",
                )
                .into())
            }
            rows => Ok(rows?),
        }
    }

    /// How many rows of each day match: of the days that are asked for, at most 92, or else of the last 30.
    pub async fn audit_days(&self, caller: &Caller, filter: &AuditFilter) -> Result<AuditDays> {
        let (first, last) = chart_days(filter, OffsetDateTime::now_utc().date());
        let filter = AuditFilter {
            since: Some(first.midnight().assume_utc()),
            until: last.next_day().map(|day| day.midnight().assume_utc()),
            ..filter.clone()
        };
        let (lowest, highest) = ids(&filter);
        let mut tx = self.begin_as(caller).await?;
        let counted = sqlx::query_as!(
            AuditDay,
            r#"select (found.at at time zone 'UTC')::date as "day!",
                      count(*) filter (where found.outcome = 'done') as "done!",
                      count(*) filter (where found.outcome <> 'done') as "refused!"
               from (
                   select theirs.id, theirs.at, theirs.outcome from unnest(record_owners()) as o (id)
                   cross join lateral (
                       select a.id, a.at, a.outcome from audit a
                       where (a.owner_id, a.id) < (o.id, $1) and (a.owner_id, a.id) >= (o.id, $2)
                         and audit_matches(a, $3, $4, $5, $6, $7, $8, $9)
                       order by a.owner_id desc, a.id desc limit $10
                   ) theirs
                   union
                   (select a.id, a.at, a.outcome from audit a
                    where (a.user_id, a.id) < (current_actor(), $1) and (a.user_id, a.id) >= (current_actor(), $2)
                      and audit_matches(a, $3, $4, $5, $6, $7, $8, $9)
                    order by a.user_id desc, a.id desc limit $10)
               ) found
               group by 1 order by 1"#,
            highest,
            lowest,
            filter.path,
            filter.person,
            filter.action,
            filter.deployment,
            filter.secret,
            filter.since,
            filter.until,
            COUNTED_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(AuditDays {
            more: counted
                .iter()
                .map(|day| day.done + day.refused)
                .sum::<i64>()
                >= COUNTED_MAX,
            days: without_gaps(first, last, &counted),
        })
    }

    /// What the caller may see on record about one secret.
    pub async fn audit_of_secret(
        &self,
        caller: &Caller,
        secret_id: Uuid,
    ) -> Result<ObjectActivity> {
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            AuditRow,
            "select id, at, actor_kind, actor_name, action, outcome, path, version, deployment, release,
                    host(address) as address, agent, grantee, level, reason,
                    (select handle from owners where owners.id = owner_id) as owner,
                    (select handle from owners where owners.id = user_id and actor_kind = 'token') as maker
             from audit
             where secret_id is not null and (secret_id, id) >= ($1, $3) and (secret_id, id) <= ($1, $4)
             order by secret_id desc, id desc limit $2",
            secret_id,
            RECENT_SHOWN,
            Uuid::nil(),
            Uuid::max()
        )
        .fetch_all(&mut *tx)
        .await?;
        let used = sqlx::query!(
            r#"select count(*) as "count!", max(at) as last from (
                   select at from audit
                   where secret_id is not null and (secret_id, id) >= ($1, $4) and (secret_id, id) <= ($1, $5)
                     and outcome = 'done' and action = any ($2)
                   order by secret_id desc, id desc limit $3
               ) used"#,
            secret_id,
            &accesses() as &[&str],
            ACCESSES_COUNTED_MAX,
            Uuid::nil(),
            Uuid::max()
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(ObjectActivity {
            rows,
            accesses: used.count,
            last_access: used.last,
        })
    }

    /// What the caller may see on record about one deployment.
    pub async fn audit_of_deployment(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<ObjectActivity> {
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            AuditRow,
            "select id, at, actor_kind, actor_name, action, outcome, path, version, deployment, release,
                    host(address) as address, agent, grantee, level, reason,
                    (select handle from owners where owners.id = owner_id) as owner,
                    (select handle from owners where owners.id = user_id and actor_kind = 'token') as maker
             from audit
             where deployment is not null and (deployment, id) >= ($1, $3) and (deployment, id) <= ($1, $4)
             order by deployment desc, id desc limit $2",
            name.as_str(),
            RECENT_SHOWN,
            Uuid::nil(),
            Uuid::max()
        )
        .fetch_all(&mut *tx)
        .await?;
        // Its own start opens its secrets; that is not a use of the deployment.
        let used = sqlx::query!(
            r#"select count(*) as "count!", max(at) as last from (
                   select at from audit
                   where deployment is not null and (deployment, id) >= ($1, $4) and (deployment, id) <= ($1, $5)
                     and outcome = 'done' and action = any ($2) and secret_id is null
                   order by deployment desc, id desc limit $3
               ) used"#,
            name.as_str(),
            &accesses() as &[&str],
            ACCESSES_COUNTED_MAX,
            Uuid::nil(),
            Uuid::max()
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(ObjectActivity {
            rows,
            accesses: used.count,
            last_access: used.last,
        })
    }

    /// When each of these secrets was last used, by what the caller sees of the record: nothing of those that never were, nor of any
    /// when that is too much to read.
    pub async fn secrets_last_used(
        &self,
        caller: &Caller,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, OffsetDateTime>> {
        let mut tx = self.begin_as(caller).await?;
        // Whoever sees little of a long record makes the database read much of it.
        sqlx::query!("select set_config('statement_timeout', '2s', true)")
            .fetch_one(&mut *tx)
            .await?;
        let found = sqlx::query!(
            r#"select asked.id as "id!", last.at as "at!" from unnest($1::uuid[]) as asked (id)
               cross join lateral (
                   select a.at from audit a
                   where a.secret_id is not null and (a.secret_id, a.id) >= (asked.id, $3) and (a.secret_id, a.id) <= (asked.id, $4)
                     and a.outcome = 'done' and a.action = any ($2)
                   order by a.secret_id desc, a.id desc limit 1
               ) last"#,
            ids,
            &accesses() as &[&str],
            Uuid::nil(),
            Uuid::max()
        )
        .fetch_all(&mut *tx)
        .await;
        match found {
            Ok(rows) => Ok(rows.into_iter().map(|row| (row.id, row.at)).collect()),
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(QUERY_CANCELED) =>
            {
                Ok(HashMap::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts on record that somebody takes a copy of what they see of it.
    pub async fn audit_export_begins(&self, caller: &Caller) -> Result<()> {
        let mut tx: Transaction<'_, Postgres> = self.begin_as(caller).await?;
        let entry = Entry {
            owner_id: caller.user().map(|user| user.id),
            ..Entry::of(Action::AuditExport)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn accesses() -> Vec<&'static str> {
    Action::ACCESSES
        .iter()
        .map(|action| action.as_str())
        .collect()
}

/// Between which ids the rows of these days are, so that an index finds them: ids begin with their moment, in milliseconds.
fn ids(filter: &AuditFilter) -> (Uuid, Uuid) {
    let millis = |at: OffsetDateTime| u128::try_from(at.unix_timestamp_nanos() / 1_000_000).ok();
    let beginning = |at: OffsetDateTime| millis(at).map(|millis| Uuid::from_u128(millis << 80));
    let lowest = filter.since.and_then(|at| at.checked_sub(CLOCKS_APART));
    let highest = filter.until.and_then(|at| at.checked_add(CLOCKS_APART));
    (
        lowest.and_then(beginning).unwrap_or(Uuid::nil()),
        highest.and_then(beginning).unwrap_or(Uuid::max()),
    )
}

/// The first and the last day of a chart.
fn chart_days(filter: &AuditFilter, today: Date) -> (Date, Date) {
    let back = |day: Date, days: i64| day.checked_sub(Duration::days(days)).unwrap_or(day);
    let last = filter
        .until
        .and_then(|until| until.date().previous_day())
        .map_or(today, |last| last.min(today));
    let first = filter
        .since
        .map_or_else(|| back(last, CHART_DAYS - 1), OffsetDateTime::date);
    (first.clamp(back(last, CHART_DAYS_MAX - 1), last), last)
}

fn without_gaps(first: Date, last: Date, counted: &[AuditDay]) -> Vec<AuditDay> {
    let mut days = Vec::new();
    let mut day = Some(first);
    while let Some(this) = day.filter(|day| *day <= last) {
        let found = counted.iter().find(|counted| counted.day == this);
        days.push(found.copied().unwrap_or(AuditDay {
            day: this,
            done: 0,
            refused: 0,
        }));
        day = this.next_day();
    }
    days
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn a_chart_has_every_day_and_not_too_many() {
        let today = date!(2027 - 03 - 31);
        let mut filter = AuditFilter::default();
        assert_eq!(chart_days(&filter, today), (date!(2027 - 03 - 02), today));
        filter.since = Some(datetime!(2020-01-01 0:00 UTC));
        assert_eq!(chart_days(&filter, today), (date!(2026 - 12 - 30), today));
        filter.until = Some(datetime!(2020-01-03 0:00 UTC));
        let two = (date!(2020 - 01 - 01), date!(2020 - 01 - 02));
        assert_eq!(chart_days(&filter, today), two);
        // The wrong way round is one day.
        filter.since = Some(datetime!(2021-01-01 0:00 UTC));
        assert_eq!(chart_days(&filter, today), (two.1, two.1));
        let counted = [AuditDay {
            day: two.1,
            done: 3,
            refused: 1,
        }];
        let days = without_gaps(two.0, two.1, &counted);
        assert_eq!(days.iter().map(|day| day.done).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn ids_of_a_day_lie_between_its_ends() {
        let day = AuditFilter {
            since: Some(datetime!(2027-03-31 0:00 UTC)),
            until: Some(datetime!(2027-04-01 0:00 UTC)),
            ..AuditFilter::default()
        };
        let (lowest, highest) = ids(&day);
        let of = |at: OffsetDateTime| {
            let secs = at.unix_timestamp().unsigned_abs();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, secs, 0))
        };
        for inside in [
            datetime!(2027-03-30 1:00 UTC),
            datetime!(2027-03-31 12:00 UTC),
            datetime!(2027-04-01 23:00 UTC),
        ] {
            assert!(lowest < of(inside) && of(inside) < highest, "{inside}");
        }
        for outside in [
            datetime!(2027-03-29 12:00 UTC),
            datetime!(2027-04-03 0:00 UTC),
        ] {
            let id = of(outside);
            assert!(id < lowest || highest < id, "{outside}");
        }
        assert_eq!(ids(&AuditFilter::default()), (Uuid::nil(), Uuid::max()));
    }
}

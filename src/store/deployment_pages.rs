//! Deployments as they are shown.

use std::collections::BTreeMap;

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::deployments::person;
use super::grants::as_owner;
use super::{Db, Error, Result, damage};
use crate::model::actors::{Caller, Job};
use crate::model::deployments::{
    BindingSummary, DeploymentDetail, DeploymentRow, DeploymentState, DeploymentSummary,
    LastRelease, ReleaseState, ReleaseSummary, Step, StepName,
};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName};
use crate::model::secrets::BoundWithoutUse;
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::{Placed, Target};

/// Rows of one list.
const DEPLOYMENTS_LISTED: i64 = 1_000;
/// Releases on a page.
const RELEASES_SHOWN: i64 = 20;
/// Bindings of one secret that are looked at for its page.
const BOUND_LOOKED_AT: i64 = 200;

impl Db {
    /// What the caller may see, by name; at most 1,000.
    pub async fn deployments_list(&self, caller: &Caller) -> Result<Vec<DeploymentSummary>> {
        self.deployments_page(caller, None, DEPLOYMENTS_LISTED)
            .await
    }

    /// What the caller may see after that name, by name; at most `limit`.
    pub async fn deployments_page(
        &self,
        caller: &Caller,
        after: Option<&DeploymentName>,
        limit: i64,
    ) -> Result<Vec<DeploymentSummary>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            SummaryRow,
            r#"select d.id, d.name, coalesce(o.handle, '') as "owner!", d.source, d.state, d.reason, d.state_since, d.release, d.per_user,
                      reach(d.owner_id, 'deployment', d.id, null) as "level!"
               from deployments d left join owners o on o.id = d.owner_id
               where d.id in (select deployments_in_sight()) and ($2::text is null or d.name collate "C" > $2)
               order by d.name collate "C" limit $1"#,
            limit.clamp(1, DEPLOYMENTS_LISTED),
            after.map(DeploymentName::as_str),
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(rows
            .into_iter()
            .filter_map(SummaryRow::into_summary)
            .collect())
    }

    /// What the caller may see, with what its list tells of each; by target and name, at most 1,000.
    pub async fn deployment_rows(&self, caller: &Caller) -> Result<Vec<DeploymentRow>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            ListRow,
            r#"select d.id, d.name, coalesce(o.handle, '') as "owner!", d.source, d.state, d.reason, d.state_since, d.release,
                      reach(d.owner_id, 'deployment', d.id, null) as "level!", d.target, d.destroying, d.per_user,
                      r.state as "last_state?", r.created_at as "last_at?", r.created_by as "last_by?",
                      (d.wanted and d.state in ('running', 'restarting', 'deploying') and exists (
                         select 1 from release_bindings rb
                         join bindings b on b.deployment_id = rb.deployment_id and b.env = rb.env and b.secret_id = rb.secret_id
                         join secrets s on s.id = rb.secret_id
                         join secret_versions ran on ran.secret_id = s.id and ran.version = rb.version
                         join secret_versions newest on newest.secret_id = s.id and newest.version = s.version
                         where rb.deployment_id = d.id and ran.value_id <> newest.value_id
                           and rb.number = (select max(l.number) from releases l where l.deployment_id = d.id and l.state = 'live')
                      )) as "is_older!"
               from deployments d
               left join owners o on o.id = d.owner_id
               left join releases r on r.deployment_id = d.id and r.number = d.release
               where d.id in (select deployments_in_sight())
               order by d.name collate "C" limit $1"#,
            DEPLOYMENTS_LISTED,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut rows: Vec<DeploymentRow> = rows.into_iter().filter_map(ListRow::into_row).collect();
        rows.sort_by_key(|row| row.target);
        Ok(rows)
    }

    /// Errors: `NotFound`.
    pub async fn deployment_show(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<DeploymentDetail> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query_as!(
            SummaryRow,
            r#"select d.id, d.name, coalesce(o.handle, '') as "owner!", d.source, d.state, d.reason, d.state_since, d.release, d.per_user,
                      reach(d.owner_id, 'deployment', d.id, null) as "level!"
               from deployments d left join owners o on o.id = d.owner_id
               where d.name = $1"#,
            name.as_str(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            tx.rollback().await?;
            self.record_prying(caller, name).await?;
            return Err(Refusal::not_found("deployment").into());
        };
        let id = row.id;
        let found = sqlx::query!(
            "select start, owner_id, follows_changes, target, options, placed, destroying from deployments where id = $1",
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        // Destroyed a moment ago: the end of it at a provider is waited for on its page.
        let Some(found) = found else {
            tx.rollback().await?;
            return Err(Refusal::not_found("deployment").into());
        };
        let mut bindings = bindings(&mut tx, id).await?;
        let releases = releases(&mut tx, id, None).await?;
        tx.commit().await?;
        if bindings.iter().any(BindingSummary::is_secret) {
            let lost = self.lost_bindings(caller, id, found.owner_id).await?;
            for binding in &mut bindings {
                binding.lost = lost.get(binding.env.as_str()).cloned();
            }
        }
        let unreadable = || Error::broken("a deployment's row does not read");
        let mut start: StartPlan = serde_json::from_value(found.start).map_err(|_| unreadable())?;
        if row.level < Level::Read.number() {
            start.command.clear();
            start.wants.clear();
        }
        let is_read = row.level >= Level::Read.number();
        Ok(DeploymentDetail {
            summary: row.into_summary().ok_or_else(unreadable)?,
            start,
            target: Target::from_name(&found.target).ok_or_else(unreadable)?,
            options: match is_read {
                true => serde_json::from_value(found.options).map_err(|_| unreadable())?,
                false => BTreeMap::new(),
            },
            placed: match is_read {
                true => serde_json::from_value(found.placed).map_err(|_| unreadable())?,
                false => Placed::default(),
            },
            destroying: found.destroying,
            bindings,
            follows_changes: found.follows_changes,
            releases,
        })
    }
}

impl Db {
    /// One release, however old. Errors: `NotFound`, also with `use` alone.
    pub async fn release_show(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        number: i32,
    ) -> Result<ReleaseSummary> {
        let (mut tx, id) = self.readable(caller, name, "release").await?;
        let found = releases(&mut tx, id, Some(number)).await?;
        tx.commit().await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| Refusal::not_found("release").into())
    }

    /// A transaction and the deployment that the caller may read about in it. Errors: `NotFound` of `kind`, on record.
    pub(super) async fn readable(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        kind: &str,
    ) -> Result<(Transaction<'static, Postgres>, Uuid)> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let id = sqlx::query_scalar!(
            "select id from deployments where name = $1 and reach(owner_id, 'deployment', id, null) >= 2",
            name.as_str(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(id) = id else {
            tx.rollback().await?;
            self.record_prying(caller, name).await?;
            return Err(Refusal::not_found(kind).into());
        };
        Ok((tx, id))
    }

    /// What the deployment's owner would not be given at a start now, for want of the secret or of `use`: the path as bound, by env name.
    async fn lost_bindings(
        &self,
        caller: &Caller,
        id: Uuid,
        owner_id: Uuid,
    ) -> Result<BTreeMap<String, String>> {
        let mut tx = self.begin_as(&as_owner(caller, owner_id)).await?;
        let rows = sqlx::query!(
            r#"select b.env, b.secret_path as "secret_path!" from bindings b join deployments d on d.id = b.deployment_id
               where b.deployment_id = $1 and b.secret_path is not null and not exists (
                   select 1 from secrets s
                   where s.id = b.secret_id and not s.use_only and usable_in(d.owner_id, s.owner_id, s.id, s.path, d.name)
               )"#,
            id,
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.env, row.secret_path))
            .collect())
    }

    /// Others' deployments that bind a secret without being allowed to any more. Only for its admins: whose deployments these are,
    /// the record of the secret tells them too.
    pub(super) async fn bound_without_use(
        &self,
        caller: &Caller,
        secret_id: Uuid,
    ) -> Result<Vec<BoundWithoutUse>> {
        // Bindings of others are not the caller's to see.
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let bound = sqlx::query!(
            "select d.id, d.name, d.owner_id, d.state, o.handle from bindings b
             join deployments d on d.id = b.deployment_id join owners o on o.id = d.owner_id
             where b.secret_id = $1 order by d.name limit $2",
            secret_id,
            BOUND_LOOKED_AT
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.rollback().await?;
        let mut by_owner = BTreeMap::<Uuid, Vec<_>>::new();
        for row in bound {
            by_owner.entry(row.owner_id).or_default().push(row);
        }
        let mut lost = Vec::new();
        for (owner_id, rows) in by_owner {
            let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
            let mut tx = self.begin_as(&as_owner(caller, owner_id)).await?;
            let usable = sqlx::query_scalar!(
                r#"select name as "name!" from unnest($2::text[]) as name
                   where exists (select 1 from secrets s where s.id = $1 and not s.use_only and usable_in(current_actor(), s.owner_id, s.id, s.path, name))"#,
                secret_id,
                &names
            )
            .fetch_all(&mut *tx)
            .await?;
            lost.extend(
                rows.into_iter()
                    .filter(|row| !usable.contains(&row.name))
                    .map(|row| BoundWithoutUse {
                        runs: ["running", "restarting"].contains(&row.state.as_str()),
                        deployment: row.name,
                        owner: row.handle,
                    }),
            );
        }
        Ok(lost)
    }
}

struct SummaryRow {
    id: Uuid,
    name: String,
    owner: String,
    source: String,
    state: String,
    reason: Option<String>,
    state_since: OffsetDateTime,
    release: i32,
    per_user: bool,
    level: i32,
}

impl SummaryRow {
    /// A row that does not read is left out, and said: the page lives.
    fn into_summary(self) -> Option<DeploymentSummary> {
        let summary = (|| {
            Some(DeploymentSummary {
                id: self.id,
                name: DeploymentName::parse(&self.name).ok()?,
                owner: self.owner,
                source: Source::parse(&self.source).ok()?,
                state: DeploymentState::from_name(&self.state)?,
                // A reason can name bindings and quote the log.
                reason: self.reason.filter(|_| self.level >= Level::Read.number()),
                state_since: self.state_since,
                release: self.release,
                per_user: self.per_user,
                level: Level::from_number(self.level)?,
            })
        })();
        if summary.is_none() {
            tracing::error!(deployment = %self.id, "a deployment's row does not read");
        }
        summary
    }
}

struct ListRow {
    id: Uuid,
    name: String,
    owner: String,
    source: String,
    state: String,
    reason: Option<String>,
    state_since: OffsetDateTime,
    release: i32,
    level: i32,
    target: String,
    destroying: bool,
    per_user: bool,
    last_state: Option<String>,
    last_at: Option<OffsetDateTime>,
    last_by: Option<String>,
    is_older: bool,
}

impl ListRow {
    fn into_row(self) -> Option<DeploymentRow> {
        let number = self.release;
        let last = (self.last_state.zip(self.last_at).zip(self.last_by)).and_then(
            |((state, created_at), created_by)| {
                Some(LastRelease {
                    number,
                    state: ReleaseState::from_name(&state)?,
                    created_at,
                    created_by,
                })
            },
        );
        let summary = SummaryRow {
            id: self.id,
            name: self.name,
            owner: self.owner,
            source: self.source,
            state: self.state,
            reason: self.reason,
            state_since: self.state_since,
            release: self.release,
            per_user: self.per_user,
            level: self.level,
        };
        let target = Target::from_name(&self.target);
        if target.is_none() {
            tracing::error!(deployment = %self.id, "a deployment's target does not read");
        }
        Some(DeploymentRow {
            summary: summary.into_summary()?,
            target: target?,
            destroying: self.destroying,
            is_older: self.is_older,
            last,
        })
    }
}

async fn bindings(tx: &mut Transaction<'_, Postgres>, id: Uuid) -> Result<Vec<BindingSummary>> {
    let rows = sqlx::query!(
        r#"select b.env, b.text, b.per_user, b.secret_id, case when b.secret_id is not null then coalesce(s.path, b.secret_path) end as "path?",
             s.version as "current_version?", rb.version as "running_version?",
             s.active as "active?", coalesce(s.expires_at <= now(), false) as "expired!",
             coalesce(ran.value_id <> newest.value_id, false) as "is_older!"
           from bindings b
           left join secrets s on s.id = b.secret_id
           left join release_bindings rb on rb.deployment_id = b.deployment_id and rb.env = b.env
             and rb.secret_id = b.secret_id
             and rb.number = (select max(r.number) from releases r where r.deployment_id = $1 and r.state = 'live')
           left join secret_versions ran on ran.secret_id = rb.secret_id and ran.version = rb.version
           left join secret_versions newest on newest.secret_id = s.id and newest.version = s.version
           where b.deployment_id = $1 order by b.env"#,
        id,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(BindingSummary {
                env: EnvName::stored(&row.env)?,
                secret: row
                    .secret_id
                    .zip(row.path)
                    .map(|(id, path)| damage::path_of(id, &path)),
                text: row.text,
                per_user: row.per_user,
                lost: None,
                running_version: row.running_version,
                current_version: row.current_version,
                is_older: row.is_older,
                unusable: match (row.expired, row.active) {
                    (true, _) => Some("has expired".to_owned()),
                    (false, Some(false)) => Some("is switched off".to_owned()),
                    _ => None,
                },
            })
        })
        .collect()
}

/// The newest, newest first; or the one of that number.
async fn releases(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    number: Option<i32>,
) -> Result<Vec<ReleaseSummary>> {
    let rows = sqlx::query!(
        "select number, state, reason, created_at, ended_at, created_by, commit, code_of from releases \
         where deployment_id = $1 and ($3::integer is null or number = $3) order by number desc limit $2",
        id,
        RELEASES_SHOWN,
        number,
    )
    .fetch_all(&mut **tx)
    .await?;
    let numbers: Vec<i32> = rows.iter().map(|row| row.number).collect();
    let mut steps = steps(tx, id, &numbers).await?;
    let mut versions = versions(tx, id, &numbers).await?;
    rows.into_iter()
        .map(|row| {
            Ok(ReleaseSummary {
                number: row.number,
                state: ReleaseState::from_name(&row.state)
                    .ok_or_else(|| Error::broken("a release's state does not read"))?,
                reason: row.reason,
                created_at: row.created_at,
                ended_at: row.ended_at,
                created_by: row.created_by,
                commit: row.commit,
                code_of: row.code_of,
                steps: steps.remove(&row.number).unwrap_or_default(),
                versions: versions.remove(&row.number).unwrap_or_default(),
            })
        })
        .collect()
}

/// The steps of these releases, by release, in their order.
async fn steps(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    numbers: &[i32],
) -> Result<BTreeMap<i32, Vec<Step>>> {
    let rows = sqlx::query!(
        "select number, step, state, started_at, ended_at, detail from release_steps \
         where deployment_id = $1 and number = any ($2)",
        id,
        numbers,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut by_release = BTreeMap::<i32, Vec<Step>>::new();
    for row in rows {
        let name = StepName::from_name(&row.step)
            .ok_or_else(|| Error::broken("a step's name does not read"))?;
        by_release.entry(row.number).or_default().push(Step {
            name,
            state: row.state,
            started_at: row.started_at,
            ended_at: row.ended_at,
            detail: row.detail,
        });
    }
    for steps in by_release.values_mut() {
        steps.sort_by_key(|step| step.name);
    }
    Ok(by_release)
}

/// The secret versions of these releases, by release.
async fn versions(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    numbers: &[i32],
) -> Result<BTreeMap<i32, Vec<(EnvName, i32)>>> {
    let rows = sqlx::query!(
        "select number, env, version from release_bindings \
         where deployment_id = $1 and number = any ($2) order by env",
        id,
        numbers,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut by_release = BTreeMap::<i32, Vec<(EnvName, i32)>>::new();
    for row in rows {
        by_release
            .entry(row.number)
            .or_default()
            .push((EnvName::stored(&row.env)?, row.version));
    }
    Ok(by_release)
}

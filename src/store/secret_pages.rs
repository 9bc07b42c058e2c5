//! Secrets as lists and pages show them: metadata alone. No statement here reads a sealed value.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Db, Result, audit, damage, drift};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::paths::SecretPath;
use crate::model::secrets::{Kind, SecretDetail, SecretSort, SecretSummary, VersionSummary};

/// The most rows of one list.
const LIST_MAX: i64 = 2_000;
/// Versions on a secret's page.
const VERSIONS_SHOWN: i64 = 50;

struct Row {
    id: Uuid,
    owner: String,
    path: String,
    kind: String,
    description: String,
    version: i32,
    changed_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    active: bool,
    used_by: Vec<String>,
    fetched_by: Vec<String>,
    maskable: bool,
}

impl Row {
    /// A path that breaks the grammar shows as damaged, where it stands.
    fn shown(self) -> SecretSummary {
        SecretSummary {
            id: self.id,
            owner: self.owner,
            path: damage::path_of(self.id, &self.path),
            kind: Kind::from_name(&self.kind).unwrap_or_default(),
            description: self.description,
            version: self.version,
            changed_at: self.changed_at,
            expires_at: self.expires_at,
            active: self.active,
            used_by: self.used_by,
            fetched_by: self.fetched_by,
            maskable: self.maskable,
        }
    }
}

impl Db {
    /// What the caller may see whose path or description contains `search`, in the given order; at most `limit`.
    pub async fn secrets_list(
        &self,
        caller: &Caller,
        search: &str,
        sort: SecretSort,
        limit: i64,
    ) -> Result<Vec<SecretSummary>> {
        let sort = match sort {
            SecretSort::Path => "path",
            SecretSort::Changed => "changed",
            SecretSort::Kind => "kind",
        };
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            Row,
            r#"select s.id, o.handle as owner, s.path, s.kind, s.description, s.version, s.changed_at, s.expires_at, s.active,
                      coalesce(used.by, '{}') as "used_by!: Vec<String>",
                      array(select d.name from deployments d where d.fetch_key = s.id order by d.name) as "fetched_by!: Vec<String>",
                      coalesce(v.maskable, true) as "maskable!"
               from secrets s
               join owners o on o.id = s.owner_id
               left join secret_versions v on v.secret_id = s.id and v.version = s.version
               left join (
                   select b.secret_id, array_agg(distinct d.name order by d.name) as by
                   from bindings b join deployments d on d.id = b.deployment_id
                   where b.secret_id is not null group by b.secret_id
               ) used on used.secret_id = s.id
               where $1 = '' or strpos(lower(s.path), lower($1)) > 0 or strpos(lower(s.description), lower($1)) > 0
               order by case when $2 = 'changed' then s.changed_at end desc, case when $2 = 'kind' then s.kind end,
                        lower(s.path), o.handle
               limit $3"#,
            audit::search_words(search),
            sort,
            limit.clamp(0, LIST_MAX)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows.into_iter().map(Row::shown).collect())
    }

    /// A secret's page by path, the caller's own. Errors: `NotFound`.
    pub async fn secret_show(&self, caller: &Caller, path: &SecretPath) -> Result<SecretDetail> {
        let mut tx = self.begin_as(caller).await?;
        let summary = sqlx::query_as!(
            Row,
            r#"select s.id, o.handle as owner, s.path, s.kind, s.description, s.version, s.changed_at, s.expires_at, s.active,
                      array(select distinct d.name from bindings b join deployments d on d.id = b.deployment_id
                            where b.secret_id = s.id order by d.name) as "used_by!: Vec<String>",
                      array(select d.name from deployments d where d.fetch_key = s.id order by d.name) as "fetched_by!: Vec<String>",
                      coalesce(v.maskable, true) as "maskable!"
               from secrets s join owners o on o.id = s.owner_id
               left join secret_versions v on v.secret_id = s.id and v.version = s.version
               where s.owner_id = current_actor() and (s.path = $1 or s.id = $2)
               order by s.path = $1 desc limit 1"#,
            path.as_str(),
            path.stands_for()
        )
        .fetch_optional(&mut *tx)
        .await?
        .map(Row::shown)
        .ok_or_else(|| Refusal::not_found("secret"))?;
        let versions = sqlx::query_as!(
            VersionSummary,
            "select version, created_at, created_by, generated from secret_versions
             where secret_id = $1 order by version desc limit $2",
            summary.id,
            VERSIONS_SHOWN
        )
        .fetch_all(&mut *tx)
        .await?;
        let runs = drift::runs_of(&mut tx, summary.id).await?;
        Ok(SecretDetail {
            summary,
            versions,
            runs,
        })
    }
}

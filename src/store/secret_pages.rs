//! Secrets as lists and pages show them: metadata alone. No statement here reads a sealed value. Lists begin with what is in
//! sight, so that they read nothing of what others have.

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Db, Result, audit, damage, due, renewals, secret_versions};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{Folder, Handle, KeyPath, SecretPath, Tag};
use crate::model::secrets::{
    Kind, Scope, SecretDetail, SecretFilter, SecretSort, SecretSummary, VersionSummary,
};

/// The most rows of one list.
const LIST_MAX: i64 = 2_000;

struct Row {
    id: Uuid,
    owner: String,
    path: String,
    kind: String,
    description: String,
    tags: Vec<String>,
    version: i32,
    changed_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    active: bool,
    used_by: Vec<String>,
    fetched_by: Vec<String>,
    maskable: bool,
    use_only: bool,
    level: i32,
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
            tags: self
                .tags
                .iter()
                .filter_map(|tag| Tag::parse(tag).ok())
                .collect(),
            version: self.version,
            changed_at: self.changed_at,
            expires_at: self.expires_at,
            active: self.active,
            used_by: self.used_by,
            fetched_by: self.fetched_by,
            maskable: self.maskable,
            use_only: self.use_only,
            // What one does not reach is not seen.
            level: Level::from_number(self.level).unwrap_or(Level::Use),
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
        let filter = SecretFilter {
            text: search.to_owned(),
            ..SecretFilter::default()
        };
        self.secrets_find(caller, &filter, sort, limit).await
    }

    /// What the caller may see and the filter lets through, in the given order; at most `limit`.
    pub async fn secrets_find(
        &self,
        caller: &Caller,
        filter: &SecretFilter,
        sort: SecretSort,
        limit: i64,
    ) -> Result<Vec<SecretSummary>> {
        let sort = match sort {
            SecretSort::Path => "path",
            SecretSort::Changed => "changed",
            SecretSort::Kind => "kind",
        };
        let mut tx = self.begin_as(caller).await?;
        let ids = sqlx::query_scalar!(
            r#"select s.id
               from secrets_in_sight() as sight (id) join secrets s on s.id = sight.id join owners o on o.id = s.owner_id
               where ($1 = '' or strpos(lower(s.path), lower($1)) > 0 or strpos(lower(s.description), lower($1)) > 0)
                 and ($4::text is null or o.handle = $4)
                 and ($5::text is null or starts_with(s.path, $5 || '/'))
                 and ($6::text is null or case $6 when 'bare' then strpos(s.path, '/') = 0 else starts_with(s.path, $6 || '/') end)
                 and ($7::text is null or s.kind = $7)
                 and ($8::text is null or $8 = any (s.tags))
               order by case when $2 = 'changed' then s.changed_at end desc, case when $2 = 'kind' then s.kind end,
                        lower(s.path), o.handle
               limit $3"#,
            audit::search_words(&filter.text),
            sort,
            limit.clamp(0, LIST_MAX),
            filter.owner.as_ref().map(Handle::as_str),
            filter.under.as_ref().map(Folder::as_str),
            filter.scope.map(Scope::as_str),
            filter.kind.map(Kind::as_str),
            filter.tag.as_ref().map(Tag::as_str)
        )
        .fetch_all(&mut *tx)
        .await?;
        of_ids(&mut tx, &ids).await
    }

    /// A page of what the caller may see and the filter lets through, by path and owner; `after` is where the page before it ended.
    pub async fn secrets_page(
        &self,
        caller: &Caller,
        filter: &SecretFilter,
        after: Option<&(Handle, SecretPath)>,
        limit: i64,
    ) -> Result<Vec<SecretSummary>> {
        let mut tx = self.begin_as(caller).await?;
        let ids = sqlx::query_scalar!(
            // Of each owner no more than the page, by the index on their paths: what one has is not read whole. One more, for the
            // page before may have ended at the same path of another owner's.
            r#"select c.id as "id!" from (
                   select s.id, s.path_key, o.handle
                   from unnest(owners_in_sight()) as w (id), lateral (
                       select s.id, s.path_key from secrets s
                       where s.owner_id = w.id
                         and ($1 = '' or strpos(lower(s.path), lower($1)) > 0 or strpos(lower(s.description), lower($1)) > 0)
                         and ($3::text is null or starts_with(s.path, $3 || '/'))
                         and ($4::text is null or s.kind = $4)
                         and ($5::text is null or $5 = any (s.tags))
                         and s.path_key >= case when $6::text is null then '' else lower($6 collate "C") end
                       order by s.path_key limit $8::bigint + 1
                   ) s, owners o
                   where o.id = w.id and ($2::text is null or o.handle = $2)
                     and ($6::text is null or (s.path_key, o.handle collate "C") > (lower($6 collate "C"), $7 collate "C"))
                   union
                   select s.id, s.path_key, o.handle
                   from secrets_granted() as g (id) join secrets s on s.id = g.id join owners o on o.id = s.owner_id
                   where ($1 = '' or strpos(lower(s.path), lower($1)) > 0 or strpos(lower(s.description), lower($1)) > 0)
                     and ($2::text is null or o.handle = $2)
                     and ($3::text is null or starts_with(s.path, $3 || '/'))
                     and ($4::text is null or s.kind = $4)
                     and ($5::text is null or $5 = any (s.tags))
                     and ($6::text is null or (s.path_key, o.handle collate "C") > (lower($6 collate "C"), $7 collate "C"))
               ) c
               order by c.path_key, c.handle collate "C"
               limit $8::bigint"#,
            audit::search_words(&filter.text),
            filter.owner.as_ref().map(Handle::as_str),
            filter.under.as_ref().map(Folder::as_str),
            filter.kind.map(Kind::as_str),
            filter.tag.as_ref().map(Tag::as_str),
            after.map(|(_, path)| path.as_str()),
            after.map(|(owner, _)| owner.as_str()),
            limit.clamp(0, LIST_MAX),
        )
        .fetch_all(&mut *tx)
        .await?;
        of_ids(&mut tx, &ids).await
    }

    /// What stands of these ids, in their order.
    pub async fn secrets_of(&self, caller: &Caller, ids: &[Uuid]) -> Result<Vec<SecretSummary>> {
        let mut tx = self.begin_as(caller).await?;
        of_ids(&mut tx, ids).await
    }

    /// The versions of a secret, the newest first. Errors: `NotFound`.
    pub async fn secret_history(
        &self,
        caller: &Caller,
        key: &KeyPath,
    ) -> Result<Vec<VersionSummary>> {
        let found = self.secret_at(caller, key).await?;
        let mut tx = self.begin_as(caller).await?;
        secret_versions::history(&mut tx, found.id).await
    }

    /// A secret's page by its owner's handle and its path. Errors: `NotFound`.
    pub async fn secret_show(
        &self,
        caller: &Caller,
        owner: &Handle,
        path: &SecretPath,
    ) -> Result<SecretDetail> {
        let mut tx = self.begin_as(caller).await?;
        let summary = sqlx::query_as!(
            Row,
            r#"select s.id, o.handle as owner, s.path, s.kind, s.description, s.tags, s.version, s.changed_at, s.expires_at, s.active,
                      array(select distinct d.name from bindings b join deployments d on d.id = b.deployment_id
                            where b.secret_id = s.id order by d.name) as "used_by!: Vec<String>",
                      array(select d.name from deployments d where d.fetch_key = s.id order by d.name) as "fetched_by!: Vec<String>",
                      coalesce(v.maskable, true) as "maskable!", s.use_only, reach(s.owner_id, 'secret', s.id, s.path) as "level!"
               from secrets s join owners o on o.id = s.owner_id
               left join secret_versions v on v.secret_id = s.id and v.version = s.version
               where o.handle = $1 and (s.path collate "C" = $2 or s.id = $3)
               order by s.path collate "C" = $2 desc limit 1"#,
            owner.as_str(),
            path.as_str(),
            path.stands_for()
        )
        .fetch_optional(&mut *tx)
        .await?
        .map(Row::shown)
        .ok_or_else(|| Refusal::not_found("secret"))?;
        let versions = secret_versions::history(&mut tx, summary.id).await?;
        let rotation = due::rotation(&mut tx, summary.id).await?;
        let runs = renewals::runs_of(&mut tx, summary.id).await?;
        tx.rollback().await?;
        let (lost_by, runs_hidden) = if summary.level == Level::Admin {
            let lost_by = self.bound_without_use(caller, summary.id).await?;
            (lost_by, self.runs_hidden(caller, summary.id).await?)
        } else {
            (Vec::new(), 0)
        };
        Ok(SecretDetail {
            summary,
            versions,
            runs,
            runs_hidden,
            rotation,
            lost_by,
        })
    }
}

/// The rows of these secrets, in this order; what is not in sight is left out.
pub(super) async fn of_ids(
    tx: &mut Transaction<'_, Postgres>,
    ids: &[Uuid],
) -> Result<Vec<SecretSummary>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select s.id, o.handle as owner, s.path, s.kind, s.description, s.tags, s.version, s.changed_at, s.expires_at, s.active,
                  used.by as "used_by!: Vec<String>", fetched.by as "fetched_by!: Vec<String>",
                  coalesce(v.maskable, true) as "maskable!", s.use_only, reach(s.owner_id, 'secret', s.id, s.path) as "level!"
           from unnest($1::uuid[]) with ordinality as asked (id, place)
           join secrets s on s.id = asked.id
           join owners o on o.id = s.owner_id
           left join secret_versions v on v.secret_id = s.id and v.version = s.version
           cross join lateral (
               select array(select distinct d.name from bindings b join deployments d on d.id = b.deployment_id
                            where b.secret_id = s.id order by d.name) as by
           ) used
           cross join lateral (
               select array(select d.name from deployments d where d.fetch_key = s.id order by d.name) as by
           ) fetched
           order by asked.place"#,
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Row::shown).collect())
}

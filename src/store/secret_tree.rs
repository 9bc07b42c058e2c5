//! What is in sight as a tree of folders, and what lists can be narrowed by.

use super::secret_pages::of_ids;
use super::{Db, Result, damage};
use crate::model::actors::Caller;
use crate::model::paths::{Folder, Handle, Tag};
use crate::model::secrets::Facets;
use crate::model::tree::{Branch, SecretTree, Standing};

/// The most secrets that a tree counts.
const COUNTED_MAX: i64 = 10_000;
/// Owners and tags to choose from.
const FACETS_MAX: i64 = 200;

impl Db {
    /// What the caller may see at an owner's folder, with the rows of what few there are. At one's own root also what others own.
    pub async fn secrets_tree(
        &self,
        caller: &Caller,
        owner: &Handle,
        at: Option<&Folder>,
    ) -> Result<SecretTree> {
        let me = caller.user().map_or("", |user| user.handle.as_str());
        let everybodys = at.is_none() && owner.as_str() == me;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query!(
            // Of each owner no more than is counted, in the order of the index on their paths: what one has is not read whole.
            r#"select id as "id!", owner as "owner!", path as "path!" from (
                   select s.id, o.handle as owner, s.path, s.path_key
                   from unnest(owners_in_sight()) as w (id) join owners o on o.id = w.id, lateral (
                       select s.id, s.path, s.path_key from secrets s
                       where s.owner_id = w.id and ($3::text is null or starts_with(s.path, $3 || '/'))
                       order by s.path_key limit $4
                   ) s
                   where $1 or o.handle = $2
                   union
                   select s.id, o.handle, s.path, s.path_key
                   from secrets_granted() as g (id) join secrets s on s.id = g.id join owners o on o.id = s.owner_id
                   where ($1 or o.handle = $2) and ($3::text is null or starts_with(s.path, $3 || '/'))
               ) seen
               order by owner = $2 desc, owner, path_key limit $4"#,
            everybodys,
            owner.as_str(),
            at.map(Folder::as_str),
            COUNTED_MAX + 1
        )
        .fetch_all(&mut *tx)
        .await?;
        let cut = rows.len() as i64 > COUNTED_MAX;
        let standing = rows
            .into_iter()
            .take(COUNTED_MAX as usize)
            .map(|row| Standing {
                id: row.id,
                owner: row.owner,
                path: damage::path_of(row.id, &row.path),
            })
            .collect();
        let root = Branch::grow(standing, me, owner.as_str(), at);
        let rows = of_ids(&mut tx, &root.wanted()).await?;
        Ok(SecretTree { root, rows, cut })
    }

    /// Owners and tags of what the caller may see.
    pub async fn secrets_facets(&self, caller: &Caller) -> Result<Facets> {
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"with seen as materialized (
                   select s.owner_id, s.tags from secrets_in_sight() as sight (id) join secrets s on s.id = sight.id
               )
               select array(select o.handle from owners o where o.id in (select owner_id from seen) order by o.handle limit $1)
                          as "owners!: Vec<String>",
                      array(select distinct tag from seen, unnest(seen.tags) tag order by tag limit $1) as "tags!: Vec<String>""#,
            FACETS_MAX
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(Facets {
            owners: row.owners,
            tags: row
                .tags
                .iter()
                .filter_map(|tag| Tag::parse(tag).ok())
                .collect(),
        })
    }
}

//! Ending an account. What it owned goes to another user or team in the same transaction, all or nothing; what it could do ends.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::administrators::{
    is_last_administrator, last_administrator, lock_administrators, not_yours,
};
use super::audit::{self, Entry};
use super::deployments::person;
use super::{Db, Error, Result, damage};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::Handle;
use crate::model::users::{Ending, Listed};

/// Secrets that are taken in hand at a time.
const SECRETS_AT_ONCE: i64 = 200;
/// Names that a refusal lists.
const NAMED: i64 = 10;

/// Who gets everything.
struct Heir {
    id: Uuid,
}

impl Db {
    /// What would end with the account of that handle, and if an heir is named, whom the heir's folders would let in; changes nothing.
    /// Errors: `Denied`; `NotFound`, also for one that has ended; `Invalid` at `heir`.
    pub async fn account_ending(
        &self,
        caller: &Caller,
        handle: &Handle,
        heir: Option<&Handle>,
    ) -> Result<Ending> {
        let me = person(caller)?;
        let mut tx = self.begin_as(&Caller::job(Job::Handover)).await?;
        if !administers(&mut tx, me.id).await? {
            return Err(not_yours().into());
        }
        let id = sqlx::query_scalar!(
            "select id from owners where handle = $1 and kind = 'user'",
            handle.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("person"))?;
        let heir = match heir {
            Some(heir) => Some(heir_called(&mut tx, heir, id).await?.id),
            None => None,
        };
        name_both(&mut tx, id, heir).await?;
        let mut ending = ending(&mut tx, id).await?;
        if let Some(heir) = heir {
            ending.let_in = let_in(&mut tx, id, heir).await?;
        }
        Ok(ending)
    }

    /// Ends the account, and gives all that it owns to `heir`: secrets sealed anew, deployments with all that hangs on them. Its
    /// sessions, tokens, memberships, links and what was granted to it end. On record for both.
    /// Errors: `Denied` for whoever is no administrator; `NotFound`; `Invalid` at `heir` when it owns something and nobody is named, or
    /// nobody who can have it; `Conflict` for the last administrator, the last admin of a team, paths that the heir has too, and a
    /// value that does not open.
    pub async fn account_end(
        &self,
        caller: &Caller,
        user_id: Uuid,
        heir: Option<&Handle>,
    ) -> Result<()> {
        let me = person(caller)?;
        let action = Action::AccountEnd;
        let mut tx = self.begin_as(&Caller::job(Job::Handover)).await?;
        lock_administrators(&mut tx).await?;
        if !administers(&mut tx, me.id).await? {
            tx.rollback().await?;
            return self
                .refuse_on_record(caller, Entry::of(action), "no administrator", not_yours())
                .await;
        }
        let ended = async {
            let heir = self.hand_over(&mut tx, caller, user_id, heir).await?;
            end_rights(&mut tx, user_id).await?;
            Ok::<_, Error>(heir)
        };
        let heir = match ended.await {
            Ok(heir) => heir,
            Err(Error::Refused(refusal)) => {
                tx.rollback().await?;
                return self
                    .refuse_on_record(caller, Entry::of(action), "not ready to end", refusal)
                    .await;
            }
            Err(error) => return Err(error),
        };
        for owner_id in [Some(user_id), heir.map(|heir| heir.id)]
            .into_iter()
            .flatten()
        {
            let entry = Entry {
                owner_id: Some(owner_id),
                reason: (owner_id != user_id).then_some("its secrets and deployments came here"),
                ..Entry::of(action)
            };
            audit::record(&mut tx, caller, entry).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Everything that the account owns, to the heir, if it may end at all.
    async fn hand_over(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        caller: &Caller,
        user_id: Uuid,
        heir: Option<&Handle>,
    ) -> Result<Option<Heir>> {
        let heir = match heir {
            Some(handle) => Some(heir_called(tx, handle, user_id).await?),
            None => None,
        };
        name_both(tx, user_id, heir.as_ref().map(|heir| heir.id)).await?;
        // From here on nothing new becomes theirs: a secret's foreign key waits for this row, and then finds that they have ended. Nor
        // does anybody leave a team that they are in: of two who go at once, the second sees that nobody would be its admin.
        sqlx::query!(
            "select id from owners
             where id = any($1) or id in (select team_id from team_members where user_id = $2) order by id for update",
            &[Some(user_id), heir.as_ref().map(|heir| heir.id)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
            user_id
        )
        .fetch_all(&mut **tx)
        .await?;
        let ending = ending(tx, user_id).await?;
        may_end(&ending)?;
        let Some(heir) = heir else {
            if ending.secrets + ending.deployments > 0 {
                return Err(Refusal::invalid(
                    "heir",
                    format!(
                        "This account owns {} and {}. Name the user or team that gets them.",
                        counted(ending.secrets, "secret"),
                        counted(ending.deployments, "deployment")
                    ),
                )
                .into());
            }
            return Ok(None);
        };
        refuse_collisions(tx, user_id, heir.id).await?;
        self.hand_over_secrets(tx, caller, user_id, heir.id).await?;
        hand_over_deployments(tx, caller, user_id, heir.id).await?;
        Ok(Some(heir))
    }

    async fn hand_over_secrets(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        caller: &Caller,
        from: Uuid,
        to: Uuid,
    ) -> Result<()> {
        // What covered a folder of theirs has no folder any more; the heir needs no grant on what is their own.
        sqlx::query!(
            "delete from grants where owner_id = $1 and (prefix is not null or grantee_id = $2)",
            from,
            to
        )
        .execute(&mut **tx)
        .await?;
        // By id: whoever is being ended can still rename.
        let mut after = Uuid::nil();
        loop {
            let page = sqlx::query!(
                "select id, path from secrets where owner_id = $1 and id > $2 order by id limit $3 for update",
                from,
                after,
                SECRETS_AT_ONCE
            )
            .fetch_all(&mut **tx)
            .await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let ids: Vec<Uuid> = page.iter().map(|row| row.id).collect();
            self.reseal(tx, &ids, from, to).await?;
            for row in &page {
                let path = damage::path_of(row.id, &row.path);
                for (owner_id, reason) in [(from, "to another owner"), (to, "from another owner")] {
                    let entry = Entry {
                        owner_id: Some(owner_id),
                        secret: Some((row.id, &path)),
                        reason: Some(reason),
                        ..Entry::of(Action::SecretMove)
                    };
                    audit::record(tx, caller, entry).await?;
                }
            }
            sqlx::query!(
                "update secrets set owner_id = $2, changed_at = now() where id = any($1)",
                &ids,
                to
            )
            .execute(&mut **tx)
            .await?;
        }
        Ok(())
    }
}

async fn administers(tx: &mut Transaction<'_, Postgres>, id: Uuid) -> Result<bool> {
    let administers = sqlx::query_scalar!(
        r#"select exists (select 1 from users where id = $1 and is_admin and ended_at is null) as "is!""#,
        id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(administers)
}

/// The transaction is told of whom it is, for nothing else is in the job's reach.
async fn name_both(
    tx: &mut Transaction<'_, Postgres>,
    user_id: Uuid,
    heir: Option<Uuid>,
) -> Result<()> {
    sqlx::query!(
        r#"select set_config('sealport.handing_over', $1, true) as "from!", set_config('sealport.heir', $2, true) as "to!""#,
        user_id.to_string(),
        heir.map(|id| id.to_string()).unwrap_or_default()
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(())
}

/// Counts what the account owns, in a transaction that was told of it.
async fn ending(tx: &mut Transaction<'_, Postgres>, user_id: Uuid) -> Result<Ending> {
    let row = sqlx::query!(
        r#"select o.handle, u.email,
                  (select count(*) from secrets where owner_id = $1) as "secrets!",
                  (select count(*) from deployments where owner_id = $1) as "deployments!",
                  array(select t.handle from team_members m join owners t on t.id = m.team_id
                        where m.user_id = $1 and m.level = 4 and t.ended_at is null
                          and not exists (select 1 from team_members others
                                          where others.team_id = m.team_id and others.user_id <> $1 and others.level = 4)
                        order by t.handle limit $2) as "last_admin_of!: Vec<String>"
           from users u join owners o on o.id = u.id where u.id = $1 and u.ended_at is null"#,
        user_id,
        NAMED
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Refusal::not_found("person"))?;
    Ok(Ending {
        id: user_id,
        handle: row.handle,
        email: row.email,
        secrets: row.secrets,
        deployments: row.deployments,
        last_admin_of: row.last_admin_of,
        last_administrator: is_last_administrator(tx, user_id).await?,
        rules_lost: rules_lost(tx, user_id).await?,
        let_in: Listed::default(),
    })
}

/// Folders whose rules stay behind. '0' follows '/': the paths of a folder stand between the two.
async fn rules_lost(tx: &mut Transaction<'_, Postgres>, user_id: Uuid) -> Result<Listed> {
    let rows = sqlx::query!(
        r#"select r.prefix as "prefix!", count(*) over () as "all!" from rotation_rules r
           where r.owner_id = $1 and r.prefix is not null and exists (
               select 1 from secrets s where s.owner_id = $1
                 and s.path collate "C" >= r.prefix || '/' and s.path collate "C" < r.prefix || '0')
           order by r.prefix limit $2"#,
        user_id,
        NAMED
    )
    .fetch_all(&mut **tx)
    .await?;
    let more = rows.first().map_or(0, |row| row.all) - rows.len() as i64;
    let named = rows.into_iter().map(|row| row.prefix).collect();
    Ok(Listed { named, more })
}

/// Who reaches what comes by the folders that the heir shares, from the moment on that it is there.
async fn let_in(tx: &mut Transaction<'_, Postgres>, from: Uuid, heir: Uuid) -> Result<Listed> {
    let rows = sqlx::query!(
        r#"select e.handle, max(g.level) as "level!", count(*) over () as "all!"
           from grants g join owners e on e.id = g.grantee_id
           where g.owner_id = $2 and g.prefix is not null and g.grantee_id <> $1 and e.ended_at is null and exists (
               select 1 from secrets s where s.owner_id = $1
                 and s.path collate "C" >= g.prefix || '/' and s.path collate "C" < g.prefix || '0')
           group by e.handle order by e.handle limit $3"#,
        from,
        heir,
        NAMED
    )
    .fetch_all(&mut **tx)
    .await?;
    let more = rows.first().map_or(0, |row| row.all) - rows.len() as i64;
    let named = rows.into_iter().map(|row| {
        let level = Level::from_number(row.level).map_or("nothing", Level::as_str);
        format!("{} ({level})", row.handle)
    });
    Ok(Listed {
        named: named.collect(),
        more,
    })
}

fn may_end(ending: &Ending) -> Result<()> {
    if ending.last_administrator {
        return Err(last_administrator().into());
    }
    if !ending.last_admin_of.is_empty() {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            format!(
                "Nobody else administers {}. Somebody there has to become an admin, or the team has to end, first.",
                ending.last_admin_of.join(", ")
            ),
        )
        .into());
    }
    Ok(())
}

async fn heir_called(
    tx: &mut Transaction<'_, Postgres>,
    handle: &Handle,
    user_id: Uuid,
) -> Result<Heir> {
    let heir = sqlx::query_as!(
        Heir,
        "select id from owners where handle = $1 and ended_at is null and id <> $2",
        handle.as_str(),
        user_id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(heir.ok_or_else(|| {
        Refusal::invalid("heir", "There is no other user or team with this handle.")
    })?)
}

async fn refuse_collisions(tx: &mut Transaction<'_, Postgres>, from: Uuid, to: Uuid) -> Result<()> {
    let both = sqlx::query_scalar!(
        r#"select theirs.path from secrets theirs
           join secrets own on own.owner_id = $2 and own.path_key = theirs.path_key
           where theirs.owner_id = $1 order by theirs.path limit $3"#,
        from,
        to,
        NAMED + 1
    )
    .fetch_all(&mut **tx)
    .await?;
    if both.is_empty() {
        return Ok(());
    }
    let named = NAMED as usize;
    let more = if both.len() > named { " and more" } else { "" };
    let listed: Vec<&str> = both.iter().take(named).map(String::as_str).collect();
    Err(Refusal::invalid(
        "heir",
        format!(
            "Both have secrets with these paths: {}{more}. One of each has to be renamed or deleted first. Nothing was changed.",
            listed.join(", ")
        ),
    )
    .into())
}

/// Last, and one by one: the servers that run them wait for their rows. A name takes along what hangs on it.
async fn hand_over_deployments(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    from: Uuid,
    to: Uuid,
) -> Result<()> {
    // In the order in which servers lock them too.
    let running = sqlx::query_scalar!(
        "select name from deployments where owner_id = $1 order by id for update",
        from
    )
    .fetch_all(&mut **tx)
    .await?;
    for name in &running {
        for (owner_id, reason) in [(from, "to another owner"), (to, "from another owner")] {
            let entry = Entry {
                owner_id: Some(owner_id),
                deployment: Some(name),
                reason: Some(reason),
                ..Entry::of(Action::DeploymentMove)
            };
            audit::record(tx, caller, entry).await?;
        }
        sqlx::query!(
            "update deployment_names set owner_id = $2 where name = $1",
            name,
            to
        )
        .execute(&mut **tx)
        .await?;
    }
    // Of what was destroyed, the names.
    sqlx::query!(
        "update deployment_names set owner_id = $2 where owner_id = $1",
        from,
        to
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update tokens set owner_id = $2 where owner_id = $1 and audience = 'gateway'",
        from,
        to
    )
    .execute(&mut **tx)
    .await?;
    // Others' API tokens for this account were made for what it had, and not for all that the heir has.
    sqlx::query!(
        "update tokens set revoked_at = now() where owner_id = $1 and audience = 'api' and revoked_at is null",
        from
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What the account could do. Errors: `Conflict` while it owns something, which nobody would reach any more.
async fn end_rights(tx: &mut Transaction<'_, Postgres>, user_id: Uuid) -> Result<()> {
    let owns = sqlx::query_scalar!(
        r#"select exists (select 1 from secrets where owner_id = $1)
                  or exists (select 1 from deployments where owner_id = $1) as "owns!""#,
        user_id
    )
    .fetch_one(&mut **tx)
    .await?;
    if owns {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            "What this account owns was changed meanwhile. Nothing was changed here; try again.",
        )
        .into());
    }
    sqlx::query!("delete from sessions where user_id = $1", user_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "update tokens set revoked_at = now() where maker_id = $1 and revoked_at is null",
        user_id
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from one_time_links where made_by = $1 or user_id = $1",
        user_id
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from team_members where user_id = $1", user_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("delete from grants where grantee_id = $1", user_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("delete from grants where owner_id = $1", user_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("delete from connections where user_id = $1", user_id)
        .execute(&mut **tx)
        .await?;
    for ended in [
        sqlx::query!(
            "update users set ended_at = now() where id = $1 and ended_at is null",
            user_id
        )
        .execute(&mut **tx)
        .await?,
        sqlx::query!(
            "update owners set ended_at = now() where id = $1 and ended_at is null",
            user_id
        )
        .execute(&mut **tx)
        .await?,
    ] {
        if ended.rows_affected() != 1 {
            return Err(Error::broken("an account could not be ended"));
        }
    }
    Ok(())
}

fn counted(count: i64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

//! Administrators look after accounts: who there is, and who looks after them. It gives no reach to what others own.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::{Db, Result};
use crate::model::actors::{Caller, SignedInUser};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::users::Person;

/// The most people of one list.
const PEOPLE_MAX: i64 = 500;

impl Db {
    /// Everybody whose address or handle contains `search`, those who have ended last; at most 500. Errors: `Denied`.
    pub async fn people_list(&self, caller: &Caller, search: &str) -> Result<Vec<Person>> {
        let mut tx = self.begin_as(caller).await?;
        if !is_administrator(&mut tx).await? {
            return Err(not_yours().into());
        }
        let people = sqlx::query_as!(
            Person,
            "select u.id, u.email, o.handle, u.is_admin, u.created_at, u.signed_in_at, u.ended_at
             from users u join owners o on o.id = u.id
             where $1 = '' or strpos(u.email, lower($1)) > 0 or strpos(o.handle, lower($1)) > 0
             order by u.ended_at is not null, u.email limit $2",
            audit::search_words(search),
            PEOPLE_MAX
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(people)
    }

    /// Makes somebody an administrator, or takes it from them together with the links that they made.
    /// Errors: `Denied`; `NotFound`; `Conflict` for the last one.
    pub async fn administrator_set(&self, caller: &Caller, user_id: Uuid, is: bool) -> Result<()> {
        let action = match is {
            true => Action::AdministratorMake,
            false => Action::AdministratorUnmake,
        };
        let (mut tx, _) = self.administering(caller, action).await?;
        let entry = Entry {
            owner_id: Some(user_id),
            ..Entry::of(action)
        };
        let was = sqlx::query_scalar!(
            "select is_admin from users where id = $1 and ended_at is null",
            user_id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("person"))?;
        if was == is {
            return Ok(());
        }
        if !is && is_last_administrator(&mut tx, user_id).await? {
            tx.rollback().await?;
            return self
                .refuse_on_record(caller, entry, "last administrator", last_administrator())
                .await;
        }
        // On record before: whoever gives up their own role is none afterwards.
        audit::record(&mut tx, caller, entry).await?;
        sqlx::query!(
            "delete from one_time_links where made_by = $1 and not $2",
            user_id,
            is
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "update users set is_admin = $2 where id = $1 and ended_at is null",
            user_id,
            is
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction of an administrator, one at a time; for anybody else the refusal, on record.
    pub(super) async fn administering<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
    ) -> Result<(Transaction<'static, Postgres>, &'a SignedInUser)> {
        let me = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        lock_administrators(&mut tx).await?;
        if is_administrator(&mut tx).await? {
            return Ok((tx, me));
        }
        tx.rollback().await?;
        self.refuse_on_record(caller, Entry::of(action), "no administrator", not_yours())
            .await
    }
}

/// Two who end each other's role at once leave one.
pub(super) async fn lock_administrators(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('sealport.administrators'))")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn is_administrator(tx: &mut Transaction<'_, Postgres>) -> Result<bool> {
    Ok(sqlx::query_scalar!(r#"select is_administrator() as "is!""#)
        .fetch_one(&mut **tx)
        .await?)
}

/// Whether nobody else is one.
pub(super) async fn is_last_administrator(
    tx: &mut Transaction<'_, Postgres>,
    user_id: Uuid,
) -> Result<bool> {
    let is_last = sqlx::query_scalar!(
        r#"select (exists (select 1 from users where id = $1 and is_admin)
                   and not exists (select 1 from users where id <> $1 and is_admin and ended_at is null)) as "last!""#,
        user_id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(is_last)
}

pub(super) fn last_administrator() -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "This is the last administrator. Make somebody else one first.",
    )
}

pub(super) fn not_yours() -> Refusal {
    Refusal::new(
        RefusalKind::Denied,
        "Only an administrator does this. Ask the person who runs this Sealport.",
    )
}

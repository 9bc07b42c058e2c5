//! Teams: owners whose members each have a level on all that the team owns.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::error::OnConstraint;
use super::grant_pages::members;
use super::{Db, Result};
use crate::model::actors::{Actor, Caller};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::Handle;
use crate::model::teams::{MEMBERS_MAX, TEAMS_MADE_MAX, TeamDetail, TeamSummary};

/// Rows of one list.
const LISTED: i64 = 1_000;
/// What a token is told of every team but its own.
pub const NOT_THE_TOKENS: &str = "There is no such team, or this token does not act for it.";
/// Of what a team owns, on its page.
const OWNED_SHOWN: i64 = 200;

/// A team of the caller's.
struct Mine {
    id: Uuid,
    handle: String,
    level: i32,
}

impl Db {
    /// Makes a team, with the caller as its first admin. Errors: `Taken` at `handle`, `TooMany`.
    pub async fn team_create(&self, caller: &Caller, handle: &Handle) -> Result<Uuid> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let made = sqlx::query_scalar!(
            r#"select count(*) as "count!" from owners where kind = 'team' and maker_id = $1 and ended_at is null"#,
            user.id
        )
        .fetch_one(&mut *tx)
        .await?;
        if made >= TEAMS_MADE_MAX {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                format!("You have made {made} teams. Dissolve one that owns nothing first."),
            )
            .into());
        }
        let id = Uuid::now_v7();
        let made = sqlx::query!(
            "insert into owners (id, handle, kind, maker_id) values ($1, $2, 'team', $3) on conflict (handle) do nothing",
            id,
            handle.as_str(),
            user.id
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() != 1 {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Taken,
                format!("The handle {handle} is taken, by a person or a team. Choose another."),
            )
            .at("handle");
            let entry = Entry::of(Action::TeamCreate);
            return self
                .refuse_on_record(caller, entry, "handle in use", refusal)
                .await;
        }
        sqlx::query!(
            "insert into team_members (team_id, user_id, level, added_by) values ($1, $2, 4, $3)",
            id,
            user.id,
            user.handle
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            grantee: Some(handle.as_str()),
            ..about(Action::TeamCreate, id)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The caller's teams, by handle.
    pub async fn teams_list(&self, caller: &Caller) -> Result<Vec<TeamSummary>> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query!(
            r#"select o.handle, m.level, (select count(*) from team_members a where a.team_id = m.team_id) as "members!"
               from team_members m join owners o on o.id = m.team_id
               where m.user_id = $1 order by o.handle limit $2"#,
            user.id,
            LISTED
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(TeamSummary {
                    handle: row.handle,
                    level: Level::from_number(row.level)?,
                    members: row.members,
                })
            })
            .collect())
    }

    /// A team's page, for its members. Errors: `NotFound`.
    pub async fn team_show(&self, caller: &Caller, handle: &Handle) -> Result<TeamDetail> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let team = mine(&mut tx, handle)
            .await?
            .ok_or_else(|| Refusal::not_found("team"))?;
        let members = members(&mut tx, team.id).await?;
        let secrets = sqlx::query_scalar!(
            "select path from secrets where owner_id = $1 order by path limit $2",
            team.id,
            OWNED_SHOWN
        )
        .fetch_all(&mut *tx)
        .await?;
        let deployments = sqlx::query_scalar!(
            "select name from deployments where owner_id = $1 order by name limit $2",
            team.id,
            OWNED_SHOWN
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(TeamDetail {
            handle: team.handle,
            level: Level::from_number(team.level).unwrap_or(Level::Use),
            members,
            secrets,
            deployments,
        })
    }

    /// Makes somebody a member, named by e-mail address or handle, or changes a member's level. Returns the member's handle.
    /// Errors: `NotFound`, `Denied` without `admin`; `Invalid` at `with`; `Conflict` for the last admin; `TooMany`.
    pub async fn team_member_set(
        &self,
        caller: &Caller,
        handle: &Handle,
        with: &str,
        level: Level,
    ) -> Result<String> {
        let user = person(caller)?;
        let action = Action::TeamMember;
        let team = self.team_administered(caller, handle, action).await?;
        let found = self
            .holder_named(caller, with, about(action, team.id))
            .await?;
        if found.holder.is_team {
            return Err(Refusal::invalid(
                "with",
                format!("{} is a team. Members are people.", found.holder.handle),
            )
            .into());
        }
        let mut tx = self.begin_as(caller).await?;
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from team_members where team_id = $1 and user_id <> $2"#,
            team.id,
            found.id
        )
        .fetch_one(&mut *tx)
        .await?;
        if count >= MEMBERS_MAX {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                format!("A team has at most {MEMBERS_MAX} members."),
            )
            .into());
        }
        // Before the change: whoever lowers themselves may not write there any more afterwards.
        let entry = Entry {
            grantee: Some(&found.holder.handle),
            level: Some(level),
            ..about(action, team.id)
        };
        audit::record(&mut tx, caller, entry).await?;
        sqlx::query!(
            "insert into team_members (team_id, user_id, level, added_by) values ($1, $2, $3, $4)
             on conflict (team_id, user_id) do update set level = $3",
            team.id,
            found.id,
            level.number(),
            user.handle
        )
        .execute(&mut *tx)
        .await
        .on_constraint("team_members_last_admin", last_admin)?;
        tx.commit().await?;
        Ok(found.holder.handle)
    }

    /// Ends a membership: one's own, or another's by an admin. Errors: `NotFound`, `Denied`; `Conflict` for the last admin.
    pub async fn team_member_remove(
        &self,
        caller: &Caller,
        handle: &Handle,
        member: &Handle,
    ) -> Result<()> {
        let user = person(caller)?;
        let action = Action::TeamLeave;
        // A token does not leave for its maker: it ends a membership as an admin does.
        let leaves = user.handle == member.as_str() && matches!(caller.actor, Actor::User(_));
        let team = if leaves {
            self.team_of(caller, handle, action).await?
        } else {
            self.team_administered(caller, handle, action).await?
        };
        let mut tx = self.begin_as(caller).await?;
        // Before the end of the membership, for by it one may write in the team's record.
        let entry = Entry {
            grantee: Some(member.as_str()),
            ..about(action, team.id)
        };
        audit::record(&mut tx, caller, entry).await?;
        let ended = sqlx::query!(
            "delete from team_members m using owners o
             where m.team_id = $1 and m.user_id = o.id and o.handle = $2",
            team.id,
            member.as_str()
        )
        .execute(&mut *tx)
        .await
        .on_constraint("team_members_last_admin", last_admin)?;
        if ended.rows_affected() != 1 {
            return Err(Refusal::not_found("member").into());
        }
        tx.commit().await?;
        Ok(())
    }

    /// Ends a team that owns nothing, with its memberships and what was shared with it. Its handle stays taken.
    /// Errors: `NotFound`, `Denied`; `Conflict` while it owns something.
    pub async fn team_dissolve(&self, caller: &Caller, handle: &Handle) -> Result<()> {
        let user = person(caller)?;
        let action = Action::TeamDissolve;
        let team = self.team_administered(caller, handle, action).await?;
        let mut tx = self.begin_as(caller).await?;
        // What is being made for the team is waited for, and what comes later finds it ended.
        lock_owner(&mut tx, team.id, true).await?;
        // What comes by a move holds no such lock. Its foreign key takes a lock that only `for update` keeps out: the update below
        // would not, whatever is said beside `owner_lives`, and each would not see the other.
        sqlx::query!("select id from owners where id = $1 for update", team.id)
            .fetch_optional(&mut *tx)
            .await?;
        let entry = Entry {
            grantee: Some(handle.as_str()),
            ..about(action, team.id)
        };
        audit::record(&mut tx, caller, entry).await?;
        sqlx::query!("delete from grants where grantee_id = $1", team.id)
            .execute(&mut *tx)
            .await?;
        let ended = sqlx::query!(
            "update owners set ended_at = now() where id = $1 and ended_at is null",
            team.id
        )
        .execute(&mut *tx)
        .await
        .on_constraint("owners_team_owns_nothing", || {
            Refusal::new(
                RefusalKind::Conflict,
                "The team owns secrets or deployments. Move or delete the secrets and destroy the deployments first.",
            )
        })?;
        if ended.rows_affected() != 1 {
            return Err(Refusal::not_found("team").into());
        }
        // Oneself last: by that membership one may do the rest.
        for others in [true, false] {
            sqlx::query!(
                "delete from team_members where team_id = $1 and (user_id <> $2) = $3",
                team.id,
                user.id,
                others
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// A team that the caller is in; otherwise the refusal, on record.
    async fn team_of(&self, caller: &Caller, handle: &Handle, action: Action) -> Result<Mine> {
        if let Actor::Token(token) = &caller.actor
            && token.owner != handle.as_str()
        {
            let refusal = Refusal::new(RefusalKind::NotFound, NOT_THE_TOKENS);
            return self
                .refuse_on_record(caller, Entry::of(action), ANOTHER_OWNER, refusal)
                .await;
        }
        let mut tx = self.begin_as(caller).await?;
        let found = mine(&mut tx, handle).await?;
        tx.rollback().await?;
        match found {
            Some(team) => Ok(team),
            None => {
                let entry = Entry::of(action);
                let refusal = Refusal::not_found("team");
                self.refuse_on_record(caller, entry, "no team of theirs", refusal)
                    .await
            }
        }
    }

    async fn team_administered(
        &self,
        caller: &Caller,
        handle: &Handle,
        action: Action,
    ) -> Result<Mine> {
        let team = self.team_of(caller, handle, action).await?;
        // A token reaches all that the team owns, up to `admin`, or changes nothing of the kind. The database asks the same.
        let reaches = match &caller.actor {
            Actor::Token(token) => token.ceiling == Level::Admin && token.under.is_none(),
            _ => true,
        };
        if team.level == Level::Admin.number() && reaches {
            return Ok(team);
        }
        let refusal = Refusal::new(
            RefusalKind::Denied,
            match reaches {
                true => "Only an admin of the team changes who is in it.",
                false => "Members are changed by a token that can admin all that the team owns.",
            },
        );
        self.refuse_on_record(caller, about(action, team.id), "level too low", refusal)
            .await
    }

    /// Whom something is made for: oneself, or a team on which one has `needed`. In the transaction, which keeps a team from being
    /// dissolved meanwhile. Errors: `Denied` at `owner`, on record.
    pub(super) async fn for_owner(
        &self,
        mut tx: Transaction<'static, Postgres>,
        caller: &Caller,
        owner: Option<&Handle>,
        needed: Level,
        action: Action,
    ) -> Result<(Transaction<'static, Postgres>, Uuid)> {
        let refused = match owner_for(&mut tx, caller, owner, needed).await? {
            Ok(owner_id) => return Ok((tx, owner_id)),
            Err(refused) => refused,
        };
        tx.rollback().await?;
        let entry = Entry {
            owner_id: refused.team_id,
            ..Entry::of(action)
        };
        let refusal = Refusal::new(RefusalKind::Denied, refused.detail).at("owner");
        self.refuse_on_record(caller, entry, refused.reason, refusal)
            .await
    }
}

/// Why somebody is no owner for this caller.
struct NoOwner {
    /// A team of the caller's, whose admins find it in their record.
    team_id: Option<Uuid>,
    reason: &'static str,
    detail: String,
}

async fn owner_for(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    owner: Option<&Handle>,
    needed: Level,
) -> Result<Result<Uuid, NoOwner>> {
    let user = person(caller)?;
    let own = caller.own().map_or(user.handle.as_str(), |(_, own)| own);
    let own = match owner {
        Some(owner) => owner.as_str(),
        None => own,
    };
    if let Actor::Token(token) = &caller.actor {
        // A token acts for one owner; of the others it is told nothing, not even where its maker is a member.
        if own != token.owner {
            return Ok(Err(NoOwner {
                team_id: None,
                reason: ANOTHER_OWNER,
                detail: format!(
                    "This token acts for {} alone. Make one for {own}.",
                    token.owner
                ),
            }));
        }
    }
    if own == user.handle {
        return Ok(Ok(user.id));
    }
    let owner = &Handle::parse(own)?;
    let none = |team_id| NoOwner {
        team_id,
        reason: "no right to the owner",
        detail: format!(
            "You have no {} for {owner}. It has to be your own, or of a team where you have that.",
            needed.as_str()
        ),
    };
    let Some(team) = mine(tx, owner).await? else {
        return Ok(Err(none(None)));
    };
    lock_owner(tx, team.id, false).await?;
    // Looked at again, now that nobody can dissolve it.
    Ok(match mine(tx, owner).await? {
        Some(team) if team.level >= needed.number() => Ok(team.id),
        Some(team) => Err(none(Some(team.id))),
        None => Err(none(None)),
    })
}

/// On record where a token is used for what is not its owner's.
const ANOTHER_OWNER: &str = "a token of another owner";

fn about<'a>(action: Action, team_id: Uuid) -> Entry<'a> {
    Entry {
        owner_id: Some(team_id),
        ..Entry::of(action)
    }
}

fn last_admin() -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "A team keeps one admin at least. Make somebody else an admin first, or dissolve the team.",
    )
}

async fn mine(tx: &mut Transaction<'_, Postgres>, handle: &Handle) -> Result<Option<Mine>> {
    Ok(sqlx::query_as!(
        Mine,
        r#"select o.id, o.handle, m.level
           from owners o join team_members m on m.team_id = o.id and m.user_id = current_actor()
           where o.handle = $1 and o.kind = 'team' and o.ended_at is null"#,
        handle.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// Until the end of the transaction: alone, or together with others who only need it to stay.
async fn lock_owner(tx: &mut Transaction<'_, Postgres>, id: Uuid, alone: bool) -> Result<()> {
    sqlx::query!(
        r#"select case when $2 then pg_advisory_xact_lock(hashtextextended($1, 11))
             else pg_advisory_xact_lock_shared(hashtextextended($1, 11)) end as "locked!: ()""#,
        id.to_string(),
        alone
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(())
}

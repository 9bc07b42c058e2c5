//! Calls of deployed servers: who called which tool, how it went, and how long it took.

use time::OffsetDateTime;
use uuid::Uuid;

use super::deployments::person;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::calls::{CallRow, Outcome};
use crate::model::errors::Refusal;
use crate::model::paths::DeploymentName;

/// Calls of one deployment that are kept.
pub(super) const CALLS_KEPT: i64 = 10_000;
/// An append trims once in about so many calls of the installation.
const TRIM_EVERY_CALLS: i64 = 2_000;
/// Calls on one list.
const CALLS_LISTED: i64 = 20;

/// A call to note.
pub struct NewCall {
    pub token_id: Uuid,
    pub tool: String,
    pub outcome: Outcome,
    pub took_ms: i32,
}

/// A call, as its row has it.
struct CallOf {
    at: OffsetDateTime,
    who: String,
    tool: String,
    outcome: String,
    took_ms: i32,
}

impl Db {
    /// Notes calls; whose they are, their tokens say.
    pub async fn calls_append(&self, deployment_id: Uuid, calls: &[NewCall]) -> Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        let tokens: Vec<Uuid> = calls.iter().map(|call| call.token_id).collect();
        let tools: Vec<String> = calls.iter().map(|call| call.tool.clone()).collect();
        let outcomes: Vec<String> = calls
            .iter()
            .map(|call| call.outcome.as_str().to_owned())
            .collect();
        let took: Vec<i32> = calls.iter().map(|call| call.took_ms).collect();
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let seqs = sqlx::query_scalar!(
            "insert into calls (deployment_id, owner_id, user_id, token_id, tool, outcome, took_ms) \
             select d.id, d.owner_id, t.maker_id, t.id, new.tool, new.outcome, new.took_ms \
             from unnest($2::uuid[], $3::text[], $4::text[], $5::integer[]) with ordinality \
               as new (token_id, tool, outcome, took_ms, place) \
             join tokens t on t.id = new.token_id join deployments d on d.id = $1 \
             order by new.place returning seq",
            deployment_id,
            &tokens,
            &tools,
            &outcomes,
            &took,
        )
        .fetch_all(&mut *tx)
        .await?;
        if let (Some(first), Some(last)) = (seqs.first(), seqs.last())
            && (first - 1) / TRIM_EVERY_CALLS != last / TRIM_EVERY_CALLS
        {
            sqlx::query!(
                "delete from calls where deployment_id = $1 and seq <= ( \
                 select seq from calls where deployment_id = $1 order by seq desc offset $2 limit 1)",
                deployment_id,
                CALLS_KEPT,
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The newest calls of a deployment: everybody's for whoever may change it, else one's own, and so where only those are asked for.
    /// Errors: `NotFound`.
    pub async fn calls_list(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        own: bool,
    ) -> Result<Vec<CallRow>> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let id = sqlx::query_scalar!(
            "select id from deployments where name = $1 and reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 1",
            name.as_str(),
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("deployment"))?;
        let rows = sqlx::query_as!(
            CallOf,
            r#"select c.at, coalesce(o.handle, '') as "who!", c.tool, c.outcome, c.took_ms
               from calls c left join owners o on o.id = c.user_id
               where c.deployment_id = $1 and ($3::uuid is null or c.user_id = $3) order by c.seq desc limit $2"#,
            id,
            CALLS_LISTED,
            own.then_some(user.id),
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let of = |row: CallOf| {
            let unreadable = || Error::broken("a call's row does not read");
            Ok(CallRow {
                at: row.at,
                who: row.who,
                tool: row.tool,
                outcome: Outcome::from_name(&row.outcome).ok_or_else(unreadable)?,
                took_ms: row.took_ms,
            })
        };
        rows.into_iter().map(of).collect()
    }
}

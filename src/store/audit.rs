//! The record: one row for each access, change and refusal.

use ipnet::IpNet;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::limits::Noted;
use super::sign_in::place_name;
use super::{Db, Error, Result};
use crate::model::actors::{Actor, Caller, Job, Origin, Presented};
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, Folder, SecretPath};

/// The longest user agent and request id on record, in characters.
const AGENT_LEN_CHARS: usize = 200;

/// What happened, by typed fields; nothing from outside but parsed names.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub action: Action,
    /// Whose object it was.
    pub owner_id: Option<Uuid>,
    pub secret: Option<(Uuid, &'a SecretPath)>,
    /// A folder, where it is about one; stands as a path that ends in a slash.
    pub folder: Option<&'a Folder>,
    pub version: Option<i32>,
    pub deployment: Option<&'a str>,
    pub release: Option<i32>,
    /// The handle of whom something was given to or taken from, and the level.
    pub grantee: Option<&'a str>,
    pub level: Option<Level>,
    /// From a fixed list, never from outside.
    pub reason: Option<&'static str>,
    /// The actor does not find the row in their own record, where it would tell that there is such a thing.
    pub owner_alone: bool,
}

impl<'a> Entry<'a> {
    pub(super) fn of(action: Action) -> Self {
        Entry {
            action,
            owner_id: None,
            secret: None,
            folder: None,
            version: None,
            deployment: None,
            release: None,
            grantee: None,
            level: None,
            reason: None,
            owner_alone: false,
        }
    }
}

/// Puts an access on record in its own transaction: no record, no access.
pub(super) async fn record(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    entry: Entry<'_>,
) -> Result<()> {
    insert(tx, caller, entry, Outcome::Done).await
}

/// The same of a refusal, where nothing rolls back.
pub(super) async fn record_refused(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    entry: Entry<'_>,
) -> Result<()> {
    insert(tx, caller, entry, Outcome::Refused).await
}

impl Db {
    /// Puts a refusal on record in a transaction of its own, so that it stays when the access rolls back. Of what strangers are
    /// refused, some in each minute: a row each would let anybody fill the disk.
    pub(super) async fn record_refusal(&self, caller: &Caller, entry: Entry<'_>) -> Result<()> {
        metrics::counter!("sealport_refusals_total", "action" => entry.action.as_str())
            .increment(1);
        let noted = match caller.actor {
            Actor::Anonymous(_) => {
                let place = place_name(&caller.origin);
                self.floods().of_stranger(entry.action.as_str(), &place)
            }
            _ => Noted::Each,
        };
        let outcome = match noted {
            Noted::Each => Outcome::Refused,
            Noted::Last => Outcome::RefusedWithMore,
            Noted::Passed => return Ok(()),
        };
        let mut tx = self.begin_as(caller).await?;
        insert(&mut tx, caller, entry, outcome).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Puts on record that somebody who is nobody here was turned away at a door.
    pub(super) async fn record_stranger(
        &self,
        action: Action,
        origin: &Origin,
        reason: &'static str,
    ) -> Result<()> {
        let caller = Caller {
            actor: Actor::Anonymous(Presented::Nothing),
            origin: origin.clone(),
        };
        let entry = Entry {
            reason: Some(reason),
            ..Entry::of(action)
        };
        self.record_refusal(&caller, entry).await
    }

    /// Puts on record, for its owner alone, that somebody asked for a deployment that they may not see. A name that nobody has
    /// leaves nothing, and one person some rows in each minute.
    pub(super) async fn record_prying(&self, caller: &Caller, name: &DeploymentName) -> Result<()> {
        let Some(user) = caller.user() else {
            return Ok(());
        };
        // Whose it is, the caller may not know.
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let owner_id = sqlx::query_scalar!(
            "select owner_id from deployments where name = $1",
            name.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(owner_id) = owner_id else {
            return Ok(());
        };
        let action = Action::DeploymentShow;
        let source = user.id.to_string();
        let outcome = match self.floods().of_bearer(action.as_str(), &source) {
            Noted::Each => Outcome::Refused,
            Noted::Last => Outcome::RefusedWithMore,
            Noted::Passed => return Ok(()),
        };
        let entry = Entry {
            owner_id: Some(owner_id),
            deployment: Some(name.as_str()),
            reason: Some("no right to the deployment"),
            owner_alone: true,
            ..Entry::of(action)
        };
        insert(&mut tx, caller, entry, outcome).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Puts the refusal on record with its reason, and returns it as the error.
    pub(super) async fn refuse_on_record<T>(
        &self,
        caller: &Caller,
        mut entry: Entry<'_>,
        reason: &'static str,
        refusal: Refusal,
    ) -> Result<T> {
        entry.reason = Some(reason);
        self.record_refusal(caller, entry).await?;
        Err(refusal.into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    /// Stands for others of its kind too, which are not on record.
    RefusedWithMore,
}

/// After a reason: others like this one follow in the same minute, and are in the log in numbers only.
pub(super) const AND_MORE: &str = ", and more in this minute";

/// Who acts, as the record names them.
pub(super) fn name_of(caller: &Caller) -> &str {
    match &caller.actor {
        Actor::User(user) => &user.handle,
        Actor::Token(token) => &token.name,
        Actor::Deployment { .. } => "deployment",
        Actor::Job(job) => job.as_str(),
        Actor::Anonymous(_) => "unknown",
    }
}

/// Who asked for it, as a list shows it that names no more: of a token also whose it is, for its name is any.
pub(super) fn asked_by(caller: &Caller) -> String {
    match &caller.actor {
        Actor::Token(token) => format!("{}, by the token {}", token.maker.handle, token.name),
        _ => name_of(caller).to_owned(),
    }
}

/// What comes from outside, without control characters, and not long.
pub(super) fn plain(text: &Option<String>) -> Option<String> {
    text.as_ref().map(|text| {
        text.chars()
            .filter(|c| !c.is_control())
            .take(AGENT_LEN_CHARS)
            .collect()
    })
}

/// What is searched for, without what PostgreSQL's text cannot hold.
pub(super) fn search_words(raw: &str) -> String {
    raw.trim().chars().filter(|c| !c.is_control()).collect()
}

async fn insert(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    entry: Entry<'_>,
    outcome: Outcome,
) -> Result<()> {
    let (kind, actor_id, user_id) = match &caller.actor {
        Actor::User(user) => ("user", Some(user.id), Some(user.id)),
        Actor::Token(token) => ("token", Some(token.id), Some(token.maker.id)),
        Actor::Deployment { id, owner_id } => ("deployment", Some(*id), Some(*owner_id)),
        Actor::Job(_) => ("job", None, None),
        Actor::Anonymous(_) => ("anonymous", None, None),
    };
    let user_id = user_id.filter(|_| !entry.owner_alone);
    let reason = entry.reason.map(|reason| match outcome {
        Outcome::RefusedWithMore => format!("{reason}{AND_MORE}"),
        Outcome::Done | Outcome::Refused => reason.to_owned(),
    });
    let outcome = match outcome {
        Outcome::Done => "done",
        Outcome::Refused | Outcome::RefusedWithMore => "refused",
    };
    let path = match (entry.secret, entry.folder) {
        (Some((_, path)), _) => Some(path.to_string()),
        (None, folder) => folder.map(|folder| format!("{folder}/")),
    };
    let written = sqlx::query!(
        "insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                            deployment, release, address, agent, request_id, grantee, level, reason)
         values ($1, $2, $3, coalesce((select name from deployments where id = $3 and $2 = 'deployment'), $4), $5, $6, $7, $8,
                 $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        Uuid::now_v7(),
        kind,
        actor_id,
        name_of(caller),
        user_id,
        entry.owner_id,
        entry.action.as_str(),
        outcome,
        entry.secret.map(|(id, _)| id),
        path,
        entry.version,
        entry.deployment,
        entry.release,
        caller.origin.address.map(IpNet::from),
        plain(&caller.origin.agent),
        plain(&caller.origin.request_id),
        entry.grantee,
        entry.level.map(Level::as_str),
        reason,
    )
    .execute(&mut **tx)
    .await?;
    if written.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::broken("the record could not be written"))
    }
}

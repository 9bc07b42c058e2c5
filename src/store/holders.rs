//! Users and teams, as others name them: by e-mail address or handle.

use uuid::Uuid;

use super::audit::Entry;
use super::limits::Limit;
use super::{Db, Result};
use crate::model::actors::{Actor, Caller, Presented};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::grants::Holder;
use crate::model::paths::Handle;
use crate::model::users::Email;

/// Names of nobody in an hour, by one person: nobody goes through a list of addresses to learn who has an account.
const MISSES: i64 = 60;
const HOUR_SECS: i32 = 60 * 60;

/// A user or a team that was named.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub id: Uuid,
    pub holder: Holder,
}

impl Db {
    /// Whom `named` is: an e-mail address or a handle, for what `entry` says. Errors: `Invalid` at `with` for nobody and for one that has
    /// ended; `TooMany`, on record.
    pub(super) async fn holder_named(
        &self,
        caller: &Caller,
        named: &str,
        entry: Entry<'_>,
    ) -> Result<Found> {
        let named = named.trim();
        let actor = caller.user().map(|user| user.id.to_string());
        let limit = Limit::new(
            "named-holder",
            &[actor.as_deref().unwrap_or_default()],
            HOUR_SECS,
            MISSES,
        );
        let taken = match self.limits_take(&[limit]).await? {
            Ok(taken) => taken,
            Err(full) => {
                if full.on_record {
                    let reason = Some("too many names of nobody");
                    self.record_refusal(caller, Entry { reason, ..entry })
                        .await?;
                }
                return Err(full
                    .refusal("Too many names that nobody has, within an hour.")
                    .into());
            }
        };
        let (found, detail) = if named.contains('@') {
            let found = match Email::parse(named) {
                Ok(email) => self.user_by_email(caller, &email).await?,
                Err(_) => None,
            };
            let found = match found {
                Some(id) => self.holder_where(caller, Some(id), "").await?,
                None => None,
            };
            (
                found,
                "Nobody here has this e-mail address. An administrator can invite them.",
            )
        } else {
            let found = match Handle::parse(named) {
                Ok(handle) => self.holder_where(caller, None, handle.as_str()).await?,
                Err(_) => None,
            };
            (
                found,
                "There is no user or team of this handle. Check it, or give the e-mail address.",
            )
        };
        let Some(found) = found else {
            return Err(Refusal::invalid("with", detail).into());
        };
        self.limits_give_back(taken).await?;
        if found.holder.ended {
            let what = if found.holder.is_team {
                "team"
            } else {
                "account"
            };
            return Err(Refusal::invalid(
                "with",
                format!("The {what} {} has ended.", found.holder.handle),
            )
            .into());
        }
        Ok(found)
    }

    /// A handle's owner, also one that has ended. Errors: `NotFound`.
    pub(super) async fn holder(&self, caller: &Caller, handle: &Handle) -> Result<Found> {
        self.holder_where(caller, None, handle.as_str())
            .await?
            .ok_or_else(|| Refusal::new(RefusalKind::NotFound, NOBODY).into())
    }

    /// What an address opens to whoever says it: that there is an account.
    async fn user_by_email(&self, caller: &Caller, email: &Email) -> Result<Option<Uuid>> {
        let presenting = Caller {
            actor: Actor::Anonymous(Presented::Email(email.as_str().to_owned())),
            origin: caller.origin.clone(),
        };
        let mut tx = self.begin_as(&presenting).await?;
        Ok(sqlx::query_scalar!(
            "select id from users where email = presented() and ended_at is null"
        )
        .fetch_optional(&mut *tx)
        .await?)
    }

    async fn holder_where(
        &self,
        caller: &Caller,
        id: Option<Uuid>,
        handle: &str,
    ) -> Result<Option<Found>> {
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            r#"select id, handle, kind = 'team' as "is_team!", ended_at is not null as "ended!"
               from owners where id = $1 or ($1::uuid is null and handle = $2)"#,
            id,
            handle
        )
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|row| Found {
            id: row.id,
            holder: Holder {
                handle: row.handle,
                is_team: row.is_team,
                ended: row.ended,
            },
        }))
    }
}

const NOBODY: &str = "There is no such person or team here, or it is not yours to see.";

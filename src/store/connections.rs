//! Callers' own keys of per-user deployments. A key is a secret of the caller's, kept for use only, and used by a deployment only after
//! its caller connected it, for as long as the deployment is what they agreed to.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::connection_pages::page;
use super::deployments::person;
use super::drafts::storable;
use super::secret_put::{Expected, SecretPut};
use super::secrets::NewValue;
use super::{Db, Result, damage};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::connections::{Agreed, ConnectPage, Slot, SlotState};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, KeyPath};

/// A slot that gets its secret in the transaction that stores a value: no moment is between the two in which it could be read.
pub(super) struct Connecting<'a> {
    name: &'a DeploymentName,
    env: &'a EnvName,
    /// Those that the caller agreed to.
    terms: i32,
}

impl Db {
    /// Lets the deployment use the caller's own value of a variable: a new one, or the one that is kept. `terms` are those that the
    /// caller saw; none for what they are now. From then on the value is for use only.
    /// Errors: `NotFound`; `Invalid` at `env` or `value`; `Conflict` when the deployment is not what was seen any more.
    pub async fn connection_put(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        env: &EnvName,
        terms: Option<i32>,
        value: Option<NewValue>,
    ) -> Result<()> {
        let seen = self.connect_page(caller, name).await?;
        let terms = terms.unwrap_or(seen.terms);
        if terms != seen.terms {
            return Err(changed(name).into());
        }
        let slot = slot_of(&seen, env)?;
        let connecting = Connecting { name, env, terms };
        match (value, slot.secret_id) {
            (Some(value), _) => self.connect_new(caller, slot, value, &connecting).await,
            (None, Some(id)) => {
                let mut tx = self.begin_as(caller).await?;
                connect(&mut tx, caller, &connecting, id).await?;
                tx.commit().await?;
                Ok(())
            }
            (None, None) => {
                let says = format!("No value of yours is kept for {env}. Give one.");
                Err(Refusal::invalid("value", says).into())
            }
        }
    }

    /// A new value under the slot's path.
    async fn connect_new(
        &self,
        caller: &Caller,
        slot: &Slot,
        value: NewValue,
        connecting: &Connecting<'_>,
    ) -> Result<()> {
        let put = SecretPut {
            value,
            kind: None,
            description: None,
            tags: None,
            // The end of an old value that is past is not the new one's.
            expires_at: (slot.state == SlotState::Expired).then_some(None),
            expected: Expected::Anything,
        };
        let key = KeyPath {
            owner: None,
            path: slot.path.clone(),
        };
        self.secret_put_for(caller, &key, put, Some(connecting))
            .await?;
        Ok(())
    }

    /// Takes the caller's own value of a variable away, for good: all of it or nothing.
    /// Errors: `NotFound`; `Invalid` at `env`; `Denied` for a token that deletes no secrets.
    pub async fn connection_end(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        env: &EnvName,
    ) -> Result<()> {
        let user_id = connector(caller)?;
        let seen = self.connect_page(caller, name).await?;
        let slot = slot_of(&seen, env)?;
        let Some(secret_id) = slot.secret_id else {
            return Ok(());
        };
        let (mut tx, found) = self
            .within_reach(caller, secret_id, Level::Admin, Action::SecretDelete)
            .await?;
        let ended = Entry {
            deployment: Some(name.as_str()),
            ..found.entry(Action::ConnectionEnd)
        };
        audit::record(&mut tx, caller, ended).await?;
        // What it is connected to goes with it.
        sqlx::query!(
            "delete from secrets where id = $1 and owner_id = $2",
            secret_id,
            user_id
        )
        .execute(&mut *tx)
        .await?;
        let deleted = Entry {
            version: Some(found.version),
            ..found.entry(Action::SecretDelete)
        };
        audit::record(&mut tx, caller, deleted).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Connects a secret of the caller's. Errors: `Conflict` when the deployment is not what was agreed to any more.
pub(super) async fn connect(
    tx: &mut Transaction<'static, Postgres>,
    caller: &Caller,
    connecting: &Connecting<'_>,
    secret_id: Uuid,
) -> Result<()> {
    let user_id = connector(caller)?;
    let Connecting { name, env, terms } = *connecting;
    let Some(now) = page(tx, caller, name)
        .await?
        .filter(|now| now.terms == terms)
    else {
        return Err(changed(name).into());
    };
    let kept = sqlx::query_scalar!(
        "update secrets set use_only = true where id = $1 and owner_id = $2 returning path",
        secret_id,
        user_id,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Refusal::not_found("secret"))?;
    let made = sqlx::query!(
        "insert into connections (deployment_id, owner_id, user_id, env, secret_id, terms, agreed) \
         select d.id, d.owner_id, $2, $3, $4, d.terms, $6 from deployments d where d.id = $1 and d.terms = $5 \
         on conflict (deployment_id, user_id, env) do update \
         set secret_id = excluded.secret_id, terms = excluded.terms, agreed = excluded.agreed, connected_at = now()",
        now.id,
        user_id,
        env.as_str(),
        secret_id,
        terms,
        storable(&agreed(&now))?,
    )
    .execute(&mut **tx)
    .await?;
    if made.rows_affected() != 1 {
        return Err(changed(name).into());
    }
    let entry = Entry {
        owner_id: Some(user_id),
        secret: Some((secret_id, &damage::path_of(secret_id, &kept))),
        deployment: Some(name.as_str()),
        ..Entry::of(Action::ConnectionMake)
    };
    audit::record(tx, caller, entry).await
}

/// The person whose keys they are. Errors: `Unauthenticated`; `Denied` for a token that acts for a team.
pub(super) fn connector(caller: &Caller) -> Result<Uuid> {
    let user = person(caller)?;
    match caller.own() {
        Some((owner_id, _)) if owner_id == user.id => Ok(user.id),
        _ => Err(Refusal::new(
            RefusalKind::Denied,
            "A connected key is a person’s own: use a token that acts for yourself.",
        )
        .into()),
    }
}

fn slot_of<'a>(page: &'a ConnectPage, env: &EnvName) -> Result<&'a Slot, Refusal> {
    page.slots
        .iter()
        .find(|slot| slot.env == *env)
        .ok_or_else(|| {
            let names: Vec<String> = page.slots.iter().map(|slot| slot.env.to_string()).collect();
            let says = format!("Callers of {} bring {}.", page.name, names.join(", "));
            Refusal::invalid("env", says)
        })
}

fn changed(name: &DeploymentName) -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        format!("{name} was changed while you looked at it. Look at what it is now, then connect."),
    )
}

pub(super) fn agreed(page: &ConnectPage) -> Agreed {
    Agreed {
        owner: page.owner.clone(),
        source: page.source.to_string(),
        target: page.target,
        names: page.slots.iter().map(|slot| slot.env.clone()).collect(),
        command: Some(page.command.clone()),
        network: Some(page.network),
    }
}

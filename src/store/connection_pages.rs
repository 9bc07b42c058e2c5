//! What callers connect, as it is shown: to each their own, to whoever may change the deployment who is connected.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Postgres, Transaction};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::Entry;
use super::connections::{agreed, connector};
use super::deployments::person;
use super::{Db, Error, Result, damage};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::connections::{
    Agreed, ConnectPage, ConnectedPerson, PersonState, Slot, SlotState,
};
use crate::model::deployments::DeploymentState;
use crate::model::due::DUE_DAYS;
use crate::model::errors::Refusal;
use crate::model::limits::GuestLimits;
use crate::model::paths::{DeploymentName, EnvName, SecretPath};
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::Target;

/// People on one list.
const PEOPLE_LISTED: i64 = 200;

impl Db {
    /// What a caller is to bring, and what of it stands. Errors: `NotFound`; `Invalid` for a deployment that is shared.
    pub async fn connect_page(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<ConnectPage> {
        connector(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let page = page(&mut tx, caller, name).await?;
        tx.rollback().await?;
        match page {
            Some(page) if page.slots.is_empty() => Err(shared(name).into()),
            Some(page) => Ok(page),
            None => {
                let refusal = Refusal::not_found("deployment");
                let entry = Entry::of(Action::ConnectionMake);
                self.refuse_on_record(caller, entry, "no right to the deployment", refusal)
                    .await
            }
        }
    }

    /// Who has connected keys, for whoever may change the deployment; nobody for others. Never with what.
    pub async fn connected_people(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<Vec<ConnectedPerson>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let people = sqlx::query!(
            r#"select d.id, c.user_id, o.handle, min(c.connected_at) as "since!"
               from deployments d
               join connections c on c.deployment_id = d.id
               join owners o on o.id = c.user_id and o.ended_at is null
               where d.name = $1 and reach(d.owner_id, 'deployment', d.id, coalesce(d.folder, '')) >= 3
               group by d.id, c.user_id, o.handle order by 4, 3 limit $2"#,
            name.as_str(),
            PEOPLE_LISTED,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let Some(first) = people.first() else {
            return Ok(Vec::new());
        };
        let ids: Vec<Uuid> = people.iter().map(|one| one.user_id).collect();
        let states = self.person_states(first.id, &ids).await?;
        let of = |user_id| states.get(user_id).copied();
        Ok(people
            .iter()
            .map(|one| ConnectedPerson {
                handle: one.handle.clone(),
                since: one.since,
                // Of what they have connected, nothing is asked for any more.
                state: of(&one.user_id).unwrap_or(PersonState::Missing),
            })
            .collect())
    }

    /// How the keys of these people stand. Their secrets are not the owner's to see: it is asked with their eyes, and no more is told.
    async fn person_states(
        &self,
        deployment_id: Uuid,
        users: &[Uuid],
    ) -> Result<HashMap<Uuid, PersonState>> {
        let soon = OffsetDateTime::now_utc() + Duration::days(DUE_DAYS);
        let whose: Vec<(Uuid, Uuid)> = users.iter().map(|user| (deployment_id, *user)).collect();
        let keys = self.callers_keys(&whose).await?;
        let states = users.iter().zip(keys).map(|(user, keys)| {
            let state = match keys {
                keys if keys.versions.is_none() => PersonState::Missing,
                keys if keys.is_refused => PersonState::Refused,
                keys if keys.expires_at.is_some_and(|at| at < soon) => PersonState::Expiring,
                _ => PersonState::Connected,
            };
            (*user, state)
        });
        Ok(states.collect())
    }
}

fn shared(name: &DeploymentName) -> Refusal {
    Refusal::invalid(
        "deployment",
        format!("{name} runs with its owner’s secrets alone: there is nothing to connect."),
    )
}

/// None when there is no such deployment that the caller may call.
pub(super) async fn page(
    tx: &mut Transaction<'static, Postgres>,
    caller: &Caller,
    name: &DeploymentName,
) -> Result<Option<ConnectPage>> {
    let user_id = connector(caller)?;
    sqlx::query!(
        "select set_config('sealport.connecting', $1, true)",
        name.as_str()
    )
    .fetch_one(&mut **tx)
    .await?;
    let row = sqlx::query!(
        "select d.id, d.terms, d.source, d.start, d.target, d.options, d.state, o.handle \
         from deployments d join owners o on o.id = d.owner_id where d.name = $1 and may_connect(d.owner_id, d.id)",
        name.as_str(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let unreadable = || Error::broken("a deployment's row does not read");
    let start: StartPlan = serde_json::from_value(row.start).map_err(|_| unreadable())?;
    let options: BTreeMap<String, String> =
        serde_json::from_value(row.options).map_err(|_| unreadable())?;
    let mut page = ConnectPage {
        id: row.id,
        terms: row.terms,
        name: name.clone(),
        owner: row.handle,
        source: Source::parse(&row.source)?,
        target: Target::from_name(&row.target).ok_or_else(unreadable)?,
        command: start.spoken(),
        network: GuestLimits::of(&options).unwrap_or_default().network,
        state: DeploymentState::from_name(&row.state).ok_or_else(unreadable)?,
        slots: Vec::new(),
        changes: Vec::new(),
        refused_at: None,
    };
    if let Some(was) = fill(tx, user_id, &mut page).await? {
        let was: Agreed = serde_json::from_value(was).map_err(|_| unreadable())?;
        page.changes = was.changes(&agreed(&page));
    }
    Ok(Some(page))
}

/// What is asked for, and how it stands. Returns what was agreed to before, where that was something else.
async fn fill(
    tx: &mut Transaction<'static, Postgres>,
    user_id: Uuid,
    page: &mut ConnectPage,
) -> Result<Option<serde_json::Value>> {
    let declared = sqlx::query!(
        r#"select b.env, b.description, c.secret_id as "secret_id?", c.terms as "terms?", c.agreed as "agreed?",
             c.refused_at, c.refused_version
           from bindings b left join connections c on c.deployment_id = b.deployment_id and c.env = b.env and c.user_id = $2
           where b.deployment_id = $1 and b.per_user order by b.env"#,
        page.id,
        user_id,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut was = None;
    let mut refused = Vec::with_capacity(declared.len());
    for one in declared {
        let env = EnvName::stored(&one.env)?;
        let path = SecretPath::parse(&format!("service/{}/{env}", page.name))?;
        let kept = kept(tx, user_id, one.secret_id, &path).await?;
        let state = match &kept {
            None => SlotState::Missing,
            Some(_) if one.terms.is_none() => SlotState::Kept,
            Some(_) if one.terms != Some(page.terms) => {
                was = one.agreed.or(was);
                SlotState::Changed
            }
            Some(kept) => kept.state(),
        };
        let version = kept.as_ref().map(|kept| kept.version);
        refused.push(one.refused_at.filter(|_| one.refused_version == version));
        page.slots.push(Slot {
            env,
            description: one.description,
            path: kept
                .as_ref()
                .map_or(path, |kept| damage::path_of(kept.id, &kept.path)),
            state,
            secret_id: kept.as_ref().map(|kept| kept.id),
            expires_at: kept.and_then(|kept| kept.expires_at),
        });
    }
    // Those very values, all of them: with another beside it, none of them was tried yet.
    page.refused_at = match refused.iter().all(Option::is_some) && page.is_connected() {
        true => refused.into_iter().flatten().max(),
        false => None,
    };
    if page.refused_at.is_some() {
        for slot in &mut page.slots {
            slot.state = SlotState::Refused;
        }
    }
    Ok(was)
}

/// A caller's secret for a slot.
struct Kept {
    id: Uuid,
    path: String,
    version: i32,
    active: bool,
    expires_at: Option<OffsetDateTime>,
}

impl Kept {
    fn state(&self) -> SlotState {
        let now = OffsetDateTime::now_utc();
        match self.expires_at {
            Some(at) if at <= now => SlotState::Expired,
            _ if !self.active => SlotState::Off,
            Some(at) if at - now < Duration::days(DUE_DAYS) => SlotState::Expiring,
            _ => SlotState::Connected,
        }
    }
}

/// The one that is connected, else what stands under the path.
async fn kept(
    tx: &mut Transaction<'static, Postgres>,
    user_id: Uuid,
    connected: Option<Uuid>,
    path: &SecretPath,
) -> Result<Option<Kept>> {
    Ok(match connected {
        Some(id) => {
            sqlx::query_as!(
                Kept,
                "select id, path, version, active, expires_at from secrets where owner_id = $1 and id = $2",
                user_id,
                id,
            )
            .fetch_optional(&mut **tx)
            .await?
        }
        None => {
            sqlx::query_as!(
                Kept,
                r#"select id, path, version, active, expires_at from secrets where owner_id = $1 and path_key = lower($2 collate "C")"#,
                user_id,
                path.as_str(),
            )
            .fetch_optional(&mut **tx)
            .await?
        }
    })
}

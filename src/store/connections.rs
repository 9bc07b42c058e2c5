//! Callers' own keys of per-user deployments. A key is a secret of the caller's, kept for use only, and used by a deployment only after
//! its caller connected it, for as long as the deployment is what they agreed to.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::drafts::storable;
use super::keys::{Place, Sealed};
use super::secret_put::{Expected, SecretPut};
use super::secrets::NewValue;
use super::{Db, Error, Result, damage};
use crate::model::actors::{Actor, Caller, Origin};
use crate::model::audit::Action;
use crate::model::connections::{Agreed, ConnectPage, ConnectedPerson, Slot, SlotState};
use crate::model::deployments::DeploymentState;
use crate::model::due::DUE_DAYS;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, KeyPath, SecretPath};
use crate::model::sources::Source;
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
        let user_id = connector(caller)?;
        let seen = self.connect_page(caller, name).await?;
        let terms = terms.unwrap_or(seen.terms);
        if terms != seen.terms {
            return Err(changed(name).into());
        }
        let slot = slot_of(&seen, env)?;
        let secret_id = match (value, slot.secret_id) {
            (Some(value), _) => self.keep(caller, slot, value).await?,
            (None, Some(id)) => id,
            (None, None) => {
                let says = format!("No value of yours is kept for {env}. Give one.");
                return Err(Refusal::invalid("value", says).into());
            }
        };
        let mut tx = self.begin_as(caller).await?;
        let Some(now) = page(&mut tx, caller, name)
            .await?
            .filter(|now| now.terms == terms)
        else {
            tx.rollback().await?;
            return Err(changed(name).into());
        };
        let kept = sqlx::query_scalar!(
            "update secrets set use_only = true where id = $1 and owner_id = $2 returning path",
            secret_id,
            user_id,
        )
        .fetch_optional(&mut *tx)
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
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() != 1 {
            tx.rollback().await?;
            return Err(changed(name).into());
        }
        let entry = Entry {
            owner_id: Some(user_id),
            secret: Some((secret_id, &damage::path_of(secret_id, &kept))),
            deployment: Some(name.as_str()),
            ..Entry::of(Action::ConnectionMake)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
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

    /// Who has connected keys, for whoever may change the deployment; nobody for others. Never with what.
    pub async fn connected_people(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<Vec<ConnectedPerson>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let people = sqlx::query_as!(
            ConnectedPerson,
            r#"select o.handle, min(c.connected_at) as "since!",
                 count(*) filter (where c.terms = d.terms)
                   = (select count(*) from bindings b where b.deployment_id = d.id and b.per_user) as "is_whole!"
               from deployments d
               join connections c on c.deployment_id = d.id
               join owners o on o.id = c.user_id and o.ended_at is null
               where d.name = $1 and reach(d.owner_id, 'deployment', d.id, coalesce(d.folder, '')) >= 3
               group by o.handle, d.id, d.terms order by 2, 1 limit $2"#,
            name.as_str(),
            PEOPLE_LISTED,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(people)
    }

    /// Opens a caller's own values for an instance of theirs: just those versions that the gateway named, with the rights of now, and on
    /// record before a value is returned. Errors: `Conflict` when something is another by now; `Denied` for a value that does not open.
    pub async fn connections_open(
        &self,
        deployment_id: Uuid,
        user_id: Uuid,
        versions: &str,
    ) -> Result<Vec<(EnvName, SecretString)>> {
        let caller = Caller {
            actor: Actor::Deployment {
                id: deployment_id,
                owner_id: user_id,
            },
            origin: Origin::default(),
        };
        let mut tx = self.begin_as(&caller).await?;
        let rows = sqlx::query!(
            r#"select d.name, d.terms, b.env, s.id, s.path, s.version, v.sealed
               from deployments d
               join bindings b on b.deployment_id = d.id and b.per_user
               join connections c on c.deployment_id = d.id and c.user_id = $2 and c.env = b.env and c.terms = d.terms
               join secrets s on s.id = c.secret_id and s.owner_id = $2 and s.active and (s.expires_at is null or s.expires_at > now())
               join secret_versions v on v.secret_id = s.id and v.version = s.version
               where d.id = $1 order by b.env"#,
            deployment_id,
            user_id,
        )
        .fetch_all(&mut *tx)
        .await?;
        let terms = rows.first().map(|row| row.terms.to_string());
        let keys = rows
            .iter()
            .map(|row| format!("{}={}@{}", row.env, row.id, row.version));
        let now: Vec<String> = terms.into_iter().chain(keys).collect();
        if now.join(" ") != versions {
            tx.rollback().await?;
            let says = "Your keys for this server were changed a moment ago. Call again.";
            return Err(Refusal::new(RefusalKind::Conflict, says).into());
        }
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows {
            let place = Place {
                owner_id: user_id,
                secret_id: row.id,
                version: row.version,
            };
            let path = damage::path_of(row.id, &row.path);
            let entry = Entry {
                owner_id: Some(user_id),
                secret: Some((row.id, &path)),
                version: Some(row.version),
                deployment: Some(&row.name),
                ..Entry::of(Action::SecretBind)
            };
            let value = match self.unseal(&mut tx, place, &Sealed(row.sealed)).await {
                Err(error) if error.is_damage() => {
                    tx.rollback().await?;
                    let says = format!(
                        "Your value of {} is damaged: it does not open with its key. Replace it.",
                        row.env
                    );
                    let refusal = Refusal::new(RefusalKind::Denied, says);
                    return self
                        .refuse_on_record(&caller, entry, damage::REASON, refusal)
                        .await;
                }
                value => value?,
            };
            audit::record(&mut tx, &caller, entry).await?;
            opened.push((EnvName::stored(&row.env)?, value));
        }
        // No record, no value: what is opened leaves only after this.
        tx.commit().await?;
        Ok(opened)
    }

    /// A new value under the slot's path. Returns the secret.
    async fn keep(&self, caller: &Caller, slot: &Slot, value: NewValue) -> Result<Uuid> {
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
        Ok(self.secret_put(caller, &key, put).await?.id)
    }
}

/// The person whose keys they are. Errors: `Unauthenticated`; `Denied` for a token that acts for a team.
fn connector(caller: &Caller) -> Result<Uuid> {
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

fn shared(name: &DeploymentName) -> Refusal {
    Refusal::invalid(
        "deployment",
        format!("{name} runs with its owner’s secrets alone: there is nothing to connect."),
    )
}

fn changed(name: &DeploymentName) -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        format!("{name} was changed while you looked at it. Look at what it is now, then connect."),
    )
}

fn agreed(page: &ConnectPage) -> Agreed {
    Agreed {
        owner: page.owner.clone(),
        source: page.source.to_string(),
        target: page.target,
        names: page.slots.iter().map(|slot| slot.env.clone()).collect(),
    }
}

/// None when there is no such deployment that the caller may call.
async fn page(
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
        "select d.id, d.terms, d.source, d.target, d.state, o.handle from deployments d join owners o on o.id = d.owner_id \
         where d.name = $1 and may_connect(d.owner_id, d.id)",
        name.as_str(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let declared = sqlx::query!(
        r#"select b.env, b.description, c.secret_id as "secret_id?", c.terms as "terms?", c.agreed as "agreed?"
           from bindings b left join connections c on c.deployment_id = b.deployment_id and c.env = b.env and c.user_id = $2
           where b.deployment_id = $1 and b.per_user order by b.env"#,
        row.id,
        user_id,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut slots = Vec::with_capacity(declared.len());
    let mut was = None;
    for one in declared {
        let env = EnvName::stored(&one.env)?;
        let path = SecretPath::parse(&format!("service/{name}/{env}"))?;
        let kept = kept(tx, user_id, one.secret_id, &path).await?;
        let state = match &kept {
            None => SlotState::Missing,
            Some(_) if one.terms.is_none() => SlotState::Kept,
            Some(_) if one.terms != Some(row.terms) => {
                was = one.agreed.or(was);
                SlotState::Changed
            }
            Some(kept) => kept.state(),
        };
        slots.push(Slot {
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
    let unreadable = || Error::broken("a deployment's row does not read");
    let mut page = ConnectPage {
        id: row.id,
        terms: row.terms,
        name: name.clone(),
        owner: row.handle,
        source: Source::parse(&row.source)?,
        target: Target::from_name(&row.target).ok_or_else(unreadable)?,
        state: DeploymentState::from_name(&row.state).ok_or_else(unreadable)?,
        slots,
        changes: Vec::new(),
    };
    if let Some(was) = was {
        let was: Agreed = serde_json::from_value(was).map_err(|_| unreadable())?;
        page.changes = was.changes(&agreed(&page));
    }
    Ok(Some(page))
}

/// A caller's secret for a slot.
struct Kept {
    id: Uuid,
    path: String,
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
                "select id, path, active, expires_at from secrets where owner_id = $1 and id = $2",
                user_id,
                id,
            )
            .fetch_optional(&mut **tx)
            .await?
        }
        None => {
            sqlx::query_as!(
                Kept,
                r#"select id, path, active, expires_at from secrets where owner_id = $1 and path_key = lower($2 collate "C")"#,
                user_id,
                path.as_str(),
            )
            .fetch_optional(&mut **tx)
            .await?
        }
    })
}

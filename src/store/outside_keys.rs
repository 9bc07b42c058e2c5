//! Keys that leave for the outside: to fetch a source, and to reach a provider. With the rights that somebody has at this moment, on
//! record, and committed before a value is returned.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::bindings::{BoundRow, GONE};
use super::deployments::person;
use super::{Db, Result, damage};
use crate::model::actors::{Actor, Caller, Origin};
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::targets::Target;

/// What a key is for, in its words.
struct Use {
    field: &'static str,
    /// As in "The secret with the key to fetch is gone."
    what: String,
    on_record: &'static str,
}

impl Use {
    fn to_fetch() -> Use {
        Use {
            field: "fetch_key",
            what: "The secret with the key to fetch".into(),
            on_record: "to fetch the source",
        }
    }

    fn to_reach(target: Target) -> Use {
        Use {
            field: "key",
            what: format!("The secret with the key of {}", target.title()),
            on_record: "to reach the provider",
        }
    }
}

impl Db {
    /// The same for somebody who asks to have a source looked at: that they may use the key at this moment, and that they send it there,
    /// goes on record before it is opened. Errors: `NotFound`, on record; as [`Db::fetch_key_open`].
    pub async fn fetch_key_open_to_look(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        secret_id: Uuid,
        source: &str,
    ) -> Result<SecretString> {
        let mut tx = self.begin_as(caller).await?;
        let key = sqlx::query!(
            "select s.owner_id, s.path, s.version from secrets s
             where s.id = $1 and usable_in(current_actor(), s.owner_id, s.id, s.path, '')",
            secret_id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(key) = key else {
            tx.rollback().await?;
            let entry = Entry::of(Action::SecretBind);
            let refusal = Refusal::not_found("secret").at("fetch_key");
            return self
                .refuse_on_record(caller, entry, "no such secret in sight", refusal)
                .await;
        };
        let path = damage::path_of(secret_id, &key.path);
        let entry = Entry {
            owner_id: Some(key.owner_id),
            secret: Some((secret_id, &path)),
            version: Some(key.version),
            reason: Some("asked to look at a source with it"),
            ..Entry::of(Action::SecretBind)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        self.fetch_key_open(owner_id, secret_id, source).await
    }

    /// Opens a fetch key with the rights of `user_id` (a draft's user or a deployment's owner), on record.
    /// `for_what` is the deployment's name, or its source as text; anything else counts as an inspection.
    /// Errors: `NotFound` or `Denied` as for a binding.
    pub async fn fetch_key_open(
        &self,
        user_id: Uuid,
        secret_id: Uuid,
        for_what: &str,
    ) -> Result<SecretString> {
        let mut tx = self.begin_as(&as_owner(Uuid::nil(), user_id)).await?;
        let deployment = sqlx::query!(
            "select id, name from deployments where (name = $1 or source = $1) and owner_id = $2 and fetch_key = $3 \
             order by (name = $1) desc, id limit 1",
            for_what.replace('\0', ""),
            user_id,
            secret_id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let caller = as_owner(deployment.as_ref().map_or(Uuid::nil(), |d| d.id), user_id);
        let name = deployment.map(|deployment| deployment.name);
        self.open_key(
            tx,
            &caller,
            user_id,
            secret_id,
            name.as_deref(),
            Use::to_fetch(),
        )
        .await
    }

    /// Opens the key of a deployment's provider with the rights of its owner, on record. Errors: `NotFound` when it names another, or
    /// none; `NotFound` or `Denied` as for a binding.
    pub async fn provider_key_open(
        &self,
        deployment_id: Uuid,
        owner_id: Uuid,
    ) -> Result<SecretString> {
        let caller = as_owner(deployment_id, owner_id);
        let mut tx = self.begin_as(&caller).await?;
        let found = sqlx::query!(
            "select name, target, provider_key from deployments where id = $1 and owner_id = $2",
            deployment_id,
            owner_id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let target = found
            .as_ref()
            .and_then(|found| Target::from_name(&found.target));
        let (Some(found), Some(target)) = (found, target) else {
            return Err(Refusal::not_found("deployment").into());
        };
        // A secret that was deleted is none.
        let secret_id = found.provider_key.unwrap_or_default();
        let to_reach = Use::to_reach(target);
        self.open_key(
            tx,
            &caller,
            owner_id,
            secret_id,
            Some(&found.name),
            to_reach,
        )
        .await
    }

    /// The same for somebody who asks what would be made there: with their own right to the key, on record.
    /// Errors: `NotFound` or `Denied` as for a binding.
    pub async fn provider_key_open_to_look(
        &self,
        caller: &Caller,
        secret_id: Uuid,
        target: Target,
        // The deployment that is meant, which need not be there yet.
        name: &str,
    ) -> Result<SecretString> {
        let tx = self.begin_as(caller).await?;
        let owner_id = person(caller)?.id;
        let to_look = Use {
            on_record: "asked what would be made at the provider",
            ..Use::to_reach(target)
        };
        self.open_key(tx, caller, owner_id, secret_id, Some(name), to_look)
            .await
    }

    /// The same for somebody who asks what the key can do, for no deployment: a right that is narrowed to some is not enough.
    /// Errors: `NotFound` or `Denied` as for a binding.
    pub async fn provider_key_open_to_check(
        &self,
        caller: &Caller,
        secret_id: Uuid,
        target: Target,
    ) -> Result<SecretString> {
        let tx = self.begin_as(caller).await?;
        let owner_id = person(caller)?.id;
        let to_check = Use {
            on_record: "to check what the key can do",
            ..Use::to_reach(target)
        };
        self.open_key(tx, caller, owner_id, secret_id, None, to_check)
            .await
    }

    async fn open_key(
        &self,
        mut tx: Transaction<'static, Postgres>,
        caller: &Caller,
        owner_id: Uuid,
        secret_id: Uuid,
        // A right that is narrowed to deployments holds for those alone.
        deployment: Option<&str>,
        what_for: Use,
    ) -> Result<SecretString> {
        let row = sqlx::query_as!(
            BoundRow,
            r#"select '' as "env!", null as "text?: String", s.path as secret_path, s.id as "secret_id?",
                 s.owner_id as "secret_owner_id?", s.path as "path?", s.active as "active?",
                 coalesce(s.expires_at <= now(), false) as "expired!", s.use_only, v.version as "version?", v.sealed as "sealed?",
                 false as "is_recorded!"
               from secrets s join secret_versions v on v.secret_id = s.id and v.version = s.version
               where s.id = $1 and usable_in(current_actor(), s.owner_id, s.id, s.path, $2)"#,
            secret_id,
            deployment.unwrap_or_default(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        let entry = Entry {
            owner_id: Some(owner_id),
            deployment,
            ..Entry::of(Action::SecretBind)
        };
        let lack = row.as_ref().map_or(Some(GONE), BoundRow::lack);
        let (Some(row), None) = (row, lack) else {
            tx.rollback().await?;
            let lack = lack.unwrap_or(GONE);
            let reason = Some(lack.reason);
            self.record_refusal(caller, Entry { reason, ..entry })
                .await?;
            return Err(
                Refusal::new(lack.kind, format!("{} {}.", what_for.what, lack.says))
                    .at(what_for.field)
                    .into(),
            );
        };
        let (place, path, sealed) = row.place()?;
        let entry = Entry {
            owner_id: Some(place.owner_id),
            secret: Some((place.secret_id, &path)),
            version: Some(place.version),
            ..entry
        };
        let value = match self.unseal(&mut tx, place, &sealed).await {
            Ok(value) => value,
            Err(error) if error.is_damage() => {
                tx.rollback().await?;
                let refusal =
                    damage::refusal(place.secret_id, place.version, &error).at(what_for.field);
                return self
                    .refuse_on_record(caller, entry, damage::REASON, refusal)
                    .await;
            }
            Err(error) => return Err(error),
        };
        let entry = Entry {
            reason: Some(what_for.on_record),
            ..entry
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(value)
    }
}

/// Acts for the owner, as the deployment does.
fn as_owner(deployment_id: Uuid, owner_id: Uuid) -> Caller {
    Caller {
        actor: Actor::Deployment {
            id: deployment_id,
            owner_id,
        },
        origin: Origin::default(),
    }
}

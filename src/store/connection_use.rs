//! Callers' own keys as instances use them: opened at a start, asked about while one runs, and noted when the far service refuses them.

use secrecy::SecretString;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::keys::{Place, Sealed};
use super::{Db, Error, Result, damage};
use crate::model::actors::{Actor, Caller, Job, Origin};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::EnvName;

/// What an instance of a caller's would run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallersKeysNow {
    /// As the gateway would say it; none where none would run, for a right or a key has ended.
    pub versions: Option<String>,
    /// The far service refused just that.
    pub is_refused: bool,
    /// When the first of it ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl Db {
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

    /// How the keys of these callers of these deployments stand now, in their order.
    pub async fn callers_keys(&self, whose: &[(Uuid, Uuid)]) -> Result<Vec<CallersKeysNow>> {
        let (deployments, callers): (Vec<Uuid>, Vec<Uuid>) = whose.iter().copied().unzip();
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let keys = sqlx::query_as!(
            CallersKeysNow,
            r#"select versions, coalesce(refused, false) as "is_refused!", expires_at from callers_keys($1, $2) order by place"#,
            &deployments,
            &callers,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.rollback().await?;
        Ok(keys)
    }

    /// Those of these deployments and callers for which anything is connected, whether or not it is used now.
    pub async fn callers_connected(&self, whose: &[(Uuid, Uuid)]) -> Result<Vec<(Uuid, Uuid)>> {
        let (deployments, callers): (Vec<Uuid>, Vec<Uuid>) = whose.iter().copied().unzip();
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let rows = sqlx::query!(
            "select distinct c.deployment_id, c.user_id from connections c \
             join unnest($1::uuid[], $2::uuid[]) as a (deployment, caller) on c.deployment_id = a.deployment and c.user_id = a.caller",
            &deployments,
            &callers,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let pairs = rows.into_iter().map(|row| (row.deployment_id, row.user_id));
        Ok(pairs.collect())
    }

    /// Notes that the far service refused what an instance ran with, or that a call passed since. Of keys that are others by now it
    /// says nothing.
    pub async fn connections_refused(
        &self,
        deployment_id: Uuid,
        user_id: Uuid,
        versions: &str,
        refused: bool,
    ) -> Result<()> {
        let used = Used::read(versions).ok_or_else(|| Error::broken("versions do not read"))?;
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update connections c set refused_at = case when $7 then now() end, refused_version = case when $7 then used.version end \
             from unnest($4::text[], $5::uuid[], $6::integer[]) as used (env, secret_id, version) \
             where c.deployment_id = $1 and c.user_id = $2 and c.terms = $3 and c.env = used.env and c.secret_id = used.secret_id \
               and case when $7 then c.refused_version is distinct from used.version else c.refused_version = used.version end",
            deployment_id,
            user_id,
            used.terms,
            &used.envs,
            &used.secret_ids,
            &used.versions,
            refused,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What an instance runs with, out of what the gateway says.
struct Used {
    terms: i32,
    envs: Vec<String>,
    secret_ids: Vec<Uuid>,
    versions: Vec<i32>,
}

impl Used {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut used = Used {
            terms: words.next()?.parse().ok()?,
            envs: Vec::new(),
            secret_ids: Vec::new(),
            versions: Vec::new(),
        };
        for word in words {
            let (env, key) = word.split_once('=')?;
            let (secret_id, version) = key.split_once('@')?;
            used.envs.push(env.to_owned());
            used.secret_ids.push(secret_id.parse().ok()?);
            used.versions.push(version.parse().ok()?);
        }
        Some(used)
    }
}

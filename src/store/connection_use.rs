//! Callers' own keys as instances use them: opened at a start, asked about while one runs, and noted when the far service refuses them.

use secrecy::SecretString;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::keys::{Place, Sealed};
use super::{Db, Result, damage};
use crate::model::actors::{Actor, Caller, Job, Origin};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::EnvName;

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

    /// With what an instance of each of these deployments and callers would run now, as the gateway would say it; none where it would
    /// not run, for a right or a key has ended. In their order.
    pub async fn callers_keys(&self, whose: &[(Uuid, Uuid)]) -> Result<Vec<Option<String>>> {
        let (deployments, callers): (Vec<Uuid>, Vec<Uuid>) = whose.iter().copied().unzip();
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let keys = sqlx::query_scalar!(
            "select versions from callers_keys($1, $2) order by place",
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
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update connections c set refused_at = case when $4 then now() end, refused_version = case when $4 then s.version end \
             from secrets s where c.deployment_id = $1 and c.user_id = $2 and s.id = c.secret_id \
               and c.terms::text = split_part($3, ' ', 1) \
               and c.env || '=' || s.id || '@' || s.version = any (string_to_array($3, ' ')) \
               and c.refused_version is distinct from case when $4 then s.version end",
            deployment_id,
            user_id,
            versions,
            refused,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

//! The opening of bindings: the one place where values leave for a deployment's start. With the rights that the owner has
//! at this moment, on record, and committed before a value is returned.

use secrecy::SecretString;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployment_checks::{VALUES_TOO_LONG, check_values_len, value_len_bytes};
use super::keys::{Place, Sealed};
use super::{Db, Error, Result, damage};
use crate::model::actors::{Actor, Caller, Origin};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{EnvName, SecretPath};

/// Values of other releases that are masked, at most.
const OTHERS_MASKED: i64 = 400;

/// The environment of a start: names and values, opened with the owner's rights at this moment.
pub struct OpenedBindings {
    /// Bound secrets and plain text, by env name.
    pub environment: Vec<(EnvName, SecretString)>,
    /// The values among them that are secrets: what is masked.
    pub secrets: Vec<SecretString>,
    /// Their names.
    pub secret_names: Vec<EnvName>,
}

impl Db {
    /// Opens the bindings for a start of a release: every bound secret's newest version at the release's first start, the recorded
    /// version at later starts of the same release. Recorded and committed before any value is returned.
    /// Errors: `Denied` or `NotFound` naming the env name and path that the owner may not use, is switched off, expired or gone;
    /// all of them when there are several. `Invalid` at `bindings` when the values are too long together.
    pub async fn bindings_open(
        &self,
        deployment_id: Uuid,
        owner_id: Uuid,
        number: i32,
    ) -> Result<OpenedBindings> {
        let caller = Caller {
            actor: Actor::Deployment {
                id: deployment_id,
                owner_id,
            },
            origin: Origin::default(),
        };
        let mut tx = self.begin_as(&caller).await?;
        let name = sqlx::query_scalar!(
            "select d.name from deployments d join releases r on r.deployment_id = d.id \
             where d.id = $1 and d.owner_id = $2 and r.number = $3",
            deployment_id,
            owner_id,
            number,
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Refusal::not_found("release"))?;
        let rows = bound(&mut tx, deployment_id, number).await?;
        let lacking: Vec<(&BoundRow, Lack)> = rows
            .iter()
            .filter_map(|row| Some((row, row.lack()?)))
            .collect();
        if !lacking.is_empty() {
            tx.rollback().await?;
            return Err(self
                .refuse_bindings(&caller, owner_id, &name, number, &lacking)
                .await?);
        }
        let lens = rows.iter().map(BoundRow::value_len_bytes);
        if let Err(refusal) = check_values_len(lens) {
            tx.rollback().await?;
            let entry = Entry {
                owner_id: Some(owner_id),
                deployment: Some(&name),
                release: Some(number),
                ..Entry::of(Action::SecretBind)
            };
            return self
                .refuse_on_record(&caller, entry, VALUES_TOO_LONG, refusal)
                .await;
        }
        let mut opened = OpenedBindings {
            environment: Vec::with_capacity(rows.len()),
            secrets: Vec::new(),
            secret_names: Vec::new(),
        };
        for row in rows {
            let env = EnvName::parse(&row.env)?;
            let value = match &row.text {
                Some(text) => SecretString::from(text.clone()),
                None => {
                    let value = self
                        .open_bound(&mut tx, &caller, &name, deployment_id, number, &row)
                        .await;
                    let value = match value {
                        Err(error) if error.is_damage() => {
                            tx.rollback().await?;
                            let lacking = [(&row, DAMAGED)];
                            return Err(self
                                .refuse_bindings(&caller, owner_id, &name, number, &lacking)
                                .await?);
                        }
                        value => value?,
                    };
                    opened.secrets.push(value.clone());
                    opened.secret_names.push(env.clone());
                    value
                }
            };
            opened.environment.push((env, value));
        }
        // No record, no value: what is opened leaves only after this.
        tx.commit().await?;
        Ok(opened)
    }

    /// The values that a server at a provider may still have of other releases: of the one that is live, and of those after it, which
    /// failed, perhaps after they were set there. To be masked beside its own; each is on record. What the owner may not use any more is
    /// left out.
    pub async fn bindings_open_to_mask(
        &self,
        deployment_id: Uuid,
        owner_id: Uuid,
        number: i32,
    ) -> Result<Vec<SecretString>> {
        let caller = Caller {
            actor: Actor::Deployment {
                id: deployment_id,
                owner_id,
            },
            origin: Origin::default(),
        };
        let mut tx = self.begin_as(&caller).await?;
        let rows = sqlx::query!(
            r#"select distinct on (rb.secret_id, rb.version) rb.number, rb.version, d.name, s.id, s.owner_id, s.path, v.sealed
               from release_bindings rb
               join deployments d on d.id = rb.deployment_id
               join secrets s on s.id = rb.secret_id and usable_in(current_actor(), s.owner_id, s.id, s.path, d.name)
               join secret_versions v on v.secret_id = s.id and v.version = rb.version and octet_length(v.sealed) > 0
               where rb.deployment_id = $1 and rb.number <> $2
                 and rb.number >= coalesce((select max(r.number) from releases r where r.deployment_id = $1 and r.state = 'live'), 0)
                 and not exists (
                   select 1 from release_bindings own
                   where own.deployment_id = $1 and own.number = $2 and own.secret_id = rb.secret_id and own.version = rb.version)
               order by rb.secret_id, rb.version, rb.number limit $3"#,
            deployment_id,
            number,
            OTHERS_MASKED,
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            let place = Place {
                owner_id: row.owner_id,
                secret_id: row.id,
                version: row.version,
            };
            let path = damage::path_of(row.id, &row.path);
            let value = match self.unseal(&mut tx, place, &Sealed(row.sealed)).await {
                Ok(value) => value,
                // It did not open then either.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            let entry = Entry {
                owner_id: Some(row.owner_id),
                secret: Some((row.id, &path)),
                version: Some(row.version),
                deployment: Some(&row.name),
                release: Some(row.number),
                reason: Some("to mask it"),
                ..Entry::of(Action::SecretBind)
            };
            audit::record(&mut tx, &caller, entry).await?;
            values.push(value);
        }
        tx.commit().await?;
        Ok(values)
    }

    /// Opens one bound secret, notes its version for the release and puts the access on record.
    async fn open_bound(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        caller: &Caller,
        name: &str,
        deployment_id: Uuid,
        number: i32,
        row: &BoundRow,
    ) -> Result<SecretString> {
        let (place, path, sealed) = row.place()?;
        let value = self.unseal(tx, place, &sealed).await?;
        if !row.is_recorded {
            sqlx::query!(
                "insert into release_bindings (deployment_id, owner_id, number, env, secret_id, path, version) \
                 select d.id, d.owner_id, $2, $3, $4, $5, $6 from deployments d where d.id = $1",
                deployment_id,
                number,
                row.env,
                place.secret_id,
                path.as_str(),
                place.version,
            )
            .execute(&mut **tx)
            .await?;
        }
        let entry = Entry {
            owner_id: Some(place.owner_id),
            secret: Some((place.secret_id, &path)),
            version: Some(place.version),
            deployment: Some(name),
            release: Some(number),
            ..Entry::of(Action::SecretBind)
        };
        audit::record(tx, caller, entry).await?;
        Ok(value)
    }

    /// Puts every binding that does not open on record and says them all.
    async fn refuse_bindings(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        name: &str,
        number: i32,
        lacking: &[(&BoundRow, Lack)],
    ) -> Result<Error> {
        let mut says = Vec::new();
        let mut kind = RefusalKind::Denied;
        for (row, lack) in lacking {
            let path = SecretPath::parse(row.secret_path.as_deref().unwrap_or_default()).ok();
            let entry = Entry {
                owner_id: Some(row.secret_owner_id.unwrap_or(owner_id)),
                secret: row.secret_id.zip(path.as_ref()),
                version: row.version,
                deployment: Some(name),
                release: Some(number),
                reason: Some(lack.reason),
                ..Entry::of(Action::SecretBind)
            };
            self.record_refusal(caller, entry).await?;
            kind = lack.kind;
            says.push(format!(
                "{} needs the secret {}, which {}.",
                row.env,
                row.path
                    .as_ref()
                    .or(row.secret_path.as_ref())
                    .map_or("", String::as_str),
                lack.says
            ));
        }
        Ok(Refusal::new(kind, says.join(" ")).into())
    }
}

/// A binding with what it leads to under the owner's rights.
pub(super) struct BoundRow {
    pub env: String,
    pub text: Option<String>,
    /// The path when it was bound.
    pub secret_path: Option<String>,
    pub secret_id: Option<Uuid>,
    pub secret_owner_id: Option<Uuid>,
    /// The path now.
    pub path: Option<String>,
    pub active: Option<bool>,
    pub expired: bool,
    /// Its person gave it to another deployment, and to nobody else.
    pub use_only: bool,
    pub version: Option<i32>,
    pub sealed: Option<Vec<u8>>,
    /// The release used this secret at an earlier start.
    pub is_recorded: bool,
}

/// Why a binding does not open.
#[derive(Clone, Copy)]
pub(super) struct Lack {
    pub kind: RefusalKind,
    pub says: &'static str,
    pub reason: &'static str,
}

pub(super) const GONE: Lack = Lack {
    kind: RefusalKind::NotFound,
    says: "is gone, or not yours to use any more",
    reason: "the secret is gone or no longer usable",
};
const OFF: Lack = Lack {
    kind: RefusalKind::Denied,
    says: "is switched off",
    reason: "the secret is switched off",
};
const FOR_USE_ONLY: Lack = Lack {
    kind: RefusalKind::Denied,
    says: "was connected to a deployment for that one’s use only. Bind another secret",
    reason: "the secret is for use only",
};
const EXPIRED: Lack = Lack {
    kind: RefusalKind::Denied,
    says: "has expired",
    reason: "the secret has expired",
};

const DAMAGED: Lack = Lack {
    kind: RefusalKind::Conflict,
    says: "is damaged: it does not open with its key. Replace its value, or bring it back from a backup",
    reason: damage::REASON,
};
const DESTROYED: Lack = Lack {
    kind: RefusalKind::Denied,
    says: "was destroyed in the version that this release runs with. Redeploy to take the newest",
    reason: "the version was destroyed",
};

impl BoundRow {
    pub(super) fn lack(&self) -> Option<Lack> {
        if self.text.is_some() {
            None
        } else if self.path.is_none() {
            Some(GONE)
        } else if self.use_only {
            Some(FOR_USE_ONLY)
        } else if self.expired {
            Some(EXPIRED)
        } else if self.active != Some(true) {
            Some(OFF)
        } else if self.sealed.as_ref().is_none_or(Vec::is_empty) {
            Some(DESTROYED)
        } else {
            None
        }
    }

    fn value_len_bytes(&self) -> usize {
        match (&self.text, &self.sealed) {
            (Some(text), _) => text.len(),
            (None, Some(sealed)) => value_len_bytes(sealed.len()),
            (None, None) => 0,
        }
    }

    pub(super) fn place(&self) -> Result<(Place, SecretPath, Sealed)> {
        match (
            self.secret_owner_id,
            self.secret_id,
            self.version,
            &self.path,
            &self.sealed,
        ) {
            (Some(owner_id), Some(secret_id), Some(version), Some(path), Some(sealed)) => Ok((
                Place {
                    owner_id,
                    secret_id,
                    version,
                },
                damage::path_of(secret_id, path),
                Sealed(sealed.clone()),
            )),
            _ => Err(Error::broken("a binding leads to no secret")),
        }
    }
}

/// All bindings in one statement, so that they are of one moment. The reading itself is under Row Level Security; `usable_in` is
/// asked as well, for `use` can be narrowed to named deployments.
async fn bound(
    tx: &mut Transaction<'_, Postgres>,
    deployment_id: Uuid,
    number: i32,
) -> Result<Vec<BoundRow>> {
    Ok(sqlx::query_as!(
        BoundRow,
        r#"select b.env, b.text, b.secret_path, b.secret_id,
             s.owner_id as "secret_owner_id?", s.path as "path?", s.active as "active?",
             coalesce(s.expires_at <= now(), false) as "expired!", coalesce(s.use_only, false) as "use_only!",
             v.version as "version?", v.sealed as "sealed?",
             (rb.version is not null) as "is_recorded!"
           from bindings b
           join deployments d on d.id = b.deployment_id
           left join secrets s on s.id = b.secret_id and usable_in(current_actor(), s.owner_id, s.id, s.path, d.name)
           left join release_bindings rb on rb.deployment_id = b.deployment_id and rb.number = $2
             and rb.env = b.env and rb.secret_id = b.secret_id
           left join secret_versions v on v.secret_id = s.id and v.version = coalesce(rb.version, s.version)
           where b.deployment_id = $1 and not b.per_user order by b.env"#,
        deployment_id,
        number,
    )
    .fetch_all(&mut **tx)
    .await?)
}

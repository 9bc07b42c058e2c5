//! Imports: a file of variables is planned, waits sealed while its person decides, and is applied all or nothing.

pub mod entries;
mod plan;

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use self::plan::{Found, Plan, Planned};
use super::audit::{self, Entry};
use super::deployments::person;
use super::error::OnConstraint;
use super::keyring::ImportPlace;
use super::keys::{Place, Sealed};
use super::secret_versions::Made;
use super::secrets::path_taken;
use super::{Db, Error, Result, env_files};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::imports::{Destination, IMPORT_WAITS_MINUTES, Import, Imported};
use crate::model::levels::Level;
use crate::model::paths::SecretPath;
use crate::model::secrets::Kind;

impl Db {
    /// Reads a file, plans it under the folder, and keeps its values sealed until the person decides. An older one of theirs goes.
    /// Errors: `Invalid` at `file`.
    pub async fn import_keep(
        &self,
        caller: &Caller,
        under: &Destination,
        file: &[u8],
    ) -> Result<()> {
        let user = person(caller)?;
        let file = env_files::parse(file)?;
        let (plan, values) = self.import_plan(caller, user.id, under, file).await?;
        let place = ImportPlace {
            owner_id: user.id,
            import_id: Uuid::now_v7(),
        };
        let plan = serde_json::to_value(&plan)
            .map_err(|error| Error::caused("a plan cannot be written as JSON", error))?;
        let mut tx = self.begin_as(caller).await?;
        let sealed = self.seal_import(&mut tx, place, &packed(&values)?).await?;
        sqlx::query!(
            "insert into pending_imports (user_id, id, under, plan, sealed, expires_at)
             values ($1, $2, $3, $4, $5, now() + make_interval(mins => $6))
             on conflict (user_id) do update set id = excluded.id, under = excluded.under, plan = excluded.plan,
                 sealed = excluded.sealed, created_at = now(), expires_at = excluded.expires_at",
            user.id,
            place.import_id,
            under.as_str(),
            plan,
            sealed.0,
            IMPORT_WAITS_MINUTES
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The caller's import that waits, without its values.
    pub async fn import_waiting(&self, caller: &Caller) -> Result<Option<Import>> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query!(
            "select id, under, plan, expires_at from pending_imports where user_id = $1 and expires_at > now()",
            user.id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let plan = read(row.plan)?;
        Ok(Some(Import {
            id: row.id,
            under: Destination::parse(&row.under)?,
            format: plan.format,
            lines: plan.lines.into_iter().map(|planned| planned.line).collect(),
            expires_at: row.expires_at,
        }))
    }

    /// Forgets an import that waits. Errors: `NotFound`.
    pub async fn import_drop(&self, caller: &Caller, id: Uuid) -> Result<()> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let dropped = sqlx::query!(
            "delete from pending_imports where user_id = $1 and id = $2",
            user.id,
            id
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        match dropped {
            0 => Err(over().into()),
            _ => Ok(()),
        }
    }

    /// Adds and replaces what the lines in `take` say, each on record, or nothing at all; what is new is of this kind. Errors:
    /// `NotFound` when the import is over; `Invalid` at `take`; `Taken` and `Conflict` when what is stored is not any more as
    /// the plan says: then the import waits on.
    pub async fn import_apply(
        &self,
        caller: &Caller,
        id: Uuid,
        take: &BTreeSet<u32>,
        kind: Kind,
    ) -> Result<Imported> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        // Taken out in the same transaction: pressed twice, the second finds nothing.
        let row = sqlx::query!(
            "delete from pending_imports where user_id = $1 and id = $2 and expires_at > now() returning plan, sealed",
            user.id,
            id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(over)?;
        let plan = read(row.plan)?;
        let chosen = chosen(&plan, take)?;
        let place = ImportPlace {
            owner_id: user.id,
            import_id: id,
        };
        let opened = self
            .unseal_import(&mut tx, place, &Sealed(row.sealed))
            .await?;
        let values = unpacked(&opened)?;

        let left_out = plan.lines.len() - chosen.len();
        let done = self
            .import_lines(tx, caller, user.id, chosen, &values, kind)
            .await?;
        Ok(Imported { left_out, ..done })
    }

    /// Carries these lines out and ends the transaction, or rolls all of it back.
    async fn import_lines(
        &self,
        mut tx: Transaction<'static, Postgres>,
        caller: &Caller,
        owner_id: Uuid,
        chosen: Vec<Chosen<'_>>,
        values: &[SecretString],
        kind: Kind,
    ) -> Result<Imported> {
        let mut done = Imported::default();
        for line in chosen {
            let value = values
                .get(line.index)
                .ok_or_else(|| Error::broken("an import has fewer values than lines"))?;
            let applied = match line.found {
                None => {
                    self.import_new(&mut tx, caller, owner_id, &line, value, kind)
                        .await
                }
                Some(found) => {
                    self.import_over(&mut tx, caller, owner_id, &line, value, found)
                        .await
                }
            };
            match applied {
                Ok(()) if line.found.is_none() => done.added += 1,
                Ok(()) => done.replaced += 1,
                Err(Error::Refused(refusal)) => {
                    tx.rollback().await?;
                    let (entry, reason) = line.refused(owner_id, &refusal);
                    return self.refuse_on_record(caller, entry, reason, refusal).await;
                }
                Err(error) => return Err(error),
            }
        }
        tx.commit().await?;
        Ok(done)
    }

    async fn import_new(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        caller: &Caller,
        owner_id: Uuid,
        line: &Chosen<'_>,
        value: &SecretString,
        kind: Kind,
    ) -> Result<()> {
        let id = Uuid::now_v7();
        sqlx::query!(
            "insert into secrets (id, owner_id, path, kind, version) values ($1, $2, $3, $4, 1)",
            id,
            owner_id,
            line.path.as_str(),
            kind.as_str()
        )
        .execute(&mut **tx)
        .await
        .on_constraint("secrets_path_key", path_taken)
        .map_err(|error| line.moved_on(error))?;
        let found = Found { id, version: 1 };
        self.import_version(tx, caller, owner_id, line, value, found)
            .await
    }

    async fn import_over(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        caller: &Caller,
        owner_id: Uuid,
        line: &Chosen<'_>,
        value: &SecretString,
        found: Found,
    ) -> Result<()> {
        // Also not one that was renamed since: the person chose to replace what is under this path.
        let version = sqlx::query_scalar!(
            "update secrets set version = version + 1, changed_at = now()
             where id = $1 and version = $2 and path = $3 and reach(owner_id, 'secret', id, path) >= $4 returning version",
            found.id,
            found.version,
            line.path.as_str(),
            Level::Write.number()
        )
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| line.moved_on(Refusal::new(RefusalKind::Conflict, "").into()))?;
        let found = Found { version, ..found };
        self.import_version(tx, caller, owner_id, line, value, found)
            .await
    }

    async fn import_version(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        caller: &Caller,
        owner_id: Uuid,
        line: &Chosen<'_>,
        value: &SecretString,
        made: Found,
    ) -> Result<()> {
        let place = Place {
            owner_id,
            secret_id: made.id,
            version: made.version,
        };
        self.add_version(tx, caller, place, value, Made::default())
            .await?;
        let entry = Entry {
            secret: Some((made.id, line.path)),
            version: Some(made.version),
            reason: Some("imported"),
            ..line.entry(owner_id)
        };
        audit::record(tx, caller, entry).await
    }
}

/// On record where a line takes a right that the caller does not have.
const NO_RIGHT: &str = "no right to make it";

/// A line that shall be applied.
struct Chosen<'a> {
    index: usize,
    at: u32,
    path: &'a SecretPath,
    found: Option<Found>,
}

impl Chosen<'_> {
    fn entry(&self, owner_id: Uuid) -> Entry<'_> {
        let action = match self.found {
            None => Action::SecretCreate,
            Some(_) => Action::SecretReplace,
        };
        Entry {
            owner_id: Some(owner_id),
            secret: self.found.map(|found| (found.id, self.path)),
            ..Entry::of(action)
        }
    }

    fn refused(&self, owner_id: Uuid, refusal: &Refusal) -> (Entry<'_>, &'static str) {
        let reason = match refusal.kind {
            RefusalKind::Taken => "path in use",
            RefusalKind::Conflict => "newer version exists",
            RefusalKind::Denied => NO_RIGHT,
            _ => "the import was refused",
        };
        (self.entry(owner_id), reason)
    }

    /// Says which line it is about, and that nothing was done.
    fn moved_on(&self, error: Error) -> Error {
        match error {
            Error::Refused(refusal) if refusal.kind == RefusalKind::Denied => Refusal::new(
                refusal.kind,
                format!(
                    "{} (line {}) is not yours to store any more: that takes write. Nothing was imported. Leave this line out, or \
                     start over.",
                    self.path, self.at
                ),
            )
            .into(),
            Error::Refused(refusal) => Refusal::new(
                refusal.kind,
                format!(
                    "{} (line {}) was added, replaced, renamed or deleted by someone meanwhile. Nothing was imported. Leave this \
                     line out, or start over to see what is stored now.",
                    self.path, self.at
                ),
            )
            .into(),
            error => error,
        }
    }
}

/// The lines to take, in the order of their paths, so that two imports never wait for each other.
fn chosen<'a>(plan: &'a Plan, take: &BTreeSet<u32>) -> Result<Vec<Chosen<'a>>, Refusal> {
    let refuse = |detail: String| Err(Refusal::invalid("take", detail));
    let mut chosen = Vec::new();
    for (index, Planned { line, found, .. }) in plan.lines.iter().enumerate() {
        match &line.path {
            Some(path) if take.contains(&line.at) && line.can_be_taken() => chosen.push(Chosen {
                index,
                at: line.at,
                path,
                found: *found,
            }),
            _ => {}
        }
    }
    if chosen.is_empty() {
        return refuse("Tick at least one line.".into());
    }
    if chosen.len() != take.len() {
        return refuse("Only lines that are new or would replace can be imported.".into());
    }
    chosen.sort_by_key(|line| (line.path.as_str().to_ascii_lowercase(), line.at));
    for two in chosen.windows(2) {
        if two[0]
            .path
            .as_str()
            .eq_ignore_ascii_case(two[1].path.as_str())
        {
            let (a, b) = (two[0].at, two[1].at);
            return refuse(format!(
                "Lines {a} and {b} have the same path. Tick one of them."
            ));
        }
    }
    Ok(chosen)
}

fn packed(values: &[SecretString]) -> Result<SecretString> {
    let texts: Vec<&str> = values.iter().map(ExposeSecret::expose_secret).collect();
    serde_json::to_string(&texts)
        .map(SecretString::from)
        .map_err(|_| Error::broken("the values of an import cannot be packed"))
}

fn unpacked(values: &SecretString) -> Result<Vec<SecretString>> {
    // The parser's own words would quote what it read.
    serde_json::from_str(values.expose_secret())
        .map_err(|_| Error::broken("the values of an import cannot be unpacked"))
}

fn read(plan: serde_json::Value) -> Result<Plan> {
    serde_json::from_value(plan).map_err(|error| Error::caused("a plan does not read", error))
}

fn over() -> Refusal {
    let mut refusal = Refusal::not_found("import");
    refusal.detail.push_str(&format!(
        " One that was done or taken back is over, and so is one that waited longer than {IMPORT_WAITS_MINUTES} minutes."
    ));
    refusal
}

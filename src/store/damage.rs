//! Damaged rows: a value that does not open with its key, a path that breaks the grammar. Each shows where it stands, and
//! everything else goes on.

use uuid::Uuid;

use super::audit::{self, Entry};
use super::keys::{Place, Sealed};
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::SecretPath;

/// For the record.
pub(super) const REASON: &str = "the version is damaged";
/// Versions that are opened before the next are read.
const PAGE: i64 = 100;
/// Damaged rows that are named; of more, the number is told.
const NAMED: usize = 50;

/// What a person is told who needs a value that does not open, and why not. The log names it for the operator.
pub(super) fn refusal(secret_id: Uuid, version: i32, error: &Error) -> Refusal {
    // The sentences of `unseal` say why after these words, and quote nothing.
    let why = match error {
        Error::Broken(said, _) => said.rsplit_once(" does not open: ").map(|(_, why)| why),
        Error::Refused(_) => None,
    };
    let why = why.unwrap_or_default();
    tracing::error!(secret = %secret_id, version, why, "a version does not open with its key");
    Refusal::new(
        RefusalKind::Conflict,
        format!(
            "Version {version} is damaged: it does not open with its key. Replace the value, or bring it back from a backup. \
             `sealport doctor` names all that is damaged. The reason: {why}"
        ),
    )
}

/// What a person is told whose values cannot be sealed.
pub(super) fn key_refusal(data_key_id: Uuid) -> Error {
    tracing::error!(data_key = %data_key_id, "a data key does not open with its master key");
    Refusal::new(
        RefusalKind::Unavailable,
        "Nothing can be sealed for this owner now: the owner's data key is damaged. An administrator brings it back from a backup; \
         docs/troubleshooting.md says how.",
    )
    .into()
}

/// The path as it is stored, or for one that breaks the grammar what stands in for it.
pub(super) fn path_of(secret_id: Uuid, stored: &str) -> SecretPath {
    SecretPath::parse(stored).unwrap_or_else(|_| {
        tracing::error!(secret = %secret_id, "a secret's path is malformed");
        SecretPath::stand_in(secret_id)
    })
}

/// What was found when every version was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Versions that were opened, or could not be.
    pub versions: u64,
    /// How many versions do not open, and how many paths are malformed.
    pub damaged: u64,
    /// The first of them, by owner, path and version.
    pub named: Vec<String>,
}

impl Damage {
    fn add(&mut self, name: String) {
        self.damaged += 1;
        if self.named.len() < NAMED {
            self.named.push(name);
        }
    }
}

impl Db {
    /// Opens every version of every secret, keeps none, and tells which do not open. On record before.
    pub async fn damage(&self) -> Result<Damage> {
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        audit::record(&mut tx, &operator, Entry::of(Action::StoreCheck)).await?;
        tx.commit().await?;
        let mut found = Damage::default();
        self.malformed_paths(&mut found).await?;
        // By owner, so that each data key is opened once.
        let mut after = (Uuid::nil(), Uuid::nil(), 0);
        loop {
            // A transaction a page: none is held for as long as all of it takes.
            let mut tx = self.begin_as(&Caller::job(Job::Backup)).await?;
            let rows = sqlx::query!(
                r#"select v.owner_id, v.secret_id, v.version, v.sealed, s.path, o.handle
                   from secret_versions v join secrets s on s.id = v.secret_id join owners o on o.id = v.owner_id
                   where v.destroyed_at is null and (v.owner_id, v.secret_id, v.version) > ($1, $2, $3)
                   order by v.owner_id, v.secret_id, v.version limit $4"#,
                after.0,
                after.1,
                after.2,
                PAGE
            )
            .fetch_all(&mut *tx)
            .await?;
            let Some(last) = rows.last() else {
                return Ok(found);
            };
            after = (last.owner_id, last.secret_id, last.version);
            for row in rows {
                let place = Place {
                    owner_id: row.owner_id,
                    secret_id: row.secret_id,
                    version: row.version,
                };
                found.versions += 1;
                match self.unseal(&mut tx, place, &Sealed(row.sealed)).await {
                    Ok(_) => {}
                    Err(error) if error.is_damage() => found.add(format!(
                        "{}:{}, version {}",
                        row.handle,
                        shown(&row.path),
                        row.version
                    )),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn malformed_paths(&self, found: &mut Damage) -> Result<()> {
        use futures::TryStreamExt;
        let mut tx = self.begin_as(&Caller::job(Job::Backup)).await?;
        let mut rows = sqlx::query!(
            "select s.id, s.path, o.handle from secrets s join owners o on o.id = s.owner_id order by s.id"
        )
        .fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            if SecretPath::parse(&row.path).is_err() {
                found.add(format!(
                    "{}:{}, whose path {:?} is malformed",
                    row.handle,
                    SecretPath::stand_in(row.id),
                    shown(&row.path)
                ));
            }
        }
        Ok(())
    }
}

/// As it is stored, without what a terminal would act on.
fn shown(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(255).collect()
}

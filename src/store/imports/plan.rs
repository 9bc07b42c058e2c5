//! What a file would do, line by line, against what is stored now.

use std::collections::{HashMap, HashSet};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::imports::{Destination, FileFormat, ImportLine, LineState, Note};
use crate::model::levels::Level;
use crate::model::paths::{EnvName, SecretPath};
use crate::store::audit::{self, Entry};
use crate::store::env_files::{EnvFile, Line};
use crate::store::keys::{Place, Sealed};
use crate::store::secret_values::{check_value, is_maskable, same};
use crate::store::secrets::compares;
use crate::store::{Db, Result};

/// A plan as it is kept: names and states, no value.
#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) format: FileFormat,
    pub(super) lines: Vec<Planned>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) line: ImportLine,
    /// What it would replace, as it was when this was planned.
    pub(super) found: Option<Found>,
    /// What the caller has no right to do there. Such a line is never taken, so it is not kept.
    #[serde(skip)]
    pub(super) denied: Option<Action>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) version: i32,
}

/// What is stored under a path of the file.
struct Stored {
    id: Uuid,
    path: String,
    version: i32,
    /// Neither switched off nor past its end.
    open: bool,
    level: i32,
}

impl Db {
    /// The plan and, line by line, the values; an empty one where a line has none. Comparing is on record and counts.
    pub(super) async fn import_plan(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        under: &Destination,
        file: EnvFile,
    ) -> Result<(Plan, Vec<SecretString>)> {
        let format = file.format;
        let (mut lines, values): (Vec<Planned>, Vec<SecretString>) = file
            .lines
            .into_iter()
            .map(|line| read_line(under, line))
            .unzip();
        let mut to_compare = Vec::new();
        let stored = self.stored_under(caller, owner_id, &lines).await?;
        for (index, planned) in lines.iter_mut().enumerate() {
            if planned.line.state == LineState::New
                && let Some(there) = stored.get(&planned.line.key())
            {
                planned.meets(there);
                let may = there.open && there.level >= Level::Read.number();
                if may && planned.line.state == LineState::Exists {
                    to_compare.push(index);
                }
            }
        }
        self.refuse_beyond(caller, owner_id, &mut lines).await?;
        self.compare_lines(caller, owner_id, &mut lines, &values, &to_compare)
            .await?;
        Ok((Plan { format, lines }, values))
    }

    /// Says of what is new where the caller may not store it.
    async fn refuse_beyond(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        lines: &mut [Planned],
    ) -> Result<()> {
        let new = |planned: &&mut Planned| planned.line.state == LineState::New;
        let mut new: Vec<&mut Planned> = lines.iter_mut().filter(new).collect();
        let paths: Vec<String> = new
            .iter()
            .filter_map(|planned| planned.line.path.as_ref().map(SecretPath::to_string))
            .collect();
        let mut tx = self.begin_as(caller).await?;
        let beyond: HashSet<String> = sqlx::query_scalar!(
            r#"select path as "path!" from unnest($2::text[]) as path where reach($1, 'secret', null, path) < $3"#,
            owner_id,
            &paths,
            Level::Write.number()
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .collect();
        tx.rollback().await?;
        new.retain(|planned| {
            let path = planned.line.path.as_ref();
            path.is_some_and(|path| beyond.contains(path.as_str()))
        });
        for planned in new {
            planned.line.state = invalid(
                "It is not yours to store there: that takes write, and a token with a folder stores under that alone.",
            );
            planned.denied = Some(Action::SecretCreate);
        }
        Ok(())
    }

    /// By path in small letters.
    async fn stored_under(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        lines: &[Planned],
    ) -> Result<HashMap<String, Stored>> {
        let keys: Vec<String> = lines.iter().map(|planned| planned.line.key()).collect();
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            Stored,
            r#"select id, path, version, reach(owner_id, 'secret', id, path) as "level!",
                      (active and coalesce(expires_at > now(), true)) as "open!"
               from secrets where owner_id = $1 and path_key = any($2)"#,
            owner_id,
            &keys
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.path.to_ascii_lowercase(), row))
            .collect())
    }

    /// Says of these lines whether the value is the stored one, within the limit of comparisons; past it they stay as they are.
    async fn compare_lines(
        &self,
        caller: &Caller,
        owner_id: Uuid,
        lines: &mut [Planned],
        values: &[SecretString],
        wanted: &[usize],
    ) -> Result<()> {
        let mut within = Vec::new();
        // Counting takes transactions of its own, and nobody holds two connections.
        for &index in wanted {
            let Some((found, path)) = lines[index].found_at() else {
                continue;
            };
            match self.limits_take(&[compares(caller, found.id)]).await? {
                Ok(_) => within.push(index),
                Err(full) if full.on_record => {
                    let entry = Entry {
                        reason: Some("too many comparisons"),
                        ..compared(owner_id, found, path)
                    };
                    self.record_refusal(caller, entry).await?;
                }
                Err(_) => {}
            }
        }
        if within.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_as(caller).await?;
        for index in within {
            let Some((found, path)) = lines[index].found_at() else {
                continue;
            };
            let newest = sqlx::query!(
                "select s.owner_id, s.version, v.sealed
                 from secrets s join secret_versions v on v.secret_id = s.id and v.version = s.version
                 where s.id = $1 and reach(s.owner_id, 'secret', s.id, s.path) >= $2
                   and s.active and coalesce(s.expires_at > now(), true)",
                found.id,
                Level::Read.number()
            )
            .fetch_optional(&mut *tx)
            .await?;
            let Some(newest) = newest else {
                continue;
            };
            let found = Found {
                version: newest.version,
                ..found
            };
            let place = Place {
                owner_id: newest.owner_id,
                secret_id: found.id,
                version: found.version,
            };
            // One that does not open is no reason to refuse the file; replacing is the way to mend it.
            let Ok(value) = self.unseal(&mut tx, place, &Sealed(newest.sealed)).await else {
                tracing::error!(secret = %found.id, "a secret's newest version does not open");
                continue;
            };
            audit::record(&mut tx, caller, compared(owner_id, found, path)).await?;
            lines[index].line.state = match same(&value, &values[index]) {
                true => LineState::Same,
                false => LineState::Different,
            };
            lines[index].found = Some(found);
        }
        tx.commit().await?;
        Ok(())
    }
}

fn compared<'a>(owner_id: Uuid, found: Found, path: &'a SecretPath) -> Entry<'a> {
    Entry {
        owner_id: Some(owner_id),
        secret: Some((found.id, path)),
        version: Some(found.version),
        reason: Some("for an import"),
        ..Entry::of(Action::SecretCompare)
    }
}

impl Planned {
    fn found_at(&self) -> Option<(Found, &SecretPath)> {
        self.found.zip(self.line.path.as_ref())
    }

    /// Something is stored there, perhaps in another case.
    fn meets(&mut self, there: &Stored) {
        if self.line.path.as_ref().map(SecretPath::as_str) != Some(&there.path) {
            self.line.state = invalid(format!(
                "{} is stored already, and differs only in upper and lower case.",
                there.path
            ));
        } else if there.level < Level::Write.number() {
            self.line.state =
                invalid("It is stored already, and not yours to replace: that takes write.");
            self.denied = Some(Action::SecretReplace);
        } else {
            self.line.state = LineState::Exists;
            self.found = Some(Found {
                id: there.id,
                version: there.version,
            });
            if !there.open {
                self.line.notes.push(Note::Closed);
            }
        }
    }
}

fn invalid(reason: impl Into<String>) -> LineState {
    LineState::Invalid {
        reason: reason.into(),
    }
}

/// A line by itself, and its value.
fn read_line(under: &Destination, line: Line) -> (Planned, SecretString) {
    let (path, state, notes, value) = match line.read {
        Err(unread) => {
            let path = unread.name.and_then(|name| under.join(&name).ok());
            (path, invalid(unread.reason), Vec::new(), None)
        }
        Ok(variable) => match under.join(&variable.name) {
            Err(refusal) => (None, invalid(refusal.detail), Vec::new(), None),
            Ok(path) => match check_value(&variable.value) {
                Err(refusal) => (Some(path), invalid(refusal.detail), Vec::new(), None),
                Ok(()) => {
                    let mut notes = variable.notes;
                    if !is_maskable(&variable.value) {
                        notes.push(Note::Short);
                    }
                    if EnvName::default_for(&path).is_err() {
                        notes.push(Note::Refused);
                    }
                    (Some(path), LineState::New, notes, Some(variable.value))
                }
            },
        },
    };
    let line = ImportLine {
        at: line.at,
        path,
        state,
        notes,
    };
    let planned = Planned {
        line,
        found: None,
        denied: None,
    };
    (planned, value.unwrap_or_default())
}

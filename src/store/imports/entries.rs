//! Imports by a program: entries that are planned and applied in one call, all or nothing.

use std::collections::BTreeSet;

use secrecy::SecretString;

use super::plan::{Plan, Planned};
use super::{NO_RIGHT, chosen, env_files};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::imports::{
    Destination, EntriesImported, EntryLine, EntryOutcome, IMPORT_LINES_MAX, Import, ImportLine,
    LineState, OnConflict,
};
use crate::model::levels::Level;
use crate::model::paths::Handle;
use crate::model::secrets::Kind;
use crate::store::audit::Entry;
use crate::store::{Db, Result};

/// What a program wants imported.
pub struct Entries {
    /// A team, or none for the caller's own.
    pub owner: Option<Handle>,
    pub under: Destination,
    /// Names with their values, in order.
    pub entries: Vec<(String, SecretString)>,
    pub on_conflict: OnConflict,
    pub kind: Kind,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Db {
    /// Plans the entries and, unless it is a dry run or something stands in the way, stores them. What stands in the way is told line
    /// by line, and then nothing is stored. What the caller may not store is on record. Errors: `Invalid` at `entries`; `Denied` at `owner`; `Taken` and `Conflict` when somebody was
    /// quicker.
    pub async fn import_entries(&self, caller: &Caller, asked: Entries) -> Result<EntriesImported> {
        if asked.entries.is_empty() || asked.entries.len() > IMPORT_LINES_MAX {
            return Err(Refusal::invalid(
                "entries",
                format!("Send 1 to {IMPORT_LINES_MAX} entries at once."),
            )
            .into());
        }
        let (owner, action) = (asked.owner.as_ref(), Action::SecretCreate);
        let tx = self.begin_as(caller).await?;
        let (tx, owner_id) = self
            .for_owner(tx, caller, owner, Level::Write, action)
            .await?;
        tx.rollback().await?;
        let file = env_files::of_entries(asked.entries);
        let (plan, values) = self
            .import_plan(caller, owner_id, &asked.under, file)
            .await?;
        let mut lines = entry_lines(&plan, asked.on_conflict);
        refuse_twins(&plan, &mut lines);
        let denied = plan.lines.iter().find_map(|planned| planned.denied);
        let planned = EntriesImported {
            applied: false,
            denied: denied.is_some(),
            lines,
        };
        if asked.dry_run {
            return Ok(planned);
        }
        if let Some(action) = denied {
            let entry = Entry {
                owner_id: Some(owner_id),
                reason: Some(NO_RIGHT),
                ..Entry::of(action)
            };
            self.record_refusal(caller, entry).await?;
        }
        if planned.is_refused() {
            return Ok(planned);
        }
        let takes = |outcome| matches!(outcome, EntryOutcome::Create | EntryOutcome::Replace);
        let take: BTreeSet<u32> = planned
            .lines
            .iter()
            .filter(|line| takes(line.outcome))
            .map(|line| line.at)
            .collect();
        if !take.is_empty() {
            let chosen = chosen(&plan, &take)?;
            let tx = self.begin_as(caller).await?;
            // Looked at again, and held: a team is not dissolved under what arrives.
            let (tx, owner_id) = self
                .for_owner(tx, caller, owner, Level::Write, action)
                .await?;
            self.import_lines(tx, caller, owner_id, chosen, &values, asked.kind)
                .await?;
        }
        Ok(EntriesImported {
            applied: true,
            ..planned
        })
    }
}

fn entry_lines(plan: &Plan, on_conflict: OnConflict) -> Vec<EntryLine> {
    plan.lines
        .iter()
        .map(|Planned { line, .. }| {
            let (outcome, reason) = outcome_of(line, on_conflict);
            let notes = line.notes.iter().map(|note| note.sentence());
            EntryLine {
                at: line.at,
                path: line.path.clone(),
                outcome,
                notes: reason.into_iter().chain(notes).collect(),
            }
        })
        .collect()
}

fn outcome_of(line: &ImportLine, on_conflict: OnConflict) -> (EntryOutcome, Option<String>) {
    let is_stored = match &line.state {
        LineState::New => return (EntryOutcome::Create, None),
        LineState::Same => return (EntryOutcome::Same, None),
        LineState::Invalid { reason } => return (EntryOutcome::Invalid, Some(reason.clone())),
        LineState::Different => "Another value is stored.",
        LineState::Exists => "Something is stored, and whether its value is the same is not told.",
    };
    let outcome = match on_conflict {
        OnConflict::Fail => EntryOutcome::Conflict,
        OnConflict::Skip => EntryOutcome::Skip,
        OnConflict::Replace => EntryOutcome::Replace,
    };
    (outcome, Some(is_stored.to_owned()))
}

/// Two entries of one path are a mistake that nobody can decide here.
fn refuse_twins(plan: &Plan, lines: &mut [EntryLine]) {
    let twins = Import::twins_of(plan.lines.iter().map(|planned| &planned.line));
    for line in lines {
        let key = line
            .path
            .as_ref()
            .map(|path| path.as_str().to_ascii_lowercase());
        let Some(all) = key.and_then(|key| twins.get(&key)) else {
            continue;
        };
        if all.contains(&line.at) {
            line.outcome = EntryOutcome::Invalid;
            let all: Vec<String> = all.iter().map(u32::to_string).collect();
            line.notes.insert(
                0,
                format!(
                    "Entries {} have the same path. Send one of them.",
                    all.join(", ")
                ),
            );
        }
    }
}

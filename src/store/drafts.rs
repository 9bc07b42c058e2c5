//! Drafts of deployments: rows of their user, without values.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::deployments::person;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::drafts::{Draft, DraftForm, InspectState};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::sources::Inspection;

/// Drafts that one user may have open at a time.
pub const DRAFTS_OPEN_MAX: i64 = 100;
/// The largest form, as JSON, in bytes.
const FORM_LEN_BYTES: usize = 256 * 1024;
/// Times that an inspection is taken up again after its server was lost.
const INSPECT_TRIES: i32 = 3;

/// A source that waits to be inspected, claimed by this server.
pub struct InspectTask {
    pub draft_id: Uuid,
    pub user_id: Uuid,
    pub administrator: bool,
    pub form: DraftForm,
    pub source_change: i32,
}

impl Db {
    /// Errors: `TooMany` when the caller has [`DRAFTS_OPEN_MAX`] open.
    pub async fn draft_create(&self, caller: &Caller) -> Result<Uuid> {
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let open = sqlx::query_scalar!(
            r#"select count(*) as "count!" from drafts where deployed_as is null"#
        )
        .fetch_one(&mut *tx)
        .await?;
        if open >= DRAFTS_OPEN_MAX {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                format!("You have {open} drafts. Delete some, or wait until they go after 7 days."),
            )
            .into());
        }
        let id = Uuid::now_v7();
        sqlx::query!(
            "insert into drafts (id, user_id, form) values ($1, $2, $3)",
            id,
            user.id,
            Json(DraftForm::default()) as _,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The caller's drafts not yet deployed, newest first.
    pub async fn drafts_list(&self, caller: &Caller) -> Result<Vec<Draft>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let rows = sqlx::query_as!(
            DraftRow,
            "select id, form, errors, inspecting, inspection, deployed_as, changed_at from drafts \
             where deployed_as is null order by changed_at desc limit $1",
            DRAFTS_OPEN_MAX,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(rows.into_iter().map(DraftRow::into_draft).collect())
    }

    /// Errors: `NotFound`.
    pub async fn draft(&self, caller: &Caller, id: Uuid) -> Result<Draft> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let row = sqlx::query_as!(
            DraftRow,
            "select id, form, errors, inspecting, inspection, deployed_as, changed_at from drafts where id = $1",
            id,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        row.map(DraftRow::into_draft)
            .ok_or_else(|| Refusal::not_found("draft").into())
    }

    /// Stores what was typed, valid or not, with its errors. `inspect` queues the source anew and forgets the last inspection.
    /// Errors: `NotFound`; `Conflict` once it was deployed; `Invalid` when it is larger than a form can be.
    pub async fn draft_save(
        &self,
        caller: &Caller,
        id: Uuid,
        form: &DraftForm,
        errors: &BTreeMap<String, String>,
        inspect: bool,
    ) -> Result<()> {
        person(caller)?;
        let form = storable(form)?;
        let errors = storable(errors)?;
        let waiting = storable(&InspectState::Running {
            step: "Waiting for its turn".into(),
        })?;
        let mut tx = self.begin_as(caller).await?;
        let saved = sqlx::query!(
            "update drafts set form = $2, errors = $3, changed_at = now(), \
             inspecting = case when $4 then $5 else inspecting end, \
             inspection = case when $4 then null else inspection end, \
             source_change = source_change + case when $4 then 1 else 0 end, \
             inspect_holder = case when $4 then null else inspect_holder end, \
             inspect_until = case when $4 then null else inspect_until end, \
             inspect_tries = case when $4 then 0 else inspect_tries end \
             where id = $1 and deployed_as is null",
            id,
            form,
            errors,
            inspect,
            waiting,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if saved == 0 {
            let deployed = sqlx::query_scalar!("select deployed_as from drafts where id = $1", id)
                .fetch_optional(&mut *tx)
                .await?;
            return Err(match deployed {
                Some(_) => was_deployed(),
                None => Refusal::not_found("draft"),
            }
            .into());
        }
        tx.commit().await?;
        Ok(())
    }

    /// Errors: `NotFound`.
    pub async fn draft_delete(&self, caller: &Caller, id: Uuid) -> Result<()> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let deleted = sqlx::query!("delete from drafts where id = $1", id)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        match deleted {
            0 => Err(Refusal::not_found("draft").into()),
            _ => Ok(()),
        }
    }

    /// The oldest queued inspection, held by `holder` for five minutes at most.
    /// One whose server was lost is taken up again, three times in all.
    pub async fn inspect_claim(&self, holder: Uuid) -> Result<Option<InspectTask>> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let given_up = storable(&InspectState::Failed {
            reason:
                "Inspecting was cut off again and again. Save the source anew to try once more."
                    .into(),
        })?;
        sqlx::query!(
            "update drafts set inspecting = $2, inspect_holder = null, inspect_until = null \
             where inspecting ->> 'state' = 'running' and inspect_until < now() and inspect_tries >= $1",
            INSPECT_TRIES,
            given_up,
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query!(
            r#"update drafts set inspect_holder = $1, inspect_until = now() + interval '5 minutes',
                 inspect_tries = inspect_tries + 1
               from users
               where users.id = drafts.user_id and drafts.id = (
                 select id from drafts
                 where inspecting ->> 'state' = 'running' and deployed_as is null
                   and (inspect_until is null or inspect_until < now())
                 order by changed_at limit 1 for update skip locked)
               returning drafts.id, drafts.user_id, drafts.form, drafts.source_change,
                 (users.is_admin and users.ended_at is null) as "administrator!""#,
            holder,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(row.map(|row| InspectTask {
            draft_id: row.id,
            user_id: row.user_id,
            administrator: row.administrator,
            form: read(row.form),
            source_change: row.source_change,
        }))
    }

    /// Says what the inspection is doing. Dropped when the source changed meanwhile.
    pub async fn inspect_progress(&self, task: &InspectTask, step: &str) -> Result<()> {
        let state = storable(&InspectState::Running { step: step.into() })?;
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update drafts set inspecting = $3 \
             where id = $1 and source_change = $2 and inspecting ->> 'state' = 'running'",
            task.draft_id,
            task.source_change,
            state,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Stores an inspection's end: what was found, or why it failed. Dropped when the source changed meanwhile.
    pub async fn inspect_end(
        &self,
        task: &InspectTask,
        end: Result<Inspection, String>,
    ) -> Result<()> {
        let (state, inspection) = match end {
            Ok(inspection) => (InspectState::Done, Some(storable(&inspection)?)),
            Err(reason) => (InspectState::Failed { reason }, None),
        };
        let state = storable(&state)?;
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        sqlx::query!(
            "update drafts set inspecting = $3, inspection = $4, inspect_holder = null, inspect_until = null \
             where id = $1 and source_change = $2 and inspecting ->> 'state' = 'running'",
            task.draft_id,
            task.source_change,
            state,
            inspection,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What every change of a draft is answered once it was deployed.
pub fn was_deployed() -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "This draft was deployed already; it does not change any more.",
    )
}

struct DraftRow {
    id: Uuid,
    form: Value,
    errors: Value,
    inspecting: Value,
    inspection: Option<Value>,
    deployed_as: Option<String>,
    changed_at: OffsetDateTime,
}

impl DraftRow {
    fn into_draft(self) -> Draft {
        Draft {
            id: self.id,
            form: read(self.form),
            errors: read(self.errors),
            inspecting: read(self.inspecting),
            inspection: self
                .inspection
                .and_then(|inspection| serde_json::from_value(inspection).ok()),
            deployed_as: self.deployed_as,
            changed_at: Some(self.changed_at),
        }
    }
}

/// A part of a draft; one that does not read (an older form of it) is as if it were new, so that the page lives.
fn read<T: serde::de::DeserializeOwned + Default>(stored: Value) -> T {
    serde_json::from_value(stored).unwrap_or_else(|error| {
        tracing::warn!(%error, "a part of a draft does not read and is shown as new");
        T::default()
    })
}

/// As JSON that PostgreSQL takes: it has no NUL in text. Errors: `Invalid` when it is too large.
pub(super) fn storable<T: serde::Serialize>(part: &T) -> Result<Value> {
    let mut value = serde_json::to_value(part)
        .map_err(|error| Error::caused("a part of a draft cannot be written as JSON", error))?;
    without_nul(&mut value);
    if value.to_string().len() > FORM_LEN_BYTES {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            "That is more than a draft can hold (256 KiB).",
        )
        .into());
    }
    Ok(value)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => text.retain(|c| c != '\0'),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(fields) => {
            // Keys are env names and field names of our own making, or were typed into a form.
            let entries = std::mem::take(fields);
            for (key, mut entry) in entries {
                without_nul(&mut entry);
                fields.insert(key.replace('\0', ""), entry);
            }
        }
        _ => {}
    }
}

//! What administrators decide for the whole installation while it runs.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::secret_versions::beyond;
use super::{Db, Result};
use crate::model::actors::{Actor, Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::secrets::{VersionsBeyond, VersionsKept};

const VERSIONS_KEY: &str = "secret_versions";
/// Asked by `secret_read_by_mcp` in the statement of the access.
const MCP_REVEALS_KEY: &str = "mcp_reveals";
/// Versions that are counted before they are destroyed.
const COUNTED_MAX: i64 = 10_000;

/// As it stands in the table.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    count: Option<i32>,
    days: Option<i32>,
}

impl Db {
    /// Which old versions of secrets are kept.
    pub async fn versions_kept(&self, caller: &Caller) -> Result<VersionsKept> {
        let mut tx = self.begin_as(caller).await?;
        let stored = sqlx::query_scalar!("select value from settings where key = $1", VERSIONS_KEY)
            .fetch_optional(&mut *tx)
            .await?;
        // A row that does not read keeps everything.
        let stored: Stored = stored
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default();
        Ok(VersionsKept {
            count: stored.count.filter(|count| *count >= 0),
            days: stored.days.filter(|days| *days >= 1),
        })
    }

    /// Decides which old versions of secrets are kept; the next round of the retention destroys the others.
    /// Errors: `Denied` for whoever is no administrator.
    pub async fn versions_keep(&self, caller: &Caller, kept: VersionsKept) -> Result<()> {
        let mut tx = self.deciding(caller).await?;
        let stored = serde_json::json!({ "count": kept.count, "days": kept.days });
        sqlx::query!(
            "insert into settings (key, value) values ($1, $2)
             on conflict (key) do update set value = excluded.value, changed_at = now()",
            VERSIONS_KEY,
            stored
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            reason: Some("old versions of secrets that are kept"),
            ..Entry::of(Action::SettingsChange)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// How much the retention would destroy by these limits, whoever owns it: numbers alone. Errors: `Denied` for whoever is no
    /// administrator.
    pub async fn versions_beyond(
        &self,
        caller: &Caller,
        kept: VersionsKept,
    ) -> Result<VersionsBeyond> {
        drop(self.deciding(caller).await?);
        // An administrator sees no more of others' secrets than anybody: it is counted by whoever would destroy it.
        let mut tx = self.begin_as(&Caller::job(Job::Retention)).await?;
        let found = beyond(&mut tx, kept, COUNTED_MAX).await?;
        let secrets: HashSet<Uuid> = found.iter().map(|version| version.secret_id).collect();
        Ok(VersionsBeyond {
            versions: found.len(),
            secrets: secrets.len(),
            more: found.len() as i64 >= COUNTED_MAX,
        })
    }

    /// Whether agents get values by MCP, where their tokens may read them.
    pub async fn mcp_reveals(&self, caller: &Caller) -> Result<bool> {
        let mut tx = self.begin_as(caller).await?;
        let kept = sqlx::query_scalar!(
            r#"select exists (select 1 from settings where key = $1 and value <> 'true') as "kept!""#,
            MCP_REVEALS_KEY
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(!kept)
    }

    /// Decides whether agents get values by MCP; it holds from the next call. Errors: `Denied` for whoever is no administrator.
    pub async fn mcp_reveal(&self, caller: &Caller, reveals: bool) -> Result<()> {
        let mut tx = self.deciding(caller).await?;
        sqlx::query!(
            "insert into settings (key, value) values ($1, to_jsonb($2::boolean))
             on conflict (key) do update set value = excluded.value, changed_at = now()",
            MCP_REVEALS_KEY,
            reveals
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            reason: Some(if reveals {
                "values by MCP"
            } else {
                "no values by MCP"
            }),
            ..Entry::of(Action::SettingsChange)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction of an administrator, who decides for the installation. Errors: `Denied`, on record.
    async fn deciding(&self, caller: &Caller) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.begin_as(caller).await?;
        let may = sqlx::query_scalar!(r#"select is_administrator() as "may!""#)
            .fetch_one(&mut *tx)
            .await?;
        // An administrator's token is no administrator.
        if may && !matches!(caller.actor, Actor::Token(_)) {
            return Ok(tx);
        }
        tx.rollback().await?;
        let refusal = Refusal::new(
            RefusalKind::Denied,
            "Only administrators decide for the whole installation.",
        );
        let entry = Entry::of(Action::SettingsChange);
        self.refuse_on_record(caller, entry, "no administrator", refusal)
            .await
    }
}

//! Whether an administrator has said that the master key is backed up. Kept by its fingerprint: another key asks again.

use super::audit::{self, Entry};
use super::{Db, Result};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};

const SETTING: &str = "master_key_backup_confirmed";

impl Db {
    /// Whether the master key in use was said to be backed up.
    pub async fn key_backup_confirmed(&self, caller: &Caller) -> Result<bool> {
        let mut tx = self.begin_as(caller).await?;
        let confirmed = sqlx::query_scalar!(
            r#"select value #>> '{}' as "fingerprint" from settings where key = $1"#,
            SETTING
        )
        .fetch_optional(&mut *tx)
        .await?
        .flatten();
        Ok(confirmed.as_deref() == Some(self.key_fingerprint().as_str()))
    }

    /// An administrator says that the key with this fingerprint is backed up. Errors: `Denied` for anyone else; `Conflict` when
    /// another key is in use meanwhile.
    pub async fn key_backup_confirm(&self, caller: &Caller, fingerprint: &str) -> Result<()> {
        let entry = Entry::of(Action::KeyBackedUp);
        if !caller.user().is_some_and(|user| user.is_admin) {
            let refusal = Refusal::new(
                RefusalKind::Denied,
                "An administrator says that the master key is backed up.",
            );
            return self
                .refuse_on_record(caller, entry, "no administrator", refusal)
                .await;
        }
        if fingerprint != self.key_fingerprint() {
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                "Another master key is in use by now. Look at its fingerprint, and back that one up.",
            );
            return self
                .refuse_on_record(caller, entry, "another key is in use", refusal)
                .await;
        }
        let mut tx = self.begin_as(caller).await?;
        sqlx::query!(
            "insert into settings (key, value) values ($1, to_jsonb($2::text))
             on conflict (key) do update set value = excluded.value, changed_at = now()",
            SETTING,
            fingerprint
        )
        .execute(&mut *tx)
        .await?;
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

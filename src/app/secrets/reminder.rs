//! What an administrator is reminded of on the first page: the master key's own backup.

use leptos::prelude::*;

use super::super::icons::Icon;
use crate::model::errors::Refusal;

/// For administrators: whether nobody has said yet that the master key is backed up.
#[server(prefix = "/_fn", endpoint = "key_backup_missing")]
pub async fn key_backup_missing() -> Result<bool, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::super::wire::caller().await?;
    if !caller.user().is_some_and(|user| user.is_admin) {
        return Ok(false);
    }
    let confirmed = db.key_backup_confirmed(&caller).await;
    confirmed
        .map(|confirmed| !confirmed)
        .map_err(crate::store::Error::into_refusal)
}

/// Until an administrator says that it is done.
#[component]
pub fn KeyBackupReminder() -> impl IntoView {
    view! {
        <section aria-label="The master key" class="flex items-start gap-2 rounded-box border border-base-300 bg-base-100 px-4 py-3">
            <span class="mt-0.5 text-amber">
                <Icon name="alert" />
            </span>
            <p>
                "Back up the master key, apart from this machine: without it no secret opens again. "
                <a class="link" href="/settings#keys">"How, and say that it is done"</a>
            </p>
        </section>
    }
}

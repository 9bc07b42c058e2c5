//! Where a secret may be renamed to. Within its folder its admins rename it, but not to the key that a target takes by itself; elsewhere a path has a meaning of its own (who reaches what
//! stands there, which key a target takes when none is named), so that takes `admin` by more than the one secret.

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::Result;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::SecretPath;

/// On record where the folder is not theirs.
pub(super) const NOT_THEIRS: &str = "no admin of the new folder";

/// Whether an admin of a secret may give it this path.
pub(super) async fn may_rename(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
    from: &SecretPath,
    to: &SecretPath,
) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"select may_rename($1, $2, $3) as "may!""#,
        owner_id,
        from.as_str(),
        to.as_str()
    )
    .fetch_one(&mut **tx)
    .await?)
}

pub(super) fn not_theirs() -> Refusal {
    Refusal::new(
        RefusalKind::Denied,
        "That path is given by its owner or an admin of its folder alone: admin on the one secret is not enough.",
    )
    .at("path")
}

//! One step for a program that does not ask first: a secret is made, or gets a new version.

use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::connections::Connecting;
use super::secrets::{NewSecret, NewValue, SecretEdit};
use super::{Db, Error, Result};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{KeyPath, Tag};
use crate::model::secrets::{Kind, SecretSummary};

/// How often it is tried against others who write the same secret.
const TRIES: usize = 4;

/// What shall stand under a path. `None` leaves what is there, or takes what is usual.
pub struct SecretPut {
    pub value: NewValue,
    pub kind: Option<Kind>,
    pub description: Option<String>,
    pub tags: Option<Vec<Tag>>,
    pub expires_at: Option<Option<OffsetDateTime>>,
    pub expected: Expected,
}

/// What has to stand there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Anything,
    Nothing,
    Version(i32),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub id: Uuid,
    pub version: i32,
    /// Nothing stood there before.
    pub created: bool,
    /// Sentences that quote nothing.
    pub notes: Vec<String>,
}

impl Db {
    /// A secret by its path, as its list shows it. Errors: `NotFound`.
    pub async fn secret_at(&self, caller: &Caller, key: &KeyPath) -> Result<SecretSummary> {
        let mut tx = self.begin_as(caller).await?;
        let owner = match (&key.owner, caller.own()) {
            (Some(owner), _) => owner.as_str(),
            (None, Some((_, own))) => own,
            (None, None) => "",
        };
        let id = sqlx::query_scalar!(
            r#"select s.id from secrets s join owners o on o.id = s.owner_id
               where o.handle = $1 and s.path_key = lower($2 collate "C")"#,
            owner,
            key.path.as_str()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let found = match id {
            Some(id) => super::secret_pages::of_ids(&mut tx, &[id]).await?,
            None => Vec::new(),
        };
        let found = found.into_iter().next();
        Ok(found.ok_or_else(|| Refusal::not_found("secret"))?)
    }

    /// The same for a step that changes or compares it: that it is not in sight goes on record. Errors: `NotFound`.
    pub async fn secret_at_for(
        &self,
        caller: &Caller,
        key: &KeyPath,
        action: Action,
    ) -> Result<SecretSummary> {
        match self.secret_at(caller, key).await {
            Err(Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                let entry = Entry::of(action);
                self.refuse_on_record(caller, entry, "no such secret in sight", refusal)
                    .await
            }
            found => found,
        }
    }

    /// Makes the secret, or its next version. Errors: `Conflict` at `if-match` or `if-none-match` where something else stands there
    /// than was expected; else as [`Db::secret_add`] and [`Db::secret_renew`].
    pub async fn secret_put(&self, caller: &Caller, key: &KeyPath, put: SecretPut) -> Result<Put> {
        self.secret_put_for(caller, key, put, None).await
    }

    /// The same, and connects it to what asks for it, both or neither.
    pub(super) async fn secret_put_for(
        &self,
        caller: &Caller,
        key: &KeyPath,
        put: SecretPut,
        connecting: Option<&Connecting<'_>>,
    ) -> Result<Put> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let done = match self.secret_at(caller, key).await {
                Ok(found) if found.path != key.path => {
                    return self.put_beside(caller, &found).await;
                }
                Ok(found) => self.put_over(caller, &found, &put, connecting).await,
                Err(Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => {
                    self.put_new(caller, key, &put, connecting).await
                }
                Err(error) => return Err(error),
            };
            match done {
                // Somebody was quicker; without a word on what is expected, the next look decides.
                Err(Error::Refused(refusal))
                    if put.expected == Expected::Anything
                        && tries > 0
                        && matches!(refusal.kind, RefusalKind::Conflict | RefusalKind::Taken) => {}
                done => return done,
            }
        }
    }

    async fn put_new(
        &self,
        caller: &Caller,
        key: &KeyPath,
        put: &SecretPut,
        connecting: Option<&Connecting<'_>>,
    ) -> Result<Put> {
        if let Expected::Version(version) = put.expected {
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                format!(
                    "There is no such secret here, so it is not at version {version}. Nothing was stored."
                ),
            );
            return self
                .refuse_on_record(
                    caller,
                    Entry::of(Action::SecretReplace),
                    "no such secret in sight",
                    refusal.at("if-match"),
                )
                .await;
        }
        let new = NewSecret {
            owner: key.owner.clone(),
            path: key.path.clone(),
            value: put.value.clone(),
            kind: put.kind.unwrap_or_default(),
            description: put.description.clone().unwrap_or_default(),
            tags: put.tags.clone().unwrap_or_default(),
            expires_at: put.expires_at.flatten(),
        };
        let added = self.secret_add_for(caller, new, connecting).await;
        let added = match (added, put.expected) {
            (Err(Error::Refused(refusal)), Expected::Nothing)
                if refusal.kind == RefusalKind::Taken =>
            {
                return Err(exists().into());
            }
            (added, _) => added?,
        };
        Ok(Put {
            id: added.id,
            version: 1,
            created: true,
            notes: added.notes,
        })
    }

    /// Paths that differ in case alone stand for one: whoever writes the other may mean another secret.
    async fn put_beside(&self, caller: &Caller, found: &SecretSummary) -> Result<Put> {
        let refusal = Refusal::new(
            RefusalKind::Taken,
            format!(
                "There is {} already, which differs in upper and lower case alone. Write it so, or choose another path. Nothing was stored.",
                found.path
            ),
        );
        let entry = Entry {
            secret: Some((found.id, &found.path)),
            ..Entry::of(Action::SecretReplace)
        };
        self.refuse_on_record(caller, entry, "path in use", refusal.at("path"))
            .await
    }

    async fn put_over(
        &self,
        caller: &Caller,
        found: &SecretSummary,
        put: &SecretPut,
        connecting: Option<&Connecting<'_>>,
    ) -> Result<Put> {
        let refusal = match put.expected {
            Expected::Nothing => Some(exists()),
            Expected::Version(version) if version != found.version => Some(
                Refusal::new(
                    RefusalKind::Conflict,
                    format!(
                        "The secret is at version {} and not at {version}. Look at it again, then decide.",
                        found.version
                    ),
                )
                .at("if-match"),
            ),
            _ => None,
        };
        if let Some(refusal) = refusal {
            let entry = Entry {
                secret: Some((found.id, &found.path)),
                ..Entry::of(Action::SecretReplace)
            };
            return self
                .refuse_on_record(caller, entry, "another version was expected", refusal)
                .await;
        }
        let edit = SecretEdit {
            kind: put.kind,
            description: put.description.clone(),
            tags: put.tags.clone(),
            expires_at: put.expires_at,
            ..SecretEdit::default()
        };
        let renewed = self
            .secret_renew_with(
                caller,
                found.id,
                found.version,
                put.value.clone(),
                &edit,
                connecting,
            )
            .await;
        let renewed = match (renewed, put.expected) {
            // Between the look and the write.
            (Err(Error::Refused(refusal)), Expected::Version(_))
                if refusal.kind == RefusalKind::Conflict =>
            {
                return Err(refusal.at("if-match").into());
            }
            (renewed, _) => renewed?,
        };
        Ok(Put {
            id: found.id,
            version: renewed.version,
            created: false,
            notes: renewed.notes,
        })
    }
}

fn exists() -> Refusal {
    Refusal::new(
        RefusalKind::Conflict,
        "There is a secret with this path already. Nothing was stored.",
    )
    .at("if-none-match")
}

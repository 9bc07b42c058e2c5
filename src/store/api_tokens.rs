//! Tokens of the API: made by a person, for one owner, and bounded; entered at each access.

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::limits::Noted;
use super::tokens::{HashedToken, PlainToken, checked_end, checked_name};
use super::{Db, Error, Result};
use crate::model::actors::{Actor, ApiToken, Caller, Origin, Presented, SignedInUser};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{Folder, Handle};
use crate::model::tokens::NewToken;

/// What a token of the API shall be.
#[derive(Clone, Debug)]
pub struct ApiTokenSpec {
    /// For whom it acts; none: its maker.
    pub owner: Option<Handle>,
    pub name: String,
    /// How far it reaches, at most.
    pub ceiling: Level,
    /// Only paths under it; none: all of the owner's.
    pub under: Option<Folder>,
    /// May make and change deployments.
    pub deploys: bool,
    /// None: in a year, the latest.
    pub expires_at: Option<OffsetDateTime>,
}

/// A token's row, checked.
pub(super) struct Entered {
    token_id: Option<Uuid>,
    name: Option<String>,
    maker_id: Option<Uuid>,
    maker: Option<String>,
    email: Option<String>,
    owner_id: Option<Uuid>,
    owner: Option<String>,
    ceiling: Option<i32>,
    prefix: Option<String>,
    deploys: Option<bool>,
    pub(super) refused: Option<String>,
}

/// Checks the token of this hash; the transaction acts by it from then on.
pub(super) async fn enter(tx: &mut Transaction<'_, Postgres>, hash: &str) -> Result<Entered> {
    Ok(sqlx::query_as!(
        Entered,
        "select token_id, name, maker_id, maker, email, owner_id, owner, ceiling, prefix, deploys, refused from token_enter($1)",
        hash
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// One sentence for every cause: what was a token once is nobody's business but its owner's, who has it on record.
pub(super) fn refused() -> Error {
    Refusal::new(
        RefusalKind::Unauthenticated,
        "This token opens nothing. It may have ended or been revoked: make another one under Tokens.",
    )
    .into()
}

impl Db {
    /// Makes a token with the caller as maker. Shown once; without an end it lives a year, the most. Errors: `Invalid` at `name`,
    /// `expires_at` or `owner` (of whom the caller reaches nothing).
    pub async fn api_token_create(&self, caller: &Caller, spec: &ApiTokenSpec) -> Result<NewToken> {
        let maker = match &caller.actor {
            Actor::User(_) => person(caller)?,
            _ => {
                return Err(Refusal::new(
                    RefusalKind::Denied,
                    "A token makes no other tokens. Make one in the dashboard, under Tokens.",
                )
                .into());
            }
        };
        let name = checked_name(&spec.name)?;
        let expires_at = checked_end(spec.expires_at)?;
        let mut tx = self.begin_as(caller).await?;
        let owner = spec
            .owner
            .as_ref()
            .map_or(maker.handle.as_str(), Handle::as_str);
        let owner_id = sqlx::query_scalar!(
            "select id from owners where handle = $1 and ended_at is null and reach(id, 'any', null, null) >= 1",
            owner
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(owner_id) = owner_id else {
            tx.rollback().await?;
            let entry = Entry::of(Action::TokenCreate);
            let refusal = Refusal::invalid(
                "owner",
                format!(
                    "{owner} has nothing that you reach. Choose yourself, a team of yours, or somebody who shares with you."
                ),
            );
            return self
                .refuse_on_record(
                    caller,
                    entry,
                    "no right to anything of the owner's",
                    refusal,
                )
                .await;
        };
        let (plain, hashed) = PlainToken::generate()?;
        let id = Uuid::now_v7();
        sqlx::query!(
            "insert into tokens (id, hash, maker_id, owner_id, audience, name, expires_at, ceiling, prefix, deploys)
             values ($1, $2, $3, $4, 'api', $5, $6, $7, $8, $9)",
            id,
            hashed.as_str(),
            maker.id,
            owner_id,
            name,
            expires_at,
            spec.ceiling.number(),
            spec.under.as_ref().map(Folder::as_str),
            spec.deploys,
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            owner_id: Some(owner_id),
            folder: spec.under.as_ref(),
            level: Some(spec.ceiling),
            ..Entry::of(Action::TokenCreate)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(NewToken {
            id,
            token: plain.expose().expose_secret().to_owned(),
        })
    }

    /// Who shows this token. Refusals are on record, but for floods. Errors: `Unauthenticated`, the same for every cause.
    pub async fn api_token_open(&self, token: &SecretString, origin: &Origin) -> Result<Caller> {
        let Some(token) = PlainToken::parse(token) else {
            self.api_turned_away(origin, "malformed token").await?;
            return Err(refused());
        };
        let hashed: HashedToken = token.hashed();
        let presenting = Caller {
            actor: Actor::Anonymous(Presented::Hash(hashed.as_str().to_owned())),
            origin: origin.clone(),
        };
        let mut tx = self.begin_as(&presenting).await?;
        let row = enter(&mut tx, hashed.as_str()).await?;
        let why = row.refused.clone();
        let Some(caller) = row.into_caller(&hashed, origin) else {
            tx.rollback().await?;
            self.api_turned_away(origin, "unknown token").await?;
            return Err(refused());
        };
        let why = match why.as_deref() {
            None => {
                tx.commit().await?;
                return Ok(caller);
            }
            Some("revoked token") => "revoked token",
            Some("expired token") => "expired token",
            Some(_) => "ended account",
        };
        if self
            .floods()
            .of_bearer(Action::ApiConnect.as_str(), hashed.as_str())
            != Noted::Passed
        {
            let entry = Entry {
                owner_id: caller.own().map(|(owner_id, _)| owner_id),
                reason: Some(why),
                ..Entry::of(Action::ApiConnect)
            };
            audit::record_refused(&mut tx, &caller, entry).await?;
            tx.commit().await?;
        }
        Err(refused())
    }

    /// Puts on record that somebody was turned away at the API's door.
    pub async fn api_turned_away(&self, origin: &Origin, reason: &'static str) -> Result<()> {
        self.record_stranger(Action::ApiConnect, origin, reason)
            .await
    }
}

impl Entered {
    /// The token as an actor, also one that is refused; none when it is nobody's.
    fn into_caller(self, hashed: &HashedToken, origin: &Origin) -> Option<Caller> {
        let token = ApiToken {
            id: self.token_id?,
            hash: hashed.as_str().to_owned(),
            name: self.name?,
            maker: SignedInUser {
                id: self.maker_id?,
                handle: self.maker.unwrap_or_default(),
                email: self.email.unwrap_or_default(),
                // What administrators may is done by people.
                is_admin: false,
            },
            owner_id: self.owner_id?,
            owner: self.owner.unwrap_or_default(),
            ceiling: Level::from_number(self.ceiling?)?,
            under: match self.prefix {
                Some(prefix) => Some(Folder::parse(&prefix).ok()?),
                None => None,
            },
            deploys: self.deploys?,
        };
        Some(Caller {
            actor: Actor::Token(Box::new(token)),
            origin: origin.clone(),
        })
    }
}

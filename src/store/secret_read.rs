//! The hot path: a value for whoever may read it. One round trip to the database, and nothing kept but opened data keys.

use ipnet::IpNet;
use secrecy::SecretString;
use uuid::Uuid;

use super::api_tokens::refused;
use super::audit::plain;
use super::db::is_lost_connection;
use super::keyring::{Place, Sealed};
use super::tokens::PlainToken;
use super::{Db, Error, Result, damage};
use crate::model::actors::{Actor, Caller, Origin, Presented};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{Handle, SecretPath};

/// A value, opened, with where it stands. On record by the time that this is there.
pub struct ReadValue {
    pub path: SecretPath,
    pub version: i32,
    pub value: SecretString,
}

/// What the statement of the access answers.
struct Row {
    token_id: Option<Uuid>,
    owner_id: Option<Uuid>,
    secret_id: Option<Uuid>,
    path: Option<String>,
    version: Option<i32>,
    sealed: Option<Vec<u8>>,
    refused: Option<String>,
}

impl Db {
    /// As [`Db::secret_read`], for agents: where an administrator keeps values from them it is refused in the same statement.
    /// Errors: also `Denied` for that.
    pub async fn secret_read_by_mcp(
        &self,
        token: &SecretString,
        owner: Option<&Handle>,
        path: &SecretPath,
        origin: &Origin,
    ) -> Result<ReadValue> {
        self.read_through(true, token, owner, path, None, origin)
            .await
    }

    /// Opens one version of a secret, the newest unless one is named. Errors: `Unauthenticated` for a token that opens nothing,
    /// `NotFound`, `Denied` with `use` alone, `Conflict` for a secret that is off, expired or destroyed.
    pub async fn secret_read(
        &self,
        token: &SecretString,
        owner: Option<&Handle>,
        path: &SecretPath,
        version: Option<i32>,
        origin: &Origin,
    ) -> Result<ReadValue> {
        self.read_through(false, token, owner, path, version, origin)
            .await
    }

    async fn read_through(
        &self,
        mcp: bool,
        token: &SecretString,
        owner: Option<&Handle>,
        path: &SecretPath,
        version: Option<i32>,
        origin: &Origin,
    ) -> Result<ReadValue> {
        let Some(token) = PlainToken::parse(token) else {
            self.api_turned_away(origin, "malformed token").await?;
            return Err(refused());
        };
        let hash = token.hashed();
        let read = async || {
            if mcp {
                return sqlx::query_as!(
                    Row,
                    "select token_id, owner_id, secret_id, path, version, sealed, refused
                     from secret_read_by_mcp($1, $2, $3, $4, $5, $6, $7, $8)",
                    hash.as_str(),
                    owner.map(Handle::as_str),
                    path.as_str(),
                    version,
                    Uuid::now_v7(),
                    origin.address.map(IpNet::from) as _,
                    plain(&origin.agent),
                    plain(&origin.request_id)
                )
                .fetch_one(self.pool())
                .await;
            }
            sqlx::query_as!(
                Row,
                "select token_id, owner_id, secret_id, path, version, sealed, refused
                 from secret_read($1, $2, $3, $4, $5, $6, $7, $8)",
                hash.as_str(),
                owner.map(Handle::as_str),
                path.as_str(),
                version,
                Uuid::now_v7(),
                origin.address.map(IpNet::from) as _,
                plain(&origin.agent),
                plain(&origin.request_id)
            )
            .fetch_one(self.pool())
            .await
        };
        // Connections are not pinged before use: one that died meanwhile shows here, and another is taken.
        let mut tries = self.pool().options().get_max_connections();
        let row = loop {
            match read().await {
                Err(error) if tries > 0 && is_lost_connection(&error) => tries -= 1,
                other => break other?,
            }
        };
        if row.token_id.is_none() {
            self.api_turned_away(origin, "unknown token").await?;
            return Err(refused());
        }
        if let Some(why) = row.refused {
            return Err(refusal(&why));
        }
        let (Some(owner_id), Some(secret_id), Some(version), Some(sealed), Some(found)) = (
            row.owner_id,
            row.secret_id,
            row.version,
            row.sealed,
            row.path,
        ) else {
            return Err(Error::broken("a read came back without its value"));
        };
        let place = Place {
            owner_id,
            secret_id,
            version,
        };
        let value = self
            .open_read(hash.as_str(), place, &Sealed(sealed))
            .await?;
        Ok(ReadValue {
            path: damage::path_of(secret_id, &found),
            version,
            value,
        })
    }

    /// With a data key that is open already, or else one that is fetched by the same token.
    async fn open_read(&self, hash: &str, place: Place, sealed: &Sealed) -> Result<SecretString> {
        if let Some(value) = self.unseal_with_open_key(place, sealed) {
            return value;
        }
        let caller = Caller {
            actor: Actor::Anonymous(Presented::Hash(hash.to_owned())),
            origin: Origin::default(),
        };
        let mut tx = self.begin_as(&caller).await?;
        super::api_tokens::enter(&mut tx, hash).await?;
        match self.unseal(&mut tx, place, sealed).await {
            Err(error) if error.is_damage() => {
                Err(damage::refusal(place.secret_id, place.version, &error).into())
            }
            other => other,
        }
    }
}

fn refusal(why: &str) -> Error {
    let (kind, says) = match why {
        "no such secret" => (
            RefusalKind::NotFound,
            "There is no such secret, or it is not for this token.",
        ),
        "no such version" => (RefusalKind::NotFound, "The secret has no such version."),
        "no right to the value" => (
            RefusalKind::Denied,
            "This token may use the secret, not read it: bind it in a deployment, or ask its owner for read.",
        ),
        "no values by MCP" => (
            RefusalKind::Denied,
            "This installation lets no value out by MCP. Bind the secret in a deployment, which gets it without showing it.",
        ),
        "the secret has expired" => (
            RefusalKind::Conflict,
            "The secret has expired. Give it a new value and a later end.",
        ),
        "the secret is switched off" => (
            RefusalKind::Conflict,
            "The secret is switched off. Switch it on to use it.",
        ),
        "the version was destroyed" => (
            RefusalKind::Conflict,
            "This version was destroyed for good. Read the newest.",
        ),
        _ => return refused(),
    };
    Refusal::new(kind, says).into()
}

//! The hot path: a value for whoever may read it. One round trip to the database, and nothing kept but opened data keys.

use std::collections::HashSet;

use ipnet::IpNet;
use secrecy::SecretString;
use uuid::Uuid;

use super::api_tokens::refused;
use super::audit::plain;
use super::keyring::{Place, Sealed};
use super::queues::{Question, Queues};
use super::tokens::{HashedToken, PlainToken};
use super::{Db, Error, Result, damage};
use crate::model::actors::{Actor, Caller, Origin, Presented};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{Handle, KeyPath, SecretPath};

/// Values of one call.
pub const READ_AT_ONCE_MAX: usize = 200;

/// A value, opened, with where it stands. On record by the time that this is there.
pub struct ReadValue {
    pub path: SecretPath,
    pub version: i32,
    pub value: SecretString,
}

/// One value that is asked for, and by whom, for the record.
struct Asked {
    owner: Option<String>,
    path: String,
    version: Option<i32>,
    address: Option<IpNet>,
    agent: Option<String>,
    request_id: Option<String>,
}

impl Asked {
    fn of(
        owner: Option<&Handle>,
        path: &SecretPath,
        version: Option<i32>,
        origin: &Origin,
    ) -> Asked {
        Asked {
            owner: owner.map(Handle::to_string),
            path: path.to_string(),
            version,
            address: origin.address.map(IpNet::from),
            agent: plain(&origin.agent),
            request_id: plain(&origin.request_id),
        }
    }
}

/// What comes back of it.
pub(super) struct Row {
    /// In the list that was asked for, from 1.
    place: i32,
    token_id: Option<Uuid>,
    owner_id: Option<Uuid>,
    secret_id: Option<Uuid>,
    path: Option<String>,
    version: Option<i32>,
    sealed: Option<Vec<u8>>,
    refused: Option<String>,
}

impl Db {
    /// The newest version for an agent, as [`Db::secret_read`]; where an administrator keeps values from agents, it is refused in the
    /// same statement. Errors: also `Denied` for that.
    pub async fn secret_read_by_mcp(
        &self,
        token: &SecretString,
        key: &KeyPath,
        origin: &Origin,
    ) -> Result<ReadValue> {
        let hash = self.hash_shown(token, origin).await?;
        let asked = Asked::of(key.owner.as_ref(), &key.path, None, origin);
        let read = || {
            sqlx::query_as!(
                Row,
                r#"select 1 as "place!", token_id, owner_id, secret_id, path, version, sealed, refused
                   from secret_read_by_mcp($1, $2, $3, null, $4, $5, $6, $7, $8)"#,
                hash.as_str(),
                asked.owner.as_deref(),
                &asked.path,
                // New with each try: one whose answer was lost may be on record.
                Uuid::now_v7(),
                asked.address as _,
                asked.agent.as_deref(),
                asked.request_id.as_deref(),
                self.dead_token_notes(&hash) > 0,
            )
            .fetch_one(self.pool())
        };
        let row = self.on_a_live_connection(read).await?;
        self.count_dead(&hash, [&row]);
        self.given(&hash, row, origin).await
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
        let hash = self.hash_shown(token, origin).await?;
        let read = ReadQuestion {
            hash: hash.clone(),
            asked: Asked::of(owner, path, version, origin),
        };
        let row = self.ask_in_turn(read).await?;
        self.given(&hash, row, origin).await
    }

    async fn read_one(&self, hash: &HashedToken, asked: &Asked) -> Result<Row> {
        let read = || {
            sqlx::query_as!(
                Row,
                r#"select 1 as "place!", token_id, owner_id, secret_id, path, version, sealed, refused
                   from secret_read($1, $2, $3, $4, $5, $6, $7, $8, $9)"#,
                hash.as_str(),
                asked.owner.as_deref(),
                &asked.path,
                asked.version,
                // New with each try: one whose answer was lost may be on record.
                Uuid::now_v7(),
                asked.address as _,
                asked.agent.as_deref(),
                asked.request_id.as_deref(),
                self.dead_token_notes(hash) > 0,
            )
            .fetch_one(self.pool())
        };
        let row = self.on_a_live_connection(read).await?;
        self.count_dead(hash, [&row]);
        Ok(row)
    }

    /// In their order; with `all_or_none`, of those that are refused alone when there are any.
    async fn read_many(
        &self,
        hash: &HashedToken,
        asked: &[&Asked],
        all_or_none: bool,
    ) -> Result<Vec<Row>> {
        // A call for many is one call: it leaves one refusal of its token.
        let notes = match all_or_none {
            true => self.dead_token_notes(hash).min(1),
            false => self.dead_token_notes(hash),
        };
        let column = |of: fn(&Asked) -> Option<String>| -> Vec<Option<String>> {
            asked.iter().map(|asked| of(asked)).collect()
        };
        let owners = column(|asked| asked.owner.clone());
        let agents = column(|asked| asked.agent.clone());
        let requests = column(|asked| asked.request_id.clone());
        let paths: Vec<String> = asked.iter().map(|asked| asked.path.clone()).collect();
        let versions: Vec<Option<i32>> = asked.iter().map(|asked| asked.version).collect();
        let addresses: Vec<Option<IpNet>> = asked.iter().map(|asked| asked.address).collect();
        let read = || {
            sqlx::query_as!(
                Row,
                r#"select place as "place!", token_id, owner_id, secret_id, path, version, sealed, refused
                   from secrets_read($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
                hash.as_str(),
                &owners as _,
                &paths,
                &versions as _,
                &asked.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>(),
                &addresses as _,
                &agents as _,
                &requests as _,
                notes,
                all_or_none,
            )
            .fetch_all(self.pool())
        };
        let rows = self.on_a_live_connection(read).await?;
        let noted = match all_or_none {
            true => 1,
            false => rows.len(),
        };
        self.count_dead(hash, rows.iter().take(noted));
        Ok(rows)
    }

    /// The hash of a token that has the form of one. Errors: `Unauthenticated`, on record.
    async fn hash_shown(&self, token: &SecretString, origin: &Origin) -> Result<HashedToken> {
        match PlainToken::parse(token) {
            Some(token) => Ok(token.hashed()),
            None => {
                self.api_turned_away(origin, "malformed token").await?;
                Err(refused())
            }
        }
    }

    /// How many refusals of this token itself, should it be dead, may go on record.
    fn dead_token_notes(&self, hash: &HashedToken) -> i32 {
        let left = self
            .floods()
            .left_to_bearer(Action::ApiConnect.as_str(), hash.as_str());
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    /// Counts what a dead token left, whether or not anybody still waits for the answer.
    fn count_dead<'a>(&self, hash: &HashedToken, rows: impl IntoIterator<Item = &'a Row>) {
        for row in rows {
            if row.token_id.is_some() && row.refused.as_deref().is_some_and(is_dead) {
                self.floods()
                    .of_bearer(Action::ApiConnect.as_str(), hash.as_str());
            }
        }
    }

    /// What the statement let out, opened, or its refusal.
    async fn given(&self, hash: &HashedToken, row: Row, origin: &Origin) -> Result<ReadValue> {
        if row.token_id.is_none() {
            self.api_turned_away(origin, "unknown token").await?;
            return Err(refused());
        }
        if let Some(why) = &row.refused {
            counted(1, "refused");
            return Err(refusal(why));
        }
        let read = self.opened(hash, row).await?;
        counted(1, "done");
        Ok(read)
    }

    /// Opens the newest versions of many secrets, or of none of them: the first that is refused is named. One round trip, as for one.
    /// Errors: as [`Db::secret_read`], with the place in the list; `Invalid` at `paths` for none, too many, or one twice.
    pub async fn secrets_read(
        &self,
        token: &SecretString,
        keys: &[KeyPath],
        origin: &Origin,
    ) -> Result<Vec<ReadValue>> {
        check_list(keys)?;
        let hash = self.hash_shown(token, origin).await?;
        let asked: Vec<Asked> = keys
            .iter()
            .map(|key| Asked::of(key.owner.as_ref(), &key.path, None, origin))
            .collect();
        let rows = self
            .read_many(&hash, &asked.iter().collect::<Vec<_>>(), true)
            .await?;
        if rows.first().is_some_and(|row| row.token_id.is_none()) {
            self.api_turned_away(origin, "unknown token").await?;
            return Err(refused());
        }
        if let Some((row, why)) = rows
            .iter()
            .find_map(|row| Some((row, row.refused.as_ref()?)))
        {
            counted(1, "refused");
            return Err(named(refusal(why), keys, row.place));
        }
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            let place = row.place;
            let value = self.opened(&hash, row).await;
            values.push(value.map_err(|error| named(error, keys, place))?);
        }
        if values.len() != keys.len() {
            return Err(Error::broken(
                "a read came back with fewer values than were asked for",
            ));
        }
        counted(values.len() as u64, "done");
        Ok(values)
    }

    async fn opened(&self, hash: &HashedToken, row: Row) -> Result<ReadValue> {
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

/// A read that may share a statement with others of its token. Each is still checked and put on record by itself.
pub(super) struct ReadQuestion {
    hash: HashedToken,
    asked: Asked,
}

impl Question for ReadQuestion {
    type Answer = Row;
    const ROUNDS_AT_ONCE: usize = 2;

    fn queues(db: &Db) -> &Queues<Self> {
        db.read_queues()
    }

    fn key(&self) -> String {
        self.hash.as_str().to_owned()
    }

    async fn alone(&self, db: &Db) -> Result<Row> {
        db.read_one(&self.hash, &self.asked).await
    }

    async fn together(db: &Db, reads: &[&Self]) -> Result<Vec<Result<Row>>> {
        let [first, ..] = reads else {
            return Ok(Vec::new());
        };
        let asked: Vec<&Asked> = reads.iter().map(|read| &read.asked).collect();
        let rows = db.read_many(&first.hash, &asked, false).await?;
        if rows.iter().map(|row| row.place).eq(1..=reads.len() as i32) {
            return Ok(rows.into_iter().map(Ok).collect());
        }
        // They are on record: asked again, they would be twice.
        let lost = |_| Err(Error::broken("a shared statement lost rows"));
        Ok(reads.iter().map(lost).collect())
    }
}

/// For the metrics: no names.
fn counted(reads: u64, outcome: &'static str) {
    metrics::counter!("sealport_secret_reads_total", "outcome" => outcome).increment(reads);
}

fn check_list(keys: &[KeyPath]) -> Result<(), Refusal> {
    let refuse = |detail: String| Err(Refusal::invalid("paths", detail));
    if keys.is_empty() || keys.len() > READ_AT_ONCE_MAX {
        return refuse(format!("Ask for 1 to {READ_AT_ONCE_MAX} values at once."));
    }
    let mut named = HashSet::new();
    match keys
        .iter()
        .find(|key| !named.insert(key.to_string().to_ascii_lowercase()))
    {
        Some(twice) => refuse(format!("{twice} stands in the list twice.")),
        None => Ok(()),
    }
}

/// The refusal of one of a list: with its path, which the caller sent.
fn named(error: Error, keys: &[KeyPath], place: i32) -> Error {
    let key = usize::try_from(place - 1)
        .ok()
        .and_then(|index| keys.get(index));
    match (error, key) {
        (Error::Refused(refusal), Some(key)) if refusal.kind != RefusalKind::Unauthenticated => {
            Refusal {
                detail: format!("{key}: {} No value was given.", refusal.detail),
                ..refusal
            }
            .into()
        }
        (error, _) => error,
    }
}

/// Whether it is the token itself that is refused.
fn is_dead(why: &str) -> bool {
    matches!(refusal(why), Error::Refused(refusal) if refusal.kind == RefusalKind::Unauthenticated)
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
        "the secret is for use only" => (
            RefusalKind::Denied,
            "This value was given to a deployment for use only, and is shown to nobody, its owner included.",
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

//! The gateway's door: whether a call's token opens the deployment, and with which of the caller's own keys. One statement answers it, and
//! calls that come meanwhile share the next.

use ipnet::IpNet;
use secrecy::SecretString;
use uuid::Uuid;

use super::audit::{AND_MORE, plain};
use super::limits::Noted;
use super::queues::{Question, Queues};
use super::tokens::PlainToken;
use super::{Db, Error, Result};
use crate::model::actors::Origin;
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::DeploymentName;

/// A gateway call that may go on.
#[derive(Clone, Debug)]
pub struct GatewayPass {
    pub token_id: Uuid,
    pub deployment_id: Uuid,
    /// The token's maker: whose own keys a call runs with, where callers bring some.
    pub user_id: Uuid,
    pub keys: CallersKeys,
}

/// Whether a call needs keys of the caller's own, and has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallersKeys {
    /// Everybody's calls run with the owner's secrets.
    Shared,
    /// Env names, secrets and versions, in one text: another text is another instance.
    Connected(String),
    /// The env names that the caller has not connected, or that cannot be used now.
    Missing(Vec<String>),
}

/// Why a call comes no further than the gateway's door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    NoToken,
    ForeignOrigin,
}

impl Db {
    /// Checks a gateway token for a deployment; `record` puts the access on record too. Refusals always are, but
    /// for floods: of one token, and of tokens that are nobody's from one address, some in each minute.
    /// Errors: `Unauthenticated`, the same for every cause and every name.
    pub async fn gateway_open(
        &self,
        token: &SecretString,
        deployment: &str,
        origin: &Origin,
        record: bool,
    ) -> Result<GatewayPass> {
        let action = Action::GatewayConnect;
        let Some(token) = PlainToken::parse(token) else {
            self.record_stranger(action, origin, "malformed token")
                .await?;
            return Err(refused());
        };
        let question = GatewayQuestion {
            token_hash: token.hashed().into_string(),
            name: DeploymentName::parse(deployment)
                .map(String::from)
                .unwrap_or_default(),
            record,
            address: origin.address.map(IpNet::from),
            agent: plain(&origin.agent),
            request_id: plain(&origin.request_id),
        };
        let answer = match record {
            // Each has a row of its own.
            true => question.alone(self).await?,
            false => self.ask_in_turn(question).await?,
        };
        match answer {
            GatewayAnswer {
                token_id: Some(token_id),
                deployment_id: Some(deployment_id),
                user_id: Some(user_id),
                refused: None,
                per_user,
                versions,
                missing,
            } => Ok(GatewayPass {
                token_id,
                deployment_id,
                user_id,
                keys: match (per_user.unwrap_or(false), missing.unwrap_or_default()) {
                    (false, _) => CallersKeys::Shared,
                    (true, missing) if missing.is_empty() => {
                        CallersKeys::Connected(versions.unwrap_or_default())
                    }
                    (true, missing) => CallersKeys::Missing(missing),
                },
            }),
            GatewayAnswer { token_id: None, .. } => {
                self.record_stranger(action, origin, "unknown token")
                    .await?;
                Err(refused())
            }
            _ => Err(refused()),
        }
    }

    /// Puts on record that a call was turned away before anything of it was looked at.
    pub async fn gateway_turned_away(&self, origin: &Origin, why: TurnedAway) -> Result<()> {
        let reason = match why {
            TurnedAway::NoToken => "no token",
            TurnedAway::ForeignOrigin => "foreign Origin",
        };
        self.record_stranger(Action::GatewayConnect, origin, reason)
            .await
    }
}

/// A call that stands at the door.
pub(super) struct GatewayQuestion {
    token_hash: String,
    /// Empty for what is no name: that is no deployment's, and does not come near the database.
    name: String,
    /// Whether it goes on record also when it passes.
    record: bool,
    address: Option<IpNet>,
    agent: Option<String>,
    request_id: Option<String>,
}

/// What the database says of it.
#[derive(Clone)]
pub(super) struct GatewayAnswer {
    token_id: Option<Uuid>,
    deployment_id: Option<Uuid>,
    refused: Option<String>,
    user_id: Option<Uuid>,
    per_user: Option<bool>,
    versions: Option<String>,
    missing: Option<Vec<String>>,
}

impl GatewayQuestion {
    /// The answer, and whether it left a row in the record: a refusal of a token that is known, but for floods.
    async fn ask(&self, db: &Db) -> Result<(GatewayAnswer, bool)> {
        let action = Action::GatewayConnect.as_str();
        let refusal_note = match db.floods().next_of_bearer(action, &self.token_hash) {
            Noted::Each => Some(""),
            Noted::Last => Some(AND_MORE),
            Noted::Passed => None,
        };
        let ask = || {
            sqlx::query_as!(
                GatewayAnswer,
                "select token_id, deployment_id, refused, user_id, per_user, versions, missing from gateway_open($1, $2, $3, $4, $5, $6, $7, $8)",
                self.token_hash,
                self.name,
                // New with each try: one whose answer was lost may be on record.
                Uuid::now_v7(),
                self.record,
                refusal_note,
                self.address as _,
                self.agent.as_deref(),
                self.request_id.as_deref(),
            )
            .fetch_one(db.pool())
        };
        let answer = db.on_a_live_connection(ask).await?;
        let is_known_and_refused = answer.token_id.is_some() && answer.refused.is_some();
        if is_known_and_refused {
            db.floods().of_bearer(action, &self.token_hash);
        }
        Ok((answer, is_known_and_refused && refusal_note.is_some()))
    }
}

impl Question for GatewayQuestion {
    type Answer = GatewayAnswer;
    /// One answer is for all who wait: a second statement beside it would only cost.
    const ROUNDS_AT_ONCE: usize = 1;

    fn queues(db: &Db) -> &Queues<Self> {
        db.gateway_queues()
    }

    /// A pass is for both.
    fn key(&self) -> String {
        format!("{} {}", self.token_hash, self.name)
    }

    async fn alone(&self, db: &Db) -> Result<GatewayAnswer> {
        Ok(self.ask(db).await?.0)
    }

    /// None of these goes on record when it passes, so a yes is the same for all of them, and a no once the token has left as many rows
    /// as it may. Till then each no is asked and put on record by itself, one after the other, so that a flood is noticed.
    async fn together(db: &Db, questions: &[&Self]) -> Result<Vec<Result<GatewayAnswer>>> {
        let mut answers = Vec::with_capacity(questions.len());
        while let Some(question) = questions.get(answers.len()) {
            match question.ask(db).await {
                Ok((answer, true)) => answers.push(Ok(answer)),
                Ok((answer, false)) => {
                    answers.resize_with(questions.len(), || Ok(answer.clone()));
                }
                Err(error) if answers.is_empty() => return Err(error),
                // Those before it are on record, and are not asked again.
                Err(error) => {
                    answers.push(Err(error));
                    break;
                }
            }
        }
        Ok(answers)
    }
}

/// One sentence for every cause and every name: which names there are is not for strangers.
fn refused() -> Error {
    Refusal::new(
        RefusalKind::Unauthenticated,
        "This needs a gateway token of this deployment: Authorization: Bearer sp_… . Make one on the deployment's page.",
    )
    .into()
}

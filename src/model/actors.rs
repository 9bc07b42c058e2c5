//! Who is acting, and from where.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::levels::Level;
use super::paths::Folder;

/// Who acts. Every transaction knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A person in a browser session.
    User(SignedInUser),
    /// A program with a token of the API.
    Token(Box<ApiToken>),
    /// A deployment at its start: reads its bindings with the rights its owner has now.
    Deployment { id: Uuid, owner_id: Uuid },
    /// Background work of the system itself, and the operator's commands on the host.
    Job(Job),
    /// Nobody yet; what was presented opens only what belongs to it.
    Anonymous(Presented),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedInUser {
    pub id: Uuid,
    pub handle: String,
    pub email: String,
    pub is_admin: bool,
}

/// A token of the API, as it was when it was shown. What it opens is decided at each access, from its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    /// SHA-256 in hex: what the database looks it up by.
    pub hash: String,
    pub name: String,
    /// Whose rights it has, at most; never an administrator's.
    pub maker: SignedInUser,
    pub owner_id: Uuid,
    /// The handle of the owner whom it acts for.
    pub owner: String,
    pub ceiling: Level,
    pub under: Option<Folder>,
    /// May make and change deployments.
    pub deploys: bool,
}

/// The system's own workers; each has policies of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Runs releases and supervises local deployments.
    Supervisor,
    /// Counts tries.
    Limits,
    /// Removes what is past its age: drafts, sessions, log lines, attempts.
    Retention,
    /// Numbers and seals the record.
    Sealer,
    /// Gives data keys successors and seals anew what the former ones sealed; says which servers are there.
    Rotation,
    /// Reads what a backup holds.
    Backup,
    /// Ends secrets that have expired, and generates anew what is due.
    Caretaker,
    /// A person at the host's command line.
    Operator,
    /// Ends an account and gives what it owned to another.
    Handover,
}

impl Job {
    /// Whether it goes on by itself, beside all requests.
    pub fn is_in_background(self) -> bool {
        matches!(
            self,
            Job::Supervisor | Job::Retention | Job::Sealer | Job::Rotation | Job::Caretaker
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Job::Supervisor => "supervisor",
            Job::Limits => "limits",
            Job::Retention => "retention",
            Job::Sealer => "sealer",
            Job::Rotation => "rotation",
            Job::Backup => "backup",
            Job::Caretaker => "caretaker",
            Job::Operator => "operator",
            Job::Handover => "handover",
        }
    }
}

/// What an anonymous caller has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    Nothing,
    /// A canonical e-mail address, at sign-in.
    Email(String),
    /// The SHA-256 of a session id, a token or a one-time link, in hex.
    Hash(String),
}

/// Where a request came from: for the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub address: Option<IpAddr>,
    /// The user agent, cut to 200 characters, control characters removed.
    pub agent: Option<String>,
    pub request_id: Option<String>,
}

/// An actor and where it calls from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub actor: Actor,
    pub origin: Origin,
}

impl Caller {
    pub fn job(job: Job) -> Self {
        Caller {
            actor: Actor::Job(job),
            origin: Origin::default(),
        }
    }

    /// The person who calls, or by whose token a program does.
    pub fn user(&self) -> Option<&SignedInUser> {
        match &self.actor {
            Actor::User(user) => Some(user),
            Actor::Token(token) => Some(&token.maker),
            Actor::Deployment { .. } | Actor::Job(_) | Actor::Anonymous(_) => None,
        }
    }

    /// Whose secrets and deployments are meant where no owner is named.
    pub fn own(&self) -> Option<(Uuid, &str)> {
        match &self.actor {
            Actor::Token(token) => Some((token.owner_id, &token.owner)),
            _ => self.user().map(|user| (user.id, user.handle.as_str())),
        }
    }
}

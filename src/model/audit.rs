//! The record of every access, as it is shown.

use serde::{Deserialize, Serialize};
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::errors::Refusal;

/// One row of the record. Every field is typed or escaped; none can hold a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    pub id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `user`, `token`, `deployment`, `job` or `anonymous`.
    pub actor_kind: String,
    /// As named then: a handle, a deployment's name, a job.
    pub actor_name: String,
    /// A verb of [`Action`].
    pub action: String,
    /// `done` or `refused`.
    pub outcome: String,
    pub path: Option<String>,
    pub version: Option<i32>,
    pub deployment: Option<String>,
    pub release: Option<i32>,
    pub address: Option<String>,
    pub agent: Option<String>,
    /// With whom something was shared, or who became a member: a handle.
    pub grantee: Option<String>,
    /// The level that was given or taken.
    pub level: Option<String>,
    /// A short reason, from a fixed list.
    pub reason: Option<String>,
    /// Whose record it stands in: a handle. For sentences; an export has the columns that it always had.
    #[serde(default, skip_serializing)]
    pub owner: Option<String>,
    /// Of a token: whose it is, a handle. Its own name is any.
    #[serde(default, skip_serializing)]
    pub maker: Option<String>,
}

/// What can stand in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    SignIn,
    SignOut,
    PasswordChange,
    UserAdd,
    InvitationMake,
    InvitationWithdraw,
    ResetMake,
    /// A reset link was used.
    PasswordReset,
    /// The password was asked for again.
    PasswordConfirm,
    SessionEnd,
    AdministratorMake,
    AdministratorUnmake,
    AccountEnd,
    SecretCreate,
    SecretReplace,
    SecretEdit,
    SecretCompare,
    SecretDelete,
    /// To another owner.
    SecretMove,
    /// An old version's value became the newest again.
    SecretRollBack,
    /// One version was destroyed for good.
    SecretVersionDestroy,
    /// Its end came, and it was switched off.
    SecretExpire,
    /// When its value has to be another was set.
    SecretRotation,
    SettingsChange,
    /// A value was handed to a deployment's start.
    SecretBind,
    DeploymentCreate,
    /// Somebody asked for the page of a deployment that is not theirs to see; looking at one's own is not recorded.
    DeploymentShow,
    DeploymentChange,
    DeploymentRedeploy,
    DeploymentStart,
    DeploymentStop,
    DeploymentDestroy,
    /// To another owner.
    DeploymentMove,
    /// A caller let a deployment use a key of their own.
    ConnectionMake,
    ConnectionEnd,
    ReleaseEnd,
    TokenCreate,
    TokenRevoke,
    GatewayConnect,
    /// Somebody was turned away at the API's door.
    ApiConnect,
    /// A value was given to whoever may read it.
    SecretRead,
    KeyCreate,
    /// A step of changing the master key, or of the order to change data keys.
    KeyRotate,
    /// The master key was printed as recovery shares.
    KeySplit,
    /// An owner's data key got a successor, or went.
    DataKeyRotate,
    /// An administrator says that the master key is backed up.
    KeyBackedUp,
    StoreBackup,
    StoreRestore,
    /// Every value was opened to see whether it opens, and none was handed out.
    StoreCheck,
    /// A level was given or changed, to a user or a team.
    Share,
    Unshare,
    TeamCreate,
    /// Somebody became a member, or has another level.
    TeamMember,
    TeamLeave,
    TeamDissolve,
    AuditExport,
    /// Rows that were exported left the record.
    AuditDrop,
}

impl Action {
    /// In the order in which a person looks for them.
    pub const ALL: &[Action] = &[
        Action::SecretCreate,
        Action::SecretReplace,
        Action::SecretEdit,
        Action::SecretCompare,
        Action::SecretRead,
        Action::SecretBind,
        Action::SecretMove,
        Action::SecretRollBack,
        Action::SecretVersionDestroy,
        Action::SecretExpire,
        Action::SecretRotation,
        Action::SecretDelete,
        Action::Share,
        Action::Unshare,
        Action::DeploymentCreate,
        Action::DeploymentShow,
        Action::DeploymentChange,
        Action::DeploymentRedeploy,
        Action::DeploymentStart,
        Action::DeploymentStop,
        Action::DeploymentMove,
        Action::DeploymentDestroy,
        Action::ConnectionMake,
        Action::ConnectionEnd,
        Action::ReleaseEnd,
        Action::GatewayConnect,
        Action::ApiConnect,
        Action::TokenCreate,
        Action::TokenRevoke,
        Action::SignIn,
        Action::SignOut,
        Action::SessionEnd,
        Action::PasswordChange,
        Action::PasswordConfirm,
        Action::PasswordReset,
        Action::ResetMake,
        Action::InvitationMake,
        Action::InvitationWithdraw,
        Action::UserAdd,
        Action::AdministratorMake,
        Action::AdministratorUnmake,
        Action::AccountEnd,
        Action::TeamCreate,
        Action::TeamMember,
        Action::TeamLeave,
        Action::TeamDissolve,
        Action::SettingsChange,
        Action::KeyCreate,
        Action::KeyRotate,
        Action::KeySplit,
        Action::KeyBackedUp,
        Action::DataKeyRotate,
        Action::StoreBackup,
        Action::StoreRestore,
        Action::StoreCheck,
        Action::AuditExport,
        Action::AuditDrop,
    ];

    /// Those that use what they are about, rather than change it: a value is opened, a server is called.
    pub const ACCESSES: &[Action] = &[
        Action::SecretBind,
        Action::SecretRead,
        Action::SecretCompare,
        Action::GatewayConnect,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Action::SignIn => "sign-in",
            Action::SignOut => "sign-out",
            Action::PasswordChange => "password.change",
            Action::UserAdd => "user.add",
            Action::InvitationMake => "invitation.make",
            Action::InvitationWithdraw => "invitation.withdraw",
            Action::ResetMake => "reset.make",
            Action::PasswordReset => "password.reset",
            Action::PasswordConfirm => "password.confirm",
            Action::SessionEnd => "session.end",
            Action::AdministratorMake => "administrator.make",
            Action::AdministratorUnmake => "administrator.unmake",
            Action::AccountEnd => "account.end",
            Action::SecretCreate => "secret.create",
            Action::SecretReplace => "secret.replace",
            Action::SecretEdit => "secret.edit",
            Action::SecretCompare => "secret.compare",
            Action::SecretDelete => "secret.delete",
            Action::SecretMove => "secret.move",
            Action::SecretRollBack => "secret.roll-back",
            Action::SecretVersionDestroy => "secret.version-destroy",
            Action::SecretExpire => "secret.expire",
            Action::SecretRotation => "secret.rotation",
            Action::SettingsChange => "settings.change",
            Action::SecretBind => "secret.bind",
            Action::DeploymentCreate => "deployment.create",
            Action::DeploymentShow => "deployment.show",
            Action::DeploymentChange => "deployment.change",
            Action::DeploymentRedeploy => "deployment.redeploy",
            Action::DeploymentStart => "deployment.start",
            Action::DeploymentStop => "deployment.stop",
            Action::DeploymentDestroy => "deployment.destroy",
            Action::DeploymentMove => "deployment.move",
            Action::ConnectionMake => "connection.make",
            Action::ConnectionEnd => "connection.end",
            Action::ReleaseEnd => "release.end",
            Action::TokenCreate => "token.create",
            Action::TokenRevoke => "token.revoke",
            Action::GatewayConnect => "gateway.connect",
            Action::ApiConnect => "api.connect",
            Action::SecretRead => "secret.read",
            Action::KeyCreate => "key.create",
            Action::KeyRotate => "key.rotate",
            Action::KeySplit => "key.split",
            Action::DataKeyRotate => "data-key.rotate",
            Action::KeyBackedUp => "key.backed-up",
            Action::StoreBackup => "store.backup",
            Action::StoreRestore => "store.restore",
            Action::StoreCheck => "store.check",
            Action::Share => "share",
            Action::Unshare => "unshare",
            Action::TeamCreate => "team.create",
            Action::TeamMember => "team.member",
            Action::TeamLeave => "team.leave",
            Action::TeamDissolve => "team.dissolve",
            Action::AuditExport => "audit.export",
            Action::AuditDrop => "audit.drop",
        }
    }
}

/// What is looked for in the record, as a form or an address says it. Empty fields ask for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditAsked {
    /// A part of a path.
    pub path: String,
    /// A part of the name of whoever acted.
    pub person: String,
    /// An action's name, or its first word for all that begin with it.
    pub action: String,
    pub deployment: String,
    /// The id of one secret, whatever its path was.
    pub secret: String,
    /// Days, both included, as in 2027-03-31.
    pub from: String,
    pub to: String,
}

/// The longest text of a field that is looked for.
const ASKED_MAX_CHARS: usize = 255;

/// What is looked for, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub path: String,
    pub person: String,
    pub action: String,
    pub deployment: String,
    pub secret: Option<Uuid>,
    pub since: Option<OffsetDateTime>,
    /// Not included.
    pub until: Option<OffsetDateTime>,
}

impl AuditAsked {
    /// Every field with its name.
    pub fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("path", &self.path),
            ("person", &self.person),
            ("action", &self.action),
            ("deployment", &self.deployment),
            ("secret", &self.secret),
            ("from", &self.from),
            ("to", &self.to),
        ]
    }

    pub fn is_everything(&self) -> bool {
        self.fields().iter().all(|(_, text)| text.trim().is_empty())
    }
}

impl AuditFilter {
    /// By path, person, action and deployment, and between two moments.
    pub fn of_words(
        words: [&str; 4],
        since: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
    ) -> AuditFilter {
        let [path, person, action, deployment] = words.map(asked_words);
        AuditFilter {
            path,
            person,
            action,
            deployment,
            secret: None,
            since,
            until,
        }
    }

    /// Errors: `Invalid` at `from`, `to` or `secret`.
    pub fn parse(asked: &AuditAsked) -> Result<AuditFilter, Refusal> {
        let secret = asked.secret.trim();
        let until = day(&asked.to, "to")?.and_then(Date::next_day);
        Ok(AuditFilter {
            path: asked_words(&asked.path),
            person: asked_words(&asked.person),
            action: asked_words(&asked.action),
            deployment: asked_words(&asked.deployment),
            secret: (!secret.is_empty())
                .then(|| {
                    Uuid::parse_str(secret)
                        .map_err(|_| Refusal::invalid("secret", "That is no id of a secret."))
                })
                .transpose()?,
            since: day(&asked.from, "from")?.map(|day| day.midnight().assume_utc()),
            until: until.map(|day| day.midnight().assume_utc()),
        })
    }
}

/// PostgreSQL's text holds no NUL, and the record no other control characters.
fn asked_words(text: &str) -> String {
    let plain = text.trim().chars().filter(|c| !c.is_control());
    plain.take(ASKED_MAX_CHARS).collect()
}

fn day(text: &str, field: &str) -> Result<Option<Date>, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map(Some)
        .map_err(|_| Refusal::invalid(field, "Write the day as in 2027-03-31, or leave it empty."))
}

/// How many rows of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDay {
    pub day: Date,
    pub done: i64,
    pub refused: i64,
}

/// The rows of each day, and whether there were too many to count them all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDays {
    /// Without a gap, the oldest first.
    pub days: Vec<AuditDay>,
    pub more: bool,
}

/// What is on record about one secret or deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectActivity {
    /// The newest first.
    pub rows: Vec<AuditRow>,
    /// How often it was used, counted up to [`ACCESSES_COUNTED_MAX`].
    pub accesses: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_access: Option<OffsetDateTime>,
}

/// Further accesses are not counted one by one.
pub const ACCESSES_COUNTED_MAX: i64 = 10_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_action_is_in_the_list() {
        let named = include_str!("audit.rs")
            .lines()
            .filter(|line| line.trim_start().starts_with("Action::") && line.contains(" => \""));
        assert_eq!(named.count(), Action::ALL.len());
        let mut names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Action::ALL.len());
    }

    #[test]
    fn what_is_asked_is_parsed_or_refused_at_its_field() {
        assert_eq!(
            AuditFilter::parse(&AuditAsked::default()).unwrap(),
            AuditFilter::default()
        );
        let asked = AuditAsked {
            path: " a\0b ".into(),
            from: "2027-03-31".into(),
            to: "2027-03-31".into(),
            ..AuditAsked::default()
        };
        assert!(!asked.is_everything());
        let filter = AuditFilter::parse(&asked).unwrap();
        assert_eq!(filter.path, "ab");
        let length = filter.until.unwrap() - filter.since.unwrap();
        assert_eq!(length, time::Duration::days(1));
        for field in ["from", "to", "secret"] {
            let mut asked = AuditAsked::default();
            match field {
                "from" => asked.from = "31.3.2027".into(),
                "to" => asked.to = "2027-02-31".into(),
                _ => asked.secret = "x".into(),
            }
            let refusal = AuditFilter::parse(&asked).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field));
        }
    }
}

//! The record of every access, as it is shown.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

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
    ReleaseEnd,
    TokenCreate,
    TokenRevoke,
    GatewayConnect,
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
}

impl Action {
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
            Action::ReleaseEnd => "release.end",
            Action::TokenCreate => "token.create",
            Action::TokenRevoke => "token.revoke",
            Action::GatewayConnect => "gateway.connect",
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
        }
    }
}

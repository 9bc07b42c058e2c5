//! Names with a grammar: secret paths, handles, deployment names, env names. Parsed once, at the door.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::errors::Refusal;

/// The longest path, in bytes.
pub const PATH_LEN_BYTES: usize = 255;
/// How the name of a secret with a damaged path begins.
const STAND_IN: &str = "damaged-";
/// The longest handle or deployment name, in bytes.
pub const HANDLE_LEN_BYTES: usize = 39;
/// The longest env name, in bytes.
pub const ENV_NAME_LEN_BYTES: usize = 255;

/// Gives a validated string type its serde form, `Display` and `as_str`.
macro_rules! parsed_string {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Refusal;
            fn try_from(raw: String) -> Result<Self, Refusal> {
                $name::parse(&raw)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// Where a secret lives: `OPENAI_API_KEY`, or `meta|project|service/<name>/…` with 3 to 8 segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretPath(String);
parsed_string!(SecretPath);

impl SecretPath {
    /// Errors: `Invalid` at the field `path`, naming the rule that was broken.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let refuse = |detail: String| Err(Refusal::invalid("path", detail));
        if raw.is_empty() {
            return refuse("Give the secret a name, such as OPENAI_API_KEY.".into());
        }
        if raw.len() > PATH_LEN_BYTES {
            return refuse(format!("A path has at most {PATH_LEN_BYTES} characters."));
        }
        let segments: Vec<&str> = raw.split('/').collect();
        if let Some(bad) = segments.iter().find(|segment| !is_segment(segment)) {
            return refuse(if bad.is_empty() {
                "A path has no empty segment: remove the extra slash.".into()
            } else {
                "Each segment starts with a letter, digit or underscore and goes on with letters, digits, '.', '_' or '-'.".into()
            });
        }
        if segments.len() > 1 {
            if !["meta", "project", "service"].contains(&segments[0]) {
                return refuse(
                    "A path with folders starts with meta/, project/ or service/, as in project/shop/STRIPE_KEY.".into(),
                );
            }
            if !(3..=8).contains(&segments.len()) {
                return refuse(format!(
                    "A path under {}/ has 3 to 8 segments, as in {}/shop/STRIPE_KEY.",
                    segments[0], segments[0]
                ));
            }
        }
        Ok(SecretPath(raw.to_owned()))
    }

    /// Stands where a stored path is damaged: names the secret by its id.
    pub fn stand_in(id: uuid::Uuid) -> Self {
        SecretPath(format!("{STAND_IN}{id}"))
    }

    /// The secret that it stands in for, when it does.
    pub fn stands_for(&self) -> Option<uuid::Uuid> {
        self.0.strip_prefix(STAND_IN)?.parse().ok()
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What stands before the name, with its slash; empty for a bare name.
    pub fn folder(&self) -> &str {
        &self.0[..self.0.len() - self.name().len()]
    }
}

fn is_segment(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The permanent name of an owner: a user or a team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(String);
parsed_string!(Handle);

impl Handle {
    /// Errors: `Invalid` at the field `handle`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        if is_handle(raw) {
            Ok(Handle(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "handle",
                "A handle starts with a small letter and has at most 39 small letters, digits and hyphens.",
            ))
        }
    }

    /// A handle made of the part of an e-mail address before the `@`.
    pub fn suggest(email: &str) -> Handle {
        let local = email.split('@').next().unwrap_or_default();
        let mut name: String = local
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "u-");
        }
        name.truncate(HANDLE_LEN_BYTES);
        Handle(name)
    }
}

/// The name of a deployment: unique in the installation, part of its gateway URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentName(String);
parsed_string!(DeploymentName);

impl DeploymentName {
    /// Errors: `Invalid` at the field `name`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        if is_handle(raw) {
            Ok(DeploymentName(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "name",
                "A deployment's name starts with a small letter and has at most 39 small letters, digits and hyphens.",
            ))
        }
    }
}

fn is_handle(raw: &str) -> bool {
    let mut bytes = raw.bytes();
    raw.len() <= HANDLE_LEN_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The variable a secret becomes in a server's environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvName(String);
parsed_string!(EnvName);

/// Names that would change how a program is loaded or run, not what it knows.
const REFUSED_ENV_NAMES: [&str; 11] = [
    "PATH",
    "HOME",
    "PORT",
    "SHELL",
    "ENV",
    "BASH_ENV",
    "IFS",
    "NODE_ENV",
    "NODE_OPTIONS",
    "NODE_PATH",
    "RUBYOPT",
];
const REFUSED_ENV_PREFIXES: [&str; 9] = [
    "LD_",
    "DYLD_",
    "PYTHON",
    "PERL5",
    "GIT_",
    "NPM_CONFIG_",
    "PIP_",
    "UV_",
    "SEALPORT_",
];

impl EnvName {
    /// Errors: `Invalid` at the field `env`, for the grammar and for the names refused everywhere.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let mut bytes = raw.bytes();
        let well_formed = raw.len() <= ENV_NAME_LEN_BYTES
            && bytes
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !well_formed {
            return Err(Refusal::invalid(
                "env",
                "A variable's name has letters, digits and underscores and does not start with a digit.",
            ));
        }
        // npm reads its settings in any case, and no server needs `path` beside `PATH`.
        let upper = raw.to_ascii_uppercase();
        if upper == "JAVA_TOOL_OPTIONS"
            || REFUSED_ENV_NAMES.contains(&upper.as_str())
            || REFUSED_ENV_PREFIXES
                .iter()
                .any(|prefix| upper.starts_with(prefix))
        {
            return Err(Refusal::invalid(
                "env",
                format!(
                    "{upper} decides how programs run, so it cannot be bound. Choose another name."
                ),
            ));
        }
        Ok(EnvName(raw.to_owned()))
    }

    /// The last segment, upper-cased, `-` and `.` as `_`. Errors: as `parse`.
    pub fn default_for(path: &SecretPath) -> Result<Self, Refusal> {
        EnvName::parse(&path.name().to_ascii_uppercase().replace(['-', '.'], "_"))
    }
}

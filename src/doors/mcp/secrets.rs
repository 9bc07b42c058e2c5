//! The tools for secrets.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Called;
use super::outcome::Outcome;
use crate::doors::rest::secrets::{Generate, GeneratedAs};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{EnvName, Folder, KeyPath, SecretPath};
use crate::model::secrets::{Kind, Scope, SecretFilter, SecretSort, SecretSummary};
use crate::store::Error;
use crate::store::secret_put::{Expected, SecretPut};
use crate::store::secrets::{Encoding, NewValue, SecretEdit};

/// The most of one list; whoever has more narrows it.
const LISTED: usize = 500;
/// Random bytes of a value that is only said to be generated.
const GENERATED_BYTES: usize = 32;
/// As the store has it; here so that it is told of the argument.
const GENERATED_RANGE_BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Named {
    key_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SetSecret {
    key_path: String,
    value: Option<SecretString>,
    generate: Option<Value>,
    description: Option<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListSecrets {
    scope: Option<Scope>,
    project: Option<String>,
    service: Option<String>,
}

/// What `get_secret` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Got<'a> {
    key_path: &'a str,
    found: bool,
    revealed: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    value: Option<&'a SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_name: Option<EnvName>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    about: Option<About>,
    #[serde(skip_serializing_if = "Option::is_none")]
    how_to_bind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What stands beside a value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    description: String,
    kind: Kind,
    scope: Scope,
    status: &'static str,
    expires_at: Option<String>,
    last_accessed: Option<String>,
    used_by: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretSet {
    key_path: String,
    version: i32,
    created: bool,
    generated: bool,
    env_name: Option<EnvName>,
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    key_path: String,
    description: String,
    scope: Scope,
    status: &'static str,
    last_accessed: Option<String>,
}

#[derive(Serialize)]
struct List {
    secrets: Vec<Listed>,
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    key_path: String,
    deleted: bool,
    missed_by: Vec<String>,
}

impl Called {
    /// One statement decides, reads and puts on record. Where it lets no value out, the answer says what can be done without one.
    pub(super) async fn get_secret(&self, asked: Named) -> Result<Outcome, Refusal> {
        let at = KeyPath::parse(&asked.key_path)?;
        let read = self
            .db
            .secret_read_by_mcp(&self.token, &at, &self.caller.origin)
            .await;
        match read {
            Ok(read) => {
                let key_path = key_path(&at, &read.path);
                let got = Got {
                    revealed: true,
                    value: Some(&read.value),
                    version: Some(read.version),
                    ..Got::of(&key_path, EnvName::default_for(&read.path).ok())
                };
                Outcome::with_value(&got, read.value.expose_secret().len())
            }
            Err(error) => {
                let refusal = error.into_refusal();
                match refusal.kind {
                    RefusalKind::NotFound => Outcome::done(&missing(&asked.key_path)),
                    RefusalKind::Denied | RefusalKind::Conflict => {
                        self.described(&at, refusal).await
                    }
                    _ => Err(refusal),
                }
            }
        }
    }

    /// All but the value, and why it is not there.
    async fn described(&self, at: &KeyPath, refusal: Refusal) -> Result<Outcome, Refusal> {
        let found = match self.db.secret_at(&self.caller, at).await {
            Ok(found) => found,
            Err(error) => return Err(error.into_refusal()),
        };
        let used = self.db.secrets_last_used(&self.caller, &[found.id]).await;
        let used = used.map_err(Error::into_refusal)?;
        let key_path = key_path(at, &found.path);
        let status = status(&found);
        let reason = match status {
            "active" if refusal.kind == RefusalKind::Conflict => "conflict",
            "active" if found.level >= Level::Read && !found.use_only => "values_off",
            "active" => "use_only",
            other => other,
        };
        let env = EnvName::default_for(&found.path).ok();
        let usable = matches!(reason, "use_only" | "values_off");
        Outcome::done(&Got {
            version: Some(found.version),
            how_to_bind: usable.then(|| how_to_bind(&key_path, env.as_ref())),
            reason: Some(reason),
            detail: Some(refusal.detail),
            about: Some(About {
                last_accessed: used.get(&found.id).copied().and_then(moment),
                expires_at: found.expires_at.and_then(moment),
                scope: scope(&found.path),
                kind: found.kind,
                status,
                used_by: found.deployments().into_iter().map(str::to_owned).collect(),
                description: found.description,
            }),
            ..Got::of(&key_path, env)
        })
    }

    pub(super) async fn set_secret(&self, asked: SetSecret) -> Result<Outcome, Refusal> {
        let at = KeyPath::parse(&asked.key_path)?;
        let generate = match asked.generate {
            Some(asked) => to_generate(asked)?,
            None => None,
        };
        let generated = generate.is_some();
        let value = match (asked.value, generate) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "generate",
                    "Give value or generate, not both: a value is either yours or made by Sealport.",
                ));
            }
            (Some(value), None) => Some(NewValue::Typed(value)),
            (None, Some(Generate { bytes, encoding })) => Some(NewValue::Generated {
                bytes,
                encoding: match encoding {
                    GeneratedAs::Base64Url => Encoding::Base64Url,
                    GeneratedAs::Hex => Encoding::Hex,
                },
            }),
            (None, None) => None,
        };
        let ends = asked.expires_at.as_deref().map(|text| {
            OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
                Refusal::invalid("expiresAt", "Write the time as in 2027-03-31T12:00:00Z.")
            })
        });
        let (ends, description) = (ends.transpose()?, asked.description);
        let put = match value {
            Some(value) => self.put(&at, value, description, ends).await,
            None => self.edit(&at, description, ends).await,
        };
        let (version, created, notes) = put.map_err(Error::into_refusal)?;
        Outcome::done(&SecretSet {
            key_path: at.to_string(),
            version,
            created,
            generated,
            env_name: EnvName::default_for(&at.path).ok(),
            notes,
        })
    }

    async fn put(
        &self,
        at: &KeyPath,
        value: NewValue,
        description: Option<String>,
        ends: Option<OffsetDateTime>,
    ) -> Result<(i32, bool, Vec<String>), Error> {
        let put = SecretPut {
            value,
            kind: None,
            description,
            tags: None,
            expires_at: ends.map(Some),
            expected: Expected::Anything,
        };
        let put = self.db.secret_put(&self.caller, at, put).await?;
        Ok((put.version, put.created, put.notes))
    }

    /// What stands beside the value of one that is there.
    async fn edit(
        &self,
        at: &KeyPath,
        description: Option<String>,
        ends: Option<OffsetDateTime>,
    ) -> Result<(i32, bool, Vec<String>), Error> {
        if description.is_none() && ends.is_none() {
            return Err(Refusal::invalid(
                "value",
                "Nothing was said to set. Give value, generate, description or expiresAt.",
            )
            .into());
        }
        let found = self
            .db
            .secret_at_for(&self.caller, at, Action::SecretEdit)
            .await?;
        let edit = SecretEdit {
            description,
            expires_at: ends.map(Some),
            ..SecretEdit::default()
        };
        self.db.secret_edit(&self.caller, found.id, edit).await?;
        Ok((found.version, false, Vec::new()))
    }

    pub(super) async fn list_secrets(&self, asked: ListSecrets) -> Result<Outcome, Refusal> {
        let filter = asked.filter()?;
        let sort = SecretSort::Path;
        let found = self
            .db
            .secrets_find(&self.caller, &filter, sort, LISTED as i64 + 1)
            .await
            .map_err(Error::into_refusal)?;
        let more = found.len() > LISTED;
        let ids: Vec<_> = found.iter().take(LISTED).map(|secret| secret.id).collect();
        let used = self.db.secrets_last_used(&self.caller, &ids).await;
        let used = used.map_err(Error::into_refusal)?;
        let own = self.caller.own().map(|(_, handle)| handle.to_owned());
        let secrets = found.into_iter().take(LISTED).map(|secret| Listed {
            key_path: match own.as_deref() == Some(&secret.owner) {
                true => secret.path.to_string(),
                false => format!("{}:{}", secret.owner, secret.path),
            },
            scope: scope(&secret.path),
            status: status(&secret),
            last_accessed: used.get(&secret.id).copied().and_then(moment),
            description: secret.description,
        });
        Outcome::done(&List {
            secrets: secrets.collect(),
            more,
        })
    }

    pub(super) async fn delete_secret(&self, asked: Named) -> Result<Outcome, Refusal> {
        let at = KeyPath::parse(&asked.key_path)?;
        let found = self
            .db
            .secret_at_for(&self.caller, &at, Action::SecretDelete)
            .await;
        let found = found.map_err(Error::into_refusal)?;
        self.db
            .secret_delete(&self.caller, found.id, None)
            .await
            .map_err(Error::into_refusal)?;
        Outcome::done(&Deleted {
            key_path: key_path(&at, &found.path),
            deleted: true,
            missed_by: found.deployments().into_iter().map(str::to_owned).collect(),
        })
    }
}

impl<'a> Got<'a> {
    fn of(key_path: &'a str, env_name: Option<EnvName>) -> Self {
        Got {
            key_path,
            found: true,
            revealed: false,
            value: None,
            version: None,
            env_name,
            about: None,
            how_to_bind: None,
            reason: None,
            detail: None,
        }
    }
}

fn missing(key_path: &str) -> Got<'_> {
    Got {
        found: false,
        reason: Some("missing"),
        detail: Some(
            "There is no such secret, or it is not for this token. list_secrets names those that are; set_secret makes one."
                .to_owned(),
        ),
        ..Got::of(key_path, None)
    }
}

fn how_to_bind(key_path: &str, env: Option<&EnvName>) -> String {
    let env = env.map_or("A_NAME", EnvName::as_str);
    format!(
        "Bind it without seeing it: call deploy with bindings [{{\"env\": \"{env}\", \"secret\": \"{key_path}\"}}]. The deployed \
         server reads the value as the environment variable {env}."
    )
}

/// `true`, a number of bytes, or what the API takes.
fn to_generate(asked: Value) -> Result<Option<Generate>, Refusal> {
    let usual = |bytes| Generate {
        bytes,
        encoding: GeneratedAs::default(),
    };
    let refuse = || {
        Refusal::invalid(
            "generate",
            "generate is true, or the number of random bytes, 16 to 4096.",
        )
    };
    let generate = match asked {
        Value::Null | Value::Bool(false) => return Ok(None),
        Value::Bool(true) => usual(GENERATED_BYTES),
        Value::Number(bytes) => {
            let bytes = bytes.as_u64().and_then(|bytes| bytes.try_into().ok());
            usual(bytes.ok_or_else(refuse)?)
        }
        other => serde_json::from_value(other).map_err(|_| refuse())?,
    };
    match GENERATED_RANGE_BYTES.contains(&generate.bytes) {
        true => Ok(Some(generate)),
        false => Err(refuse()),
    }
}

impl ListSecrets {
    fn filter(self) -> Result<SecretFilter, Refusal> {
        let (argument, scope, name) = match (self.project, self.service) {
            (None, None) => {
                return Ok(SecretFilter {
                    scope: self.scope,
                    ..SecretFilter::default()
                });
            }
            (Some(project), None) => ("project", Scope::Project, project),
            (None, Some(service)) => ("service", Scope::Service, service),
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "service",
                    "A path is of a project or of a service. Ask for one, then for the other.",
                ));
            }
        };
        if self.scope.is_some_and(|asked| asked != scope) {
            return Err(Refusal::invalid(
                "scope",
                format!("With {argument}, the scope is {argument}. Leave one of the two out."),
            ));
        }
        let under = Folder::parse(&format!("{argument}/{name}"));
        Ok(SecretFilter {
            under: Some(under.map_err(|refusal| refusal.at(argument))?),
            ..SecretFilter::default()
        })
    }
}

/// As it was asked for, with its owner or without, and as it is written.
fn key_path(at: &KeyPath, path: &SecretPath) -> String {
    let (owner, path) = (at.owner.clone(), path.clone());
    KeyPath { owner, path }.to_string()
}

fn scope(path: &SecretPath) -> Scope {
    path.folder()
        .split_once('/')
        .and_then(|(first, _)| Scope::from_name(first))
        .unwrap_or(Scope::Bare)
}

fn status(secret: &SecretSummary) -> &'static str {
    match secret.unusable(OffsetDateTime::now_utc()) {
        None => "active",
        Some("expired") => "expired",
        Some(_) => "off",
    }
}

pub(super) fn moment(at: OffsetDateTime) -> Option<String> {
    at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

/// The one place where a value goes into an answer.
fn exposed<S: Serializer>(value: &Option<&SecretString>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_some(&value.map(|value| value.expose_secret()))
}

//! Bodies (for now).
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::model::levels::Level;
use crate::model::paths::{KeyPath, SecretPath, Tag};
use crate::model::secrets::Kind;

fn expose<S: Serializer>(value: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.expose_secret())
}
fn expose_option<S: Serializer>(
    value: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_some(value.expose_secret()),
        None => serializer.serialize_none(),
    }
}
#[derive(Serialize, Deserialize)]
pub struct Guess {
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
}
#[derive(Serialize, Deserialize)]
pub struct Value {
    pub path: SecretPath,
    pub version: i32,
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
}
#[derive(Serialize, Deserialize)]
pub struct ValuesAsked {
    pub paths: Vec<KeyPath>,
}
#[derive(Serialize, Deserialize)]
pub struct Values {
    pub values: Vec<Value>,
}
#[derive(Serialize, Deserialize)]
pub struct Secret {
    pub owner: String,
    pub path: SecretPath,
    pub env: Option<String>,
    pub kind: Kind,
    pub description: String,
    pub tags: Vec<Tag>,
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    pub active: bool,
    pub used_by: Vec<String>,
    pub level: Level,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<SecretDue>,
}
#[derive(Serialize, Deserialize)]
pub struct SecretDue {
    pub why: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}
#[derive(Serialize, Deserialize)]
pub struct Same {
    pub same: bool,
}
#[derive(Serialize, Deserialize)]
pub struct Version {
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
    pub generated: bool,
    pub rolled_back_from: Option<i32>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub destroyed_at: Option<OffsetDateTime>,
}
#[derive(Serialize)]
pub struct Generate {
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}
#[derive(Serialize)]
pub struct SecretBody {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "expose_option")]
    pub value: Option<SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}
#[derive(Serialize)]
pub struct ImportEntry {
    pub name: String,
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
}
#[derive(Serialize)]
pub struct Import {
    pub under: String,
    pub on_conflict: String,
    pub dry_run: bool,
    pub entries: Vec<ImportEntry>,
}
#[derive(Serialize, Deserialize)]
pub struct ImportLine {
    pub name: String,
    pub path: Option<String>,
    pub is: String,
    pub reason: Option<String>,
}
#[derive(Serialize, Deserialize)]
pub struct ImportAnswer {
    pub lines: Vec<ImportLine>,
}
#[derive(Serialize, Deserialize)]
pub struct Grant {
    pub id: uuid::Uuid,
    pub grantee: String,
    #[serde(default)]
    pub email: Option<String>,
    pub level: String,
    #[serde(default)]
    pub only: Vec<String>,
}
impl Grant {
    pub fn is_with(&self, who: &str) -> bool {
        self.grantee == who || self.email.as_deref() == Some(who)
    }
}
#[derive(Serialize)]
pub struct Items {
    pub items: Vec<serde_json::Value>,
}

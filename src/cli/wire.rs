//! Bodies that are not there yet.
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

fn expose<S: Serializer>(value: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.expose_secret())
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

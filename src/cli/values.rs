//! Many values at once, for `run` and `export`: all or none.

use secrecy::SecretString;

use super::client::Client;
use super::failures::{Exit, Failure};
use super::places::Prefix;
use crate::doors::rest::secrets::Secret;
use crate::doors::rest::values::{Values, ValuesAsked};
use crate::model::paths::SecretPath;

/// As many as the API reads at once.
const AT_ONCE_MAX: usize = 200;

pub struct Revealed {
    pub path: SecretPath,
    pub value: SecretString,
}

/// The values of all secrets under a prefix. Errors: there is none; one of them cannot be read.
pub async fn under(client: &Client, prefix: &Prefix) -> anyhow::Result<Vec<Revealed>> {
    let [under, owner] = prefix.query();
    let query = [under, owner, ("limit", "500")];
    let items = client.list("/secrets", &query).await?;
    if items.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("There is no secret under {prefix} that this token can see."),
        )
        .into());
    }
    let mut paths = Vec::with_capacity(items.len());
    for item in items {
        let secret: Secret = serde_json::from_value(item)?;
        paths.push(prefix.named(secret.path));
    }
    let mut revealed = Vec::with_capacity(paths.len());
    for paths in paths.chunks(AT_ONCE_MAX) {
        let paths = paths.to_vec();
        let request = client.post("/values").body(&ValuesAsked { paths })?;
        let answer: Values = request.json().await?;
        revealed.extend(answer.values.into_iter().map(|found| Revealed {
            path: found.path,
            value: found.value,
        }));
    }
    Ok(revealed)
}

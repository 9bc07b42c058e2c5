//! Many values at once, for `run` and `export`: all or none.

use std::collections::BTreeMap;

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
    /// The handle of whose it is.
    pub owner: String,
    pub value: SecretString,
}

/// The variable that a secret becomes, also where no variable may have this name.
fn usual_name(path: &SecretPath) -> String {
    path.name().replace(['-', '.'], "_")
}

/// The values of all secrets under a prefix but those that would become the variables `except`, which are not read. Errors: there is
/// none; one of them cannot be read.
pub async fn under(
    client: &Client,
    prefix: &Prefix,
    except: &[String],
) -> anyhow::Result<Vec<Revealed>> {
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
    let mut owners = BTreeMap::new();
    for item in items {
        let secret: Secret = serde_json::from_value(item)?;
        let is_left_out = |name: &String| name.eq_ignore_ascii_case(&usual_name(&secret.path));
        if !except.iter().any(is_left_out) {
            owners.insert(secret.path.clone(), secret.owner);
            paths.push(prefix.named(secret.path));
        }
    }
    let mut revealed = Vec::with_capacity(paths.len());
    for paths in paths.chunks(AT_ONCE_MAX) {
        let paths = paths.to_vec();
        let request = client.post("/values").body(&ValuesAsked { paths })?;
        let answer: Values = request.json().await?;
        revealed.extend(answer.values.into_iter().map(|found| Revealed {
            owner: owners.get(&found.path).cloned().unwrap_or_default(),
            path: found.path,
            value: found.value,
        }));
    }
    Ok(revealed)
}

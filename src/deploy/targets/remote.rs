//! What every provider's driver needs: the environment with its masks, the way to the server's own address, and patience.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

use super::local::Local;
use super::railway::RailwayDriver;
use super::render::RenderDriver;
use super::shape::PORT;
use super::{Driver, Order, Run, Steps};
use crate::deploy::Deployer;
use crate::deploy::calls;
use crate::deploy::instance::{Instance, StartFailure};
use crate::deploy::log::Log;
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::http::open_connection;
use crate::deploy::relay::{HttpRelay, Options, Relay};
use crate::model::deployments::StepName;
use crate::model::paths::EnvName;
use crate::model::sources::{StartPlan, Transport};
use crate::model::targets::{Placed, Target};
use crate::store;

/// How long a server that the provider calls live may take to answer the handshake: some sleep until they are called.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(120);

/// What a server gets beside what is bound for it.
const OWN_VARIABLES: [&str; 4] = [
    "NODE_ENV",
    "PORT",
    "SEALPORT_GATEWAY_SECRET",
    // Whose values the bridge masks in the log that the provider shows.
    "SEALPORT_BRIDGE_MASK",
];

/// Railway takes no longer name of a service.
const NAME_LEN_BYTES: usize = 32;

/// What a server at a provider gets, and what is masked of all that comes from there.
pub(super) struct Given {
    pub env: Vec<(EnvName, SecretString)>,
    pub masks: Arc<Masks>,
    gateway_key: SecretString,
}

impl Deployer {
    /// Opens the bindings (on record, with the owner's rights now) and the gateway's key.
    pub(super) async fn given(&self, run: &Run) -> Result<Given, StartFailure> {
        let db = &self.0.db;
        let opened = db
            .bindings_open(run.id, run.owner_id, run.release)
            .await
            .map_err(|error| StartFailure {
                lasting: matches!(error, store::Error::Refused(_)),
                reason: error.into_refusal().detail,
            })?;
        let passing = |reason: String| StartFailure {
            reason,
            lasting: false,
        };
        let gateway_key = db.gateway_key_open(run.id).await;
        let gateway_key = gateway_key.map_err(|error| passing(error.into_refusal().detail))?;
        let mut secrets = opened.secrets;
        let others = db
            .bindings_open_to_mask(run.id, run.owner_id, run.release)
            .await;
        secrets.extend(others.map_err(|error| passing(error.into_refusal().detail))?);
        secrets.push(gateway_key.clone());
        let masks = Masks::build(secrets).await.map_err(|error| {
            tracing::error!(%error, "masks could not be built");
            passing("The masks of its secrets could not be made.".into())
        })?;
        let names: Vec<&str> = opened.secret_names.iter().map(EnvName::as_str).collect();
        let names = names.join(",");
        let mut env = opened.environment;
        let own = [
            SecretString::from("production"),
            SecretString::from(PORT.to_string()),
            gateway_key.clone(),
            SecretString::from(names),
        ];
        for (name, value) in OWN_VARIABLES.into_iter().zip(own) {
            let name = EnvName::stored(name).map_err(|refusal| passing(refusal.detail))?;
            env.push((name, value));
        }
        // What answers there now is masked so before anything new is sent there.
        if let Some(running) = self.0.running.lock().await.get(&run.id) {
            running.instance.mask_more(&masks);
        }
        Ok(Given {
            env,
            masks: Arc::new(masks),
            gateway_key,
        })
    }

    /// With a key that was opened for it. Errors: a sentence.
    pub(in crate::deploy) fn driver_with(
        &self,
        target: Target,
        key: Option<SecretString>,
    ) -> Result<Box<dyn Driver>, String> {
        match (target, key) {
            (Target::Local, _) => Ok(Box::new(Local {
                deployer: self.clone(),
            })),
            (Target::Render, Some(key)) => Ok(Box::new(RenderDriver::new(self.clone(), key)?)),
            (Target::Railway, Some(key)) => Ok(Box::new(RailwayDriver::new(self.clone(), key)?)),
            (target, None) => Err(format!(
                "{} is not reached without its key.",
                target.title()
            )),
        }
    }

    /// The handshake through the address that the provider gave; and notes that, and whether it lets in whoever comes without
    /// the secret.
    pub(super) async fn join_elsewhere(
        &self,
        run: &Run,
        base: &Url,
        given: &Given,
        steps: &Steps<'_>,
        log: &Log,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Instance, StartFailure> {
        let passing = |reason: String| StartFailure {
            reason,
            lasting: false,
        };
        steps.say(StepName::Handshake, "running", "").await;
        let http = open_connection(base, &self.0.source_hosts).map_err(passing)?;
        // Set, not joined: what a source calls its path could be an address of its own, and is shown the gateway's key.
        let mut url = base.clone();
        url.set_path(mcp_path(&run.start));
        let relay = HttpRelay::start_remote(
            http,
            &url,
            &given.gateway_key,
            Arc::clone(&given.masks),
            HANDSHAKE_TIMEOUT,
            Options {
                calls: Some(calls::open(self, run.id, None)),
                ..Options::default()
            },
        )
        .await
        .map_err(|error| passing(given.masks.text(&error.to_string()).into_owned()))?;
        let open = relay.is_open().await;
        let masks = Arc::clone(&given.masks);
        let instance = Instance::elsewhere(self, run.release, Relay::Http(relay), masks, beside);
        steps
            .say(StepName::Handshake, "done", &instance.answered())
            .await;
        let noted = steps
            .note(|placed| {
                placed.url = Some(base.to_string());
                placed.open = open;
            })
            .await;
        if let Err(reason) = noted {
            instance.stop().await;
            return Err(passing(reason));
        }
        if open == Some(true) {
            log.say(format!("Anybody who knows {base} can call this server: it does not check SEALPORT_GATEWAY_SECRET."));
        }
        Ok(instance)
    }
}

/// Where it speaks MCP: the bridge at `/mcp`, another where looking at its source found it.
fn mcp_path(start: &StartPlan) -> &str {
    match &start.transport {
        Transport::Stdio => "/mcp",
        Transport::Http { path } => path,
    }
}

/// Its own name among all that are there, and the same at each try: by it is found what was made and not noted.
pub(super) fn service_name(name: &str, id: Uuid) -> String {
    let id = id.simple().to_string();
    let own = &id[id.len() - 8..];
    // A deployment's name is of ASCII letters, digits and dashes.
    let name: String = name.chars().take(NAME_LEN_BYTES - 1 - own.len()).collect();
    format!("{}-{own}", name.trim_end_matches('-'))
}

pub(super) fn names_of(given: &Given) -> Vec<String> {
    given.env.iter().map(|(name, _)| name.to_string()).collect()
}

/// A sentence of what a provider said, which may echo what was sent.
pub(super) fn masked(trouble: Trouble, given: &Given) -> String {
    trouble.masked(&given.masks).to_string()
}

/// Where no value was sent.
pub(super) fn unmasked(trouble: Trouble) -> String {
    trouble.masked(&Masks::none()).to_string()
}

/// What would be set there, and who may see it.
pub(super) fn says_set(order: &Order, provider: &str) -> [String; 2] {
    let mut names = order.env_names.clone();
    names.extend(OWN_VARIABLES.map(str::to_owned));
    [
        format!("Set there: {}.", names.join(", ")),
        format!("{provider} shows these values to whoever may see the service there."),
    ]
}

/// Which of our variables are not there any more.
pub(super) fn says_missing(
    placed: &Placed,
    is_there: impl Fn(&str) -> bool,
    provider: &str,
) -> Option<String> {
    let names = placed.env_names.iter().map(String::as_str);
    let missing: Vec<&str> = names.filter(|name| !is_there(name)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "Somebody removed {} at {provider}. Redeploying sets them again.",
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_its_own_name_and_providers_take_it() {
        let id = Uuid::from_u128(0x1234_5678_9abc_def0);
        assert_eq!(service_name("shop", id), "shop-9abcdef0");
        let long = service_name(&format!("{}-{}", "a".repeat(22), "b".repeat(16)), id);
        assert_eq!(long, format!("{}-9abcdef0", "a".repeat(22)));
        let longest = service_name(&"a".repeat(39), id);
        assert_eq!(longest.len(), NAME_LEN_BYTES);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_else() {
        let placed = Placed {
            env_names: vec!["A".into(), "B".into()],
            ..Placed::default()
        };
        assert_eq!(says_missing(&placed, |_| true, "Railway"), None);
        let says = says_missing(&placed, |name| name == "A", "Railway");
        assert!(says.is_some_and(|says| says.contains("removed B at Railway")));
    }
}

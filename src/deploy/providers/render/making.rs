//! What a service at Render is to be, and the bodies that say so.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::words::{Plan, Region, Runtime};
use crate::model::paths::EnvName;

/// A web service that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewService {
    /// The workspace's id.
    pub owner: String,
    /// Render makes the host's name of it, with a suffix where that is taken.
    pub name: String,
    pub source: ServiceSource,
    pub region: Region,
    pub plan: Plan,
    /// Asked over HTTP before a deploy counts as live. None: Render looks for an open port.
    pub health_check_path: Option<String>,
}

/// What a service is made of.
#[derive(Clone, Debug)]
pub enum ServiceSource {
    Git {
        /// `https://github.com/…`, without a branch.
        repo: String,
        /// None: the repository's default branch, and in a change: as it is.
        branch: Option<String>,
        /// Below the repository's root.
        folder: Option<String>,
        build: ServiceBuild,
    },
    Image {
        /// `docker.io/library/nginx:1.29`
        path: String,
        /// Instead of the image's own. None in a change: as it is.
        command: Option<String>,
    },
}

/// How a repository becomes a service.
#[derive(Clone, Debug)]
pub enum ServiceBuild {
    Native {
        runtime: Runtime,
        build: String,
        start: String,
    },
    /// Where fields are None, Render's defaults: `./Dockerfile`, `.`, the image's own command. In a change: as they are.
    Dockerfile {
        path: Option<String>,
        context: Option<String>,
        command: Option<String>,
    },
}

/// What is to be different at a service; None stays. The region cannot change, and the plan only to a paid one.
#[derive(Clone, Debug, Default)]
pub struct ServiceChange {
    pub source: Option<ServiceSource>,
    pub health_check_path: Option<String>,
    /// `Free` is left out: Render does not change a service to it.
    pub plan: Option<Plan>,
}

impl NewService {
    /// The body of `POST /services`. It holds the values.
    pub(super) fn body(&self, env: &[(EnvName, SecretString)]) -> Value {
        let mut details = Map::new();
        details.insert("region".into(), self.region.as_str().into());
        details.insert("plan".into(), self.plan.as_str().into());
        put(&mut details, "healthCheckPath", &self.health_check_path);
        let mut body = Map::new();
        body.insert("type".into(), "web_service".into());
        body.insert("name".into(), self.name.as_str().into());
        body.insert("ownerId".into(), self.owner.as_str().into());
        // A push to the repository must not bring code to the values that nobody here released.
        body.insert("autoDeploy".into(), "no".into());
        self.source.describe(&self.owner, &mut body, &mut details);
        // In the same call, so that the first deploy has them.
        body.insert("envVars".into(), env.iter().map(variable).collect());
        body.insert("serviceDetails".into(), Value::Object(details));
        Value::Object(body)
    }
}

impl ServiceChange {
    /// The body of `PATCH /services/{id}`, or None when nothing changes.
    pub(super) fn body(&self, owner: &str) -> Option<Value> {
        let (mut body, mut details) = (Map::new(), Map::new());
        put(&mut details, "healthCheckPath", &self.health_check_path);
        if let Some(plan) = self.plan.filter(|plan| *plan != Plan::Free) {
            details.insert("plan".into(), plan.as_str().into());
        }
        if let Some(source) = &self.source {
            source.describe(owner, &mut body, &mut details);
            // Left out, the folder of before would stay.
            if let ServiceSource::Git { folder: None, .. } = source {
                body.insert("rootDir".into(), "".into());
            }
        }
        if !details.is_empty() {
            body.insert("serviceDetails".into(), Value::Object(details));
        }
        (!body.is_empty()).then_some(Value::Object(body))
    }
}

impl ServiceSource {
    fn describe(
        &self,
        owner: &str,
        body: &mut Map<String, Value>,
        details: &mut Map<String, Value>,
    ) {
        let mut specific = Map::new();
        let runtime = match self {
            ServiceSource::Git {
                repo,
                branch,
                folder,
                build,
            } => {
                body.insert("repo".into(), repo.as_str().into());
                put(body, "branch", branch);
                put(body, "rootDir", folder);
                build.describe(&mut specific)
            }
            ServiceSource::Image { path, command } => {
                body.insert("image".into(), json!({"ownerId": owner, "imagePath": path}));
                put(&mut specific, "dockerCommand", command);
                "image"
            }
        };
        details.insert("runtime".into(), runtime.into());
        if !specific.is_empty() {
            details.insert("envSpecificDetails".into(), Value::Object(specific));
        }
    }
}

impl ServiceBuild {
    fn describe(&self, specific: &mut Map<String, Value>) -> &'static str {
        match self {
            ServiceBuild::Native {
                runtime,
                build,
                start,
            } => {
                specific.insert("buildCommand".into(), build.as_str().into());
                specific.insert("startCommand".into(), start.as_str().into());
                runtime.as_str()
            }
            ServiceBuild::Dockerfile {
                path,
                context,
                command,
            } => {
                put(specific, "dockerfilePath", path);
                put(specific, "dockerContext", context);
                put(specific, "dockerCommand", command);
                "docker"
            }
        }
    }
}

/// The body of `PUT …/env-vars/{key}`: the one value.
pub(super) fn value_body(value: &SecretString) -> Value {
    Value::Object(Map::from_iter([("value".to_owned(), exposed(value))]))
}

fn variable((name, value): &(EnvName, SecretString)) -> Value {
    // Not by `json!`, which would copy the value and leave the first behind.
    Value::Object(Map::from_iter([
        ("key".to_owned(), name.as_str().into()),
        ("value".to_owned(), exposed(value)),
    ]))
}

/// The only place of this adapter where a value is read. The request's body zeroes it after it was sent.
fn exposed(value: &SecretString) -> Value {
    Value::String(value.expose_secret().to_owned())
}

fn put(into: &mut Map<String, Value>, name: &str, text: &Option<String>) {
    if let Some(text) = text {
        into.insert(name.into(), text.as_str().into());
    }
}

//! What programs send to deploy, and what Sealport says to it before anything is made.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::Problem;
use super::schemas::KeyPathText;
use crate::model::plans::{
    BindingRequest, ChangeRequest, DeployRequest, Found, Lack, NotBegun, Plan,
};
use crate::model::sources::{Transport, WantedVariable};

/// A deployment to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDeployment {
    /// Part of its address: unique in the installation, and its owner's for good.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,38}$", example = "shop-tools")]
    pub name: String,
    /// `npm:PACKAGE[@VERSION]`, `pypi:PACKAGE[==VERSION]`, `git:https://…[#REF[:FOLDER]]`, or at a provider `image:REF`.
    #[schema(max_length = 2010, example = "npm:firecrawl-mcp@3.26.0")]
    pub source: String,
    /// Where it runs: `local` (the machine of Sealport, as when this is left out), `render` or `railway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40, example = "local")]
    pub target: Option<String>,
    /// `shared` (one server, with its owner's secrets) or `per-user` (an instance for each caller, with keys of their own). The bindings
    /// say it too: where it is left out, one with `per_user` makes it `per-user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40, example = "shared")]
    pub mode: Option<String>,
    #[serde(default)]
    #[schema(max_items = 200)]
    pub bindings: Vec<NewBinding>,
    /// The path of the provider's key: `meta/render/api_key` or `meta/railway/api_key` unless said; local has none. `use` on it is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 295)]
    pub key: Option<String>,
    /// The path of the secret with the credential of a private repository or registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPathText>)]
    pub fetch_key: Option<String>,
    /// `command` and `transport` (`stdio` or `http`), instead of what looking at the source finds; on this machine also `memory_mib`,
    /// `processes`, `open_files`, `disk_mib`, `file_mib`, `log_lines` and `network` (`outgoing` or `none`); at a provider `branch`, `dockerfile` and `health_check`; at Render `owner`, `region` and `plan`, at Railway `workspace`, `project` and `environment`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What a variable is: one of `secret`, `text` and `per_user`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBinding {
    #[schema(
        pattern = "^[A-Za-z_][A-Za-z0-9_]*$",
        max_length = 255,
        example = "STRIPE_KEY"
    )]
    pub env: String,
    /// A secret's path. `use` on it is enough, for the token and for the deployment's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPathText>)]
    pub secret: Option<String>,
    /// Text that whoever sees the deployment may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub text: Option<String>,
    /// The text is no secret, although it looks like one.
    #[serde(default)]
    pub plain: bool,
    /// Each caller brings it, at `/connections/{deployment}/{env}`. On this machine alone.
    #[serde(default)]
    pub per_user: bool,
}

/// Changes of a deployment; what is left out stays. All but `follows_changes` take a release.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentPatch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2010, example = "npm:firecrawl-mcp@3.26.1")]
    pub source: Option<String>,
    /// As in a new deployment; with them the source is looked at anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
    /// The path of another key of the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 295)]
    pub key: Option<String>,
    /// All of them, in the place of those that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 200)]
    pub bindings: Option<Vec<NewBinding>>,
    /// A path; empty for none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 295)]
    pub fetch_key: Option<String>,
    /// Whether a changed value of a bound secret redeploys it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows_changes: Option<bool>,
}

impl From<NewDeployment> for DeployRequest {
    fn from(new: NewDeployment) -> Self {
        DeployRequest {
            name: new.name,
            source: new.source,
            target: new.target,
            mode: new.mode,
            bindings: new.bindings.into_iter().map(Into::into).collect(),
            key: new.key,
            fetch_key: new.fetch_key,
            options: new.options,
        }
    }
}

impl From<NewBinding> for BindingRequest {
    fn from(new: NewBinding) -> Self {
        BindingRequest {
            env: new.env,
            secret: new.secret,
            text: new.text,
            plain: new.plain,
            per_user: new.per_user,
        }
    }
}

impl From<DeploymentPatch> for ChangeRequest {
    fn from(patch: DeploymentPatch) -> Self {
        let bindings = patch.bindings;
        ChangeRequest {
            source: patch.source,
            options: patch.options,
            key: patch.key,
            bindings: bindings.map(|all| all.into_iter().map(Into::into).collect()),
            fetch_key: patch.fetch_key,
            follows_changes: patch.follows_changes,
        }
    }
}

/// What a request would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentPlan {
    pub name: String,
    /// Nothing is in the way: the same request without `dry_run` begins a release.
    pub ready: bool,
    /// What looking at the source found; null where it was not looked at, for what is refused stands before it.
    pub found: Option<SourceFound>,
    /// The variables that it would have.
    pub bound: Vec<String>,
    /// What would be made or changed where it runs, in sentences; empty while something is in the way.
    #[serde(default)]
    pub changes: Vec<String>,
    /// For a git source that the target could not run as it is: a Dockerfile to put into the repository and to name with the option
    /// `dockerfile`.
    #[serde(default)]
    pub dockerfile: Option<String>,
    /// Secrets that are not there or not in sight, and variables that the source requires and nothing is bound to.
    pub missing: Vec<InTheWay>,
    /// Secrets whose end has come.
    pub expired: Vec<InTheWay>,
    pub refused: Vec<InTheWay>,
}

/// A source that was looked at. Title and description are the source's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceFound {
    /// Pinned to an exact version or commit.
    #[schema(example = "npm:firecrawl-mcp@3.26.0")]
    pub source: String,
    pub title: String,
    pub description: String,
    /// What is started, and its arguments.
    pub command: Vec<String>,
    /// `stdio` or `http`.
    #[schema(example = "stdio")]
    pub transport: String,
    pub variables: Vec<VariableWanted>,
    /// What one should know, in sentences.
    pub notes: Vec<String>,
}

/// A variable that the source asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VariableWanted {
    pub name: String,
    pub description: String,
    pub required: bool,
    pub secret: bool,
    pub default: Option<String>,
    /// Only the code seems to read it.
    pub suggested: bool,
}

/// One thing that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InTheWay {
    /// The part of the request: `name`, `source`, `bindings.ENV`, `options.command`, `token` and the like.
    #[schema(example = "bindings.STRIPE_KEY")]
    pub field: String,
    /// The variable that it is about.
    pub env: Option<String>,
    /// The path of the secret that it is about, as it was sent.
    pub secret: Option<String>,
    /// What is wrong and what to do.
    pub detail: String,
}

/// A problem with everything that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentProblem {
    #[serde(flatten)]
    pub problem: Problem,
    #[serde(default)]
    pub missing: Vec<InTheWay>,
    #[serde(default)]
    pub expired: Vec<InTheWay>,
    #[serde(default)]
    pub refused: Vec<InTheWay>,
}

impl From<Plan> for DeploymentPlan {
    fn from(plan: Plan) -> Self {
        DeploymentPlan {
            ready: plan.is_ready(),
            name: plan.name,
            found: plan.found.map(Into::into),
            bound: plan.bound.into_iter().map(String::from).collect(),
            changes: plan.changes,
            dockerfile: plan.dockerfile,
            missing: in_the_way(plan.missing),
            expired: in_the_way(plan.expired),
            refused: in_the_way(plan.refused),
        }
    }
}

impl From<Found> for SourceFound {
    fn from(found: Found) -> Self {
        SourceFound {
            source: found.source.to_string(),
            title: found.title,
            description: found.description,
            command: found.command,
            transport: transport_name(&found.transport).into(),
            variables: found.variables.into_iter().map(Into::into).collect(),
            notes: found.notes,
        }
    }
}

pub(super) fn transport_name(transport: &Transport) -> &'static str {
    match transport {
        Transport::Stdio => "stdio",
        Transport::Http { .. } => "http",
    }
}

impl From<WantedVariable> for VariableWanted {
    fn from(wanted: WantedVariable) -> Self {
        VariableWanted {
            name: wanted.name,
            description: wanted.description,
            required: wanted.required,
            secret: wanted.secret,
            default: wanted.default,
            suggested: wanted.suggested,
        }
    }
}

fn in_the_way(lacks: Vec<Lack>) -> Vec<InTheWay> {
    lacks
        .into_iter()
        .map(|lack| InTheWay {
            field: lack.field,
            env: lack.env,
            secret: lack.secret,
            detail: lack.says,
        })
        .collect()
}

impl From<NotBegun> for DeploymentProblem {
    fn from(not: NotBegun) -> Self {
        let (refusal, plan) = match not {
            NotBegun::Refused(refusal) => (refusal, Plan::default()),
            NotBegun::Lacking(plan) => {
                let refusal = NotBegun::Lacking(plan.clone()).into_refusal();
                (refusal, *plan)
            }
        };
        DeploymentProblem {
            problem: refusal.into(),
            missing: in_the_way(plan.missing),
            expired: in_the_way(plan.expired),
            refused: in_the_way(plan.refused),
        }
    }
}

impl IntoResponse for DeploymentProblem {
    fn into_response(self) -> Response {
        let mut response = self.problem.clone().into_response();
        if let Ok(json) = serde_json::to_vec(&self) {
            response
                .headers_mut()
                .remove(axum::http::header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(json);
        }
        response
    }
}

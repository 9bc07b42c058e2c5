//! The tools for deployments: what the wizard and the pages do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Called;
use super::outcome::Outcome;
use super::secrets::moment;
use crate::model::deployments::{
    BindingSummary, DeploymentState, DeploymentSummary, LogLine, ReleaseState, ReleaseSummary,
    Step, StepName,
};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName};
use crate::model::plans::{BindingRequest, DeployRequest, Found, Lack, NotBegun, Plan};
use crate::store::Error;

/// Deployments in one list.
const LISTED: usize = 500;
/// Lines of a log, unless asked otherwise, and at most.
const LINES: i64 = 100;
const LINES_MAX: i64 = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logs {
    name: String,
    after: Option<i64>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Deploy {
    name: String,
    source: String,
    target: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    bindings: Vec<Bind>,
    key: Option<String>,
    fetch_key: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bind {
    env: String,
    secret: Option<String>,
    text: Option<String>,
    #[serde(default)]
    plain: bool,
    #[serde(default)]
    per_user: bool,
}

/// What became of `deploy`, or would.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deployed {
    /// None when it is no name: what was sent for one is not sent back.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<DeploymentName>,
    begun: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_url: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    plan: Option<Planned>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    found: Option<FoundThere>,
}

#[derive(Serialize)]
struct Planned {
    ready: bool,
    missing: Vec<Lacks>,
    expired: Vec<Lacks>,
    refused: Vec<Lacks>,
    /// What would be made or changed where it runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    /// To be put into the repository, and named with the option `dockerfile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize)]
struct FoundThere {
    source: String,
    title: String,
    variables: Vec<Variable>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Variable {
    name: String,
    required: bool,
    secret: bool,
    suggested: bool,
    description: String,
}

#[derive(Serialize)]
struct Lacks {
    field: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    detail: String,
}

#[derive(Serialize)]
struct List {
    deployments: Vec<Summary>,
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    name: String,
    owner: String,
    source: String,
    state: DeploymentState,
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    release: i32,
    level: Level,
    mcp_url: String,
}

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<Release>,
    bindings: Vec<Bound>,
}

#[derive(Serialize)]
struct Release {
    number: i32,
    state: ReleaseState,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    steps: Vec<Done>,
}

#[derive(Serialize)]
struct Done {
    name: StepName,
    state: String,
    detail: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bound {
    env: EnvName,
    /// Each caller brings it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    per_user: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct Lines {
    name: String,
    lines: Vec<Line>,
    next: i64,
}

#[derive(Serialize)]
struct Line {
    at: Option<String>,
    release: i32,
    stream: String,
    line: String,
}

impl Called {
    pub(super) async fn deploy(&self, asked: Deploy) -> Result<Outcome, Refusal> {
        let dry_run = asked.dry_run;
        let request = DeployRequest::from(asked);
        if dry_run {
            let plan = self.deployer.plan(&self.caller, &request).await?;
            return Outcome::done(&Deployed::of(plan));
        }
        match self.deployer.deploy(&self.caller, &request).await {
            Ok(begun) => Outcome::done(&Deployed {
                mcp_url: Some(self.mcp_url(&begun.name)),
                name: Some(begun.name),
                begun: true,
                release: Some(begun.release),
                ..Deployed::default()
            }),
            Err(NotBegun::Lacking(plan)) => Ok(Outcome::done(&Deployed::of(*plan))?.failed()),
            Err(NotBegun::Refused(refusal)) => Err(refusal),
        }
    }

    pub(super) async fn list_deployments(&self, _: Nothing) -> Result<Outcome, Refusal> {
        let found = self.db.deployments_list(&self.caller).await;
        let found = found.map_err(Error::into_refusal)?;
        Outcome::done(&List {
            more: found.len() > LISTED,
            deployments: found
                .into_iter()
                .take(LISTED)
                .map(|summary| self.summary(summary))
                .collect(),
        })
    }

    pub(super) async fn deployment_status(&self, asked: Named) -> Result<Outcome, Refusal> {
        let name = DeploymentName::parse(&asked.name)?;
        let found = self.db.deployment_show(&self.caller, &name).await;
        let found = found.map_err(Error::into_refusal)?;
        Outcome::done(&Status {
            latest: found.releases.into_iter().next().map(Release::from),
            bindings: found.bindings.into_iter().map(Bound::from).collect(),
            summary: self.summary(found.summary),
        })
    }

    /// Masked before they were kept.
    pub(super) async fn deployment_logs(&self, asked: Logs) -> Result<Outcome, Refusal> {
        let name = DeploymentName::parse(&asked.name)?;
        let limit = asked.limit.unwrap_or(LINES);
        if !(1..=LINES_MAX).contains(&limit) {
            return Err(Refusal::invalid(
                "limit",
                format!("Ask for 1 to {LINES_MAX} lines."),
            ));
        }
        let lines = self
            .db
            .log_read(&self.caller, &name, asked.after, limit)
            .await;
        let lines = lines.map_err(Error::into_refusal)?;
        Outcome::done(&Lines {
            name: name.to_string(),
            next: lines
                .last()
                .map_or(asked.after.unwrap_or(0), |line| line.seq),
            lines: lines.into_iter().map(Line::from).collect(),
        })
    }

    fn mcp_url(&self, name: &DeploymentName) -> String {
        format!("{}s/{name}/mcp", self.public_url)
    }

    fn summary(&self, of: DeploymentSummary) -> Summary {
        Summary {
            mcp_url: self.mcp_url(&of.name),
            name: of.name.to_string(),
            owner: of.owner,
            source: of.source.to_string(),
            state: of.state,
            since: moment(of.state_since),
            why: of.reason,
            release: of.release,
            level: of.level,
        }
    }
}

impl From<Deploy> for DeployRequest {
    fn from(asked: Deploy) -> Self {
        let bindings = asked.bindings.into_iter().map(|bind| BindingRequest {
            env: bind.env,
            secret: bind.secret,
            text: bind.text,
            plain: bind.plain,
            per_user: bind.per_user,
        });
        DeployRequest {
            name: asked.name,
            source: asked.source,
            target: asked.target,
            mode: asked.mode,
            bindings: bindings.collect(),
            key: asked.key,
            fetch_key: asked.fetch_key,
            options: asked.options,
        }
    }
}

impl Deployed {
    fn of(plan: Plan) -> Self {
        let reason = match (&plan.refused[..], &plan.expired[..], &plan.missing[..]) {
            ([], [], []) => None,
            ([], [], _) => Some("missing"),
            ([], _, _) => Some("expired"),
            _ => Some("refused"),
        };
        let lacks = |of: Vec<Lack>| of.into_iter().map(Lacks::from).collect();
        Deployed {
            name: DeploymentName::parse(&plan.name).ok(),
            plan: Some(Planned {
                ready: plan.is_ready(),
                reason,
                detail: plan.refusal().map(|refusal| refusal.detail),
                missing: lacks(plan.missing),
                expired: lacks(plan.expired),
                refused: lacks(plan.refused),
                changes: plan.changes,
                dockerfile: plan.dockerfile,
            }),
            found: plan.found.map(FoundThere::from),
            ..Deployed::default()
        }
    }
}

impl From<Found> for FoundThere {
    fn from(of: Found) -> Self {
        let variables = of.variables.into_iter().map(|wanted| Variable {
            name: wanted.name,
            required: wanted.required,
            secret: wanted.secret,
            suggested: wanted.suggested,
            description: wanted.description,
        });
        FoundThere {
            source: of.source.to_string(),
            title: of.title,
            variables: variables.collect(),
            notes: of.notes,
        }
    }
}

impl From<Lack> for Lacks {
    fn from(of: Lack) -> Self {
        Lacks {
            field: of.field,
            env: of.env,
            secret: of.secret,
            detail: of.says,
        }
    }
}

impl From<ReleaseSummary> for Release {
    fn from(of: ReleaseSummary) -> Self {
        Release {
            number: of.number,
            state: of.state,
            why: of.reason,
            steps: of.steps.into_iter().map(Done::from).collect(),
        }
    }
}

impl From<Step> for Done {
    fn from(of: Step) -> Self {
        Done {
            name: of.name,
            state: of.state,
            detail: of.detail,
        }
    }
}

impl From<BindingSummary> for Bound {
    fn from(of: BindingSummary) -> Self {
        let lost = of
            .lost
            .map(|path| format!("{path} is gone, or its owner may not use it any more."));
        let unusable = of.unusable.map(|why| format!("The secret {why}."));
        Bound {
            env: of.env,
            per_user: of.per_user,
            secret: of.secret.map(String::from),
            problem: lost.or(unusable),
        }
    }
}

impl From<LogLine> for Line {
    fn from(of: LogLine) -> Self {
        Line {
            at: moment(of.at),
            release: of.release,
            stream: of.stream,
            line: of.line,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::tools::named;
    use super::*;
    use crate::model::targets::Target;

    fn properties(of: &Value) -> BTreeSet<&str> {
        let known = of["properties"].as_object().unwrap();
        known.keys().map(String::as_str).collect()
    }

    /// A client that checks results refuses one with anything that was not announced.
    #[test]
    fn what_a_plan_at_a_provider_says_is_announced() {
        let plan = Deployed::of(Plan {
            name: "shop".into(),
            changes: vec!["Make a web service.".into()],
            dockerfile: Some("FROM node".into()),
            ..Plan::default()
        });
        let said = serde_json::to_value(plan).unwrap();
        let known = properties(&named("deploy").unwrap()["outputSchema"]);
        for name in said.as_object().unwrap().keys() {
            assert!(known.contains(name.as_str()), "{name}");
        }
    }

    #[test]
    fn every_step_and_option_of_every_target_is_announced() {
        let schema = &named("deployment_status").unwrap()["outputSchema"];
        let steps = &schema["properties"]["latest"]["properties"]["steps"];
        let announced = steps["items"]["properties"]["name"]["enum"].as_array();
        let announced: Vec<&str> = announced
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(announced, StepName::ALL.map(StepName::as_str));
        let asked = &named("deploy").unwrap()["inputSchema"]["properties"];
        let says = |name: &str| asked[name]["description"].as_str().unwrap();
        for target in Target::ALL {
            assert!(says("target").contains(target.as_str()));
            let key = target.key_path().unwrap_or_default();
            assert!(says("key").contains(key), "{key}");
            for option in target.options() {
                assert!(says("options").contains(option.name), "{}", option.name);
            }
        }
    }
}

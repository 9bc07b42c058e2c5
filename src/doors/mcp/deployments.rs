//! The tools for deployments: what the wizard and the pages do.

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
struct Bound {
    env: EnvName,
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

#[derive(Deserialize)]
pub(super) struct Deploy {}

impl Called {
    pub(super) async fn deploy(&self, _: Deploy) -> Result<Outcome, Refusal> {
        Err(Refusal::internal())
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

    fn summary(&self, of: DeploymentSummary) -> Summary {
        Summary {
            mcp_url: format!("{}s/{}/mcp", self.public_url, of.name),
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

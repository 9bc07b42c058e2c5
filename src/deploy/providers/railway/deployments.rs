//! Deployments as Railway means them: one build and run of a service.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{ById, DeploymentId, Instance, Place, Railway, Repeat, Trouble, gone_is_done};

const DEPLOY: &str =
    "mutation Deploy($serviceId: String!, $environmentId: String!, $commitSha: String) {
    id: serviceInstanceDeployV2(serviceId: $serviceId, environmentId: $environmentId, commitSha: $commitSha)
}";
const DEPLOYMENT: &str = "query Deployment($id: String!) {
    deployment(id: $id) { id status createdAt url staticUrl }
}";
const LATEST: &str = "query LatestDeployment($serviceId: String!, $environmentId: String!) {
    serviceInstance(serviceId: $serviceId, environmentId: $environmentId) {
        latestDeployment { id status createdAt url staticUrl }
    }
}";
const STANDING: &str = "query StandingDeployments($serviceId: String!, $environmentId: String!) {
    serviceInstance(serviceId: $serviceId, environmentId: $environmentId) {
        activeDeployments { id status createdAt url staticUrl }
        latestDeployment { id status createdAt url staticUrl }
    }
}";
const STOP: &str = "mutation Stop($id: String!) { done: deploymentStop(id: $id) }";
const CANCEL: &str = "mutation Cancel($id: String!) { done: deploymentCancel(id: $id) }";
const RESTART: &str = "mutation Restart($id: String!) { done: deploymentRestart(id: $id) }";
const REMOVE: &str = "mutation Remove($id: String!) { done: deploymentRemove(id: $id) }";

pub(super) const DOCUMENTS: &[&str] = &[
    DEPLOY, DEPLOYMENT, LATEST, STANDING, STOP, CANCEL, RESTART, REMOVE,
];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    pub id: DeploymentId,
    #[serde(rename = "status")]
    pub state: DeploymentState,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Host names without a scheme, once there are any.
    pub url: Option<String>,
    pub static_url: Option<String>,
}

/// `DeploymentStatus` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeploymentState {
    Queued,
    Waiting,
    /// Somebody has to approve it at Railway.
    NeedsApproval,
    Initializing,
    Building,
    Deploying,
    Success,
    /// It ran and sleeps until it is called.
    Sleeping,
    Failed,
    /// It ran and ended by itself, too often.
    Crashed,
    Skipped,
    Removing,
    Removed,
    /// A state that Railway had not when this was written.
    #[serde(other)]
    Unknown,
}

impl DeploymentState {
    /// Whether the server is up, or comes up when it is called.
    pub fn is_up(self) -> bool {
        matches!(self, DeploymentState::Success | DeploymentState::Sleeping)
    }

    /// Whether it is on its way, so that there is something to cancel.
    pub fn is_going(self) -> bool {
        match self {
            DeploymentState::Queued
            | DeploymentState::Waiting
            | DeploymentState::NeedsApproval
            | DeploymentState::Initializing
            | DeploymentState::Building
            | DeploymentState::Deploying => true,
            DeploymentState::Success
            | DeploymentState::Sleeping
            | DeploymentState::Failed
            | DeploymentState::Crashed
            | DeploymentState::Skipped
            | DeploymentState::Removing
            | DeploymentState::Removed
            | DeploymentState::Unknown => false,
        }
    }
}

impl Railway {
    /// Builds and runs a service as it is set now, of a commit or of what is newest, by `serviceInstanceDeployV2`. Errors: `Lost` when it may have begun:
    /// then [`Railway::latest_deployment`] is another than before.
    pub async fn deploy(
        &self,
        place: &Place,
        commit: Option<&str>,
    ) -> Result<DeploymentId, Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Deploy<'a> {
            #[serde(flatten)]
            of: Instance<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            commit_sha: Option<&'a str>,
        }
        #[derive(Deserialize)]
        struct Begun {
            id: DeploymentId,
        }
        let deploy = Deploy {
            of: place.into(),
            commit_sha: commit,
        };
        let begun: Begun = self.ask(DEPLOY, deploy, Repeat::Once).await?;
        Ok(begun.id)
    }

    /// By `deployment`. Errors: `NotFound`, and those of the connection.
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Deployment, Trouble> {
        #[derive(Deserialize)]
        struct Found {
            deployment: Deployment,
        }
        let found: Found = self
            .ask(DEPLOYMENT, ById { id: id.as_str() }, Repeat::Safe)
            .await?;
        Ok(found.deployment)
    }

    /// The newest deployment of a service, by its `serviceInstance`; none before the first. Errors: `NotFound` for the
    /// service, and those of the connection.
    pub async fn latest_deployment(&self, place: &Place) -> Result<Option<Deployment>, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            service_instance: Latest,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Latest {
            latest_deployment: Option<Deployment>,
        }
        let found: Found = self
            .ask(LATEST, Instance::from(place), Repeat::Safe)
            .await?;
        Ok(found.service_instance.latest_deployment)
    }

    /// What of a service runs, and what is on its way, by its `serviceInstance`: an older one runs on beside a newer one
    /// that failed. Errors: as [`Railway::latest_deployment`].
    pub async fn standing_deployments(&self, place: &Place) -> Result<Vec<Deployment>, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            service_instance: Standing,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Standing {
            active_deployments: Vec<Deployment>,
            latest_deployment: Option<Deployment>,
        }
        let found: Found = self
            .ask(STANDING, Instance::from(place), Repeat::Safe)
            .await?;
        let mut standing = found.service_instance.active_deployments;
        let latest = found.service_instance.latest_deployment;
        let known = |one: &Deployment| standing.iter().any(|other| other.id == one.id);
        let going = latest.filter(|one| one.state.is_going() && !known(one));
        standing.extend(going);
        Ok(standing)
    }

    /// Ends what runs by `deploymentStop`; the deployment stays, and [`Railway::deployment_restart`] starts it again.
    /// Errors: `NotFound`, and those of the connection.
    pub async fn deployment_stop(&self, id: &DeploymentId) -> Result<(), Trouble> {
        self.bid(STOP, ById { id: id.as_str() }, Repeat::Safe).await
    }

    /// Ends a build or a deployment that is not done, by `deploymentCancel`. Errors: `Refused` when it is done already.
    pub async fn deployment_cancel(&self, id: &DeploymentId) -> Result<(), Trouble> {
        self.bid(CANCEL, ById { id: id.as_str() }, Repeat::Safe)
            .await
    }

    /// Starts it again without a build, by `deploymentRestart`. Errors: `Lost` when it may have been restarted.
    pub async fn deployment_restart(&self, id: &DeploymentId) -> Result<(), Trouble> {
        self.bid(RESTART, ById { id: id.as_str() }, Repeat::Once)
            .await
    }

    /// Takes a deployment down for good, by `deploymentRemove`. One that is not there is removed. Errors: those of the
    /// connection.
    pub async fn deployment_remove(&self, id: &DeploymentId) -> Result<(), Trouble> {
        gone_is_done(
            self.bid(REMOVE, ById { id: id.as_str() }, Repeat::Safe)
                .await,
        )
    }
}

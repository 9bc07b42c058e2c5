//! A trial of Railway.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use super::lines::sentence;
use super::whereabouts::{Ground, chosen, environment_of};
use super::{building, once, says, url_of};
use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    Account, DeploymentId, DeploymentState, EnvironmentId, LogPosition, NewService, Place,
    ProjectId, Railway, ServiceId, WorkspaceId,
};
use crate::deploy::sources::SourceHosts;
use crate::deploy::targets::shape::Shape;
use crate::deploy::targets::trial::{Tried, Wanted, Why};
use crate::deploy::targets::watching::Stand;
use crate::model::paths::EnvName;
use crate::model::targets::AccountSays;

pub(in crate::deploy::targets) struct RailwayTrial {
    railway: Arc<Railway>,
    api: Url,
    wanted: Wanted,
    account: Option<Account>,
    ground: Option<Ground>,
    /// It was asked to make it: from then on there may be something.
    asked: bool,
    project: Option<ProjectId>,
    environment: Option<EnvironmentId>,
    service: Option<ServiceId>,
    url: Option<Url>,
    deploy: Option<DeploymentId>,
    printed: LogPosition,
}

impl RailwayTrial {
    /// Errors: a sentence.
    pub fn new(
        api: Url,
        key: SecretString,
        hosts: SourceHosts,
        wanted: Wanted,
    ) -> Result<Self, String> {
        let railway = Railway::new(api.clone(), key, hosts);
        Ok(RailwayTrial {
            railway: Arc::new(railway.map_err(|trouble| trouble.to_string())?),
            api,
            wanted,
            account: None,
            ground: None,
            asked: false,
            project: None,
            environment: None,
            service: None,
            url: None,
            deploy: None,
            printed: LogPosition::default(),
        })
    }

    fn place(&self) -> Result<Place, Why> {
        let none = || Why::Says("There is no service.".into());
        Ok(Place {
            project: self.project.clone().ok_or_else(none)?,
            environment: self.environment.clone().ok_or_else(none)?,
            service: self.service.clone().ok_or_else(none)?,
        })
    }

    /// Where a project of its own is made, if one is.
    fn workspace(&self) -> Option<&WorkspaceId> {
        match &self.ground {
            Some(Ground::Own { workspace }) => Some(&workspace.id),
            _ => None,
        }
    }

    /// The project: the one that is named, or one of its own.
    async fn ground(&mut self) -> Result<(ProjectId, EnvironmentId), Why> {
        let (project, environment) = match &self.ground {
            None => return Err(Why::Says("It is not known where to make it.".into())),
            Some(Ground::There {
                project,
                environment,
            }) => (project.id.clone(), environment.id.clone()),
            Some(Ground::Own { workspace }) => {
                let name = &self.wanted.name;
                let project = once::project(&self.railway, &workspace.id, name).await?;
                self.project = Some(project.id.clone());
                let environment = environment_of(&project, None)?;
                (project.id.clone(), environment.id.clone())
            }
        };
        self.project = Some(project.clone());
        self.environment = Some(environment.clone());
        Ok((project, environment))
    }

    /// The projects that may be ours: with the name that nobody else gives.
    async fn our_projects(&self) -> Result<Vec<ProjectId>, Why> {
        let Some(workspace) = self.workspace() else {
            return Ok(Vec::new());
        };
        let name = &self.wanted.name;
        let named = self.railway.projects_named(Some(workspace), name).await?;
        Ok(named.into_iter().map(|project| project.id).collect())
    }

    /// The services of a project that may be ours.
    async fn our_services(&self, project: &ProjectId) -> Result<Vec<ServiceId>, Why> {
        match self
            .railway
            .services_named(project, &self.wanted.name)
            .await
        {
            Ok(named) => Ok(named.into_iter().map(|service| service.id).collect()),
            Err(Trouble::NotFound { .. }) => Ok(Vec::new()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}

#[async_trait]
impl Tried for RailwayTrial {
    async fn check(&mut self) -> Result<AccountSays, Trouble> {
        let account = self.railway.check().await?;
        let told = says(&account);
        self.account = Some(account);
        Ok(told)
    }

    fn choose(&mut self) -> Result<String, Why> {
        let Some(account) = &self.account else {
            return Err(Why::Says("The account was not looked at.".into()));
        };
        let ground = chosen(account, &self.wanted.options)?;
        let place = match &ground {
            Ground::There {
                project,
                environment,
            } => format!(
                "in the project {}, environment {}, at Railway",
                project.name, environment.name
            ),
            Ground::Own { workspace } => format!(
                "in a project of its own, in the workspace {} at Railway",
                workspace.name
            ),
        };
        self.ground = Some(ground);
        Ok(format!("from the image {} {place}", self.wanted.image))
    }

    async fn make(&mut self, _: &[(EnvName, SecretString)]) -> Result<(), Why> {
        self.asked = true;
        let (project, environment) = self.ground().await?;
        let new = NewService {
            project: &project,
            environment: &environment,
            name: &self.wanted.name,
            source: None,
        };
        self.service = Some(once::service(&self.railway, &new).await?);
        Ok(())
    }

    async fn begin(&mut self, env: &[(EnvName, SecretString)]) -> Result<(), Why> {
        let place = self.place()?;
        let image = Shape::Image {
            reference: self.wanted.image.clone(),
            command: Some(self.wanted.command.clone()),
        };
        let built = building::built(image, &self.wanted.options)?;
        self.railway.variables_set(&place, env, true).await?;
        self.railway.service_set(&place, &built.settings).await?;
        let domain = once::domain(&self.railway, &place).await?;
        self.url = Some(url_of(&self.api, &domain.name).map_err(Why::Says)?);
        self.deploy = Some(once::begin(&self.railway, &place, &built.source, false).await?);
        Ok(())
    }

    async fn stand(&mut self) -> Result<Stand, Trouble> {
        let (Some(deploy), Ok(place)) = (&self.deploy, self.place()) else {
            return Ok(Stand::Over("There is no deployment.".into()));
        };
        let state = self.railway.deployment(deploy).await?.state;
        Ok(match state {
            DeploymentState::Success | DeploymentState::Sleeping => Stand::Live,
            DeploymentState::Failed | DeploymentState::Crashed => Stand::Over(sentence(state)),
            DeploymentState::Skipped | DeploymentState::Removing | DeploymentState::Removed => {
                // For a newer one, as that which removing a variable begins.
                let newest = once::latest(&self.railway, &place).await?;
                match newest.filter(|newest| newest != deploy) {
                    Some(newest) => {
                        self.deploy = Some(newest);
                        Stand::Going("Railway deploys something newer instead.".into())
                    }
                    None => Stand::Over(sentence(state)),
                }
            }
            going => Stand::Going(sentence(going)),
        })
    }

    async fn url(&mut self) -> Result<Url, Why> {
        self.url
            .clone()
            .ok_or_else(|| Why::Says("Railway told no address of the service.".into()))
    }

    async fn lines(&mut self) -> Result<Vec<String>, Trouble> {
        let Some(deploy) = &self.deploy else {
            return Ok(Vec::new());
        };
        let read = self
            .railway
            .run_logs(deploy, &mut self.printed, None)
            .await?;
        Ok(read.lines.into_iter().map(|line| line.message).collect())
    }

    async fn change(
        &mut self,
        set: &[(EnvName, SecretString)],
        remove: &[EnvName],
    ) -> Result<(), Why> {
        let place = self.place()?;
        self.railway.variables_remove(&place, remove).await?;
        Ok(self.railway.variables_set(&place, set, true).await?)
    }

    async fn names(&mut self) -> Result<Vec<String>, Why> {
        let names = self.railway.variable_names(&self.place()?).await?;
        Ok(names.into_iter().collect())
    }

    async fn again(&mut self) -> Result<(), Why> {
        let place = self.place()?;
        let before = once::latest(&self.railway, &place).await?;
        self.deploy = Some(once::deploy(&self.railway, &place, None, before.as_ref()).await?);
        self.printed = LogPosition::default();
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Why> {
        let standing = self.railway.standing_deployments(&self.place()?).await?;
        // The older ones last: Railway may bring one back for a newer one that goes.
        for one in standing.iter().rev() {
            match one.state.is_going() {
                true => self.railway.deployment_cancel(&one.id).await?,
                false => self.railway.deployment_remove(&one.id).await?,
            }
        }
        Ok(())
    }

    async fn is_stopped(&mut self) -> Result<bool, Why> {
        let standing = self.railway.standing_deployments(&self.place()?).await?;
        if standing.is_empty() {
            return Ok(true);
        }
        // One that was behind another, or was brought back.
        self.stop().await?;
        Ok(false)
    }

    async fn remove(&mut self) -> Result<(), Why> {
        let own = self.our_projects().await?;
        if let Some(service) = &self.service {
            self.railway.service_delete(service).await?;
        }
        for project in own.iter().chain(&self.project) {
            for service in self.our_services(project).await? {
                self.railway.service_delete(&service).await?;
            }
        }
        for project in &own {
            match self.railway.project_is_empty(project).await {
                Ok(true) => self.railway.project_delete(project).await?,
                Err(Trouble::NotFound { .. }) => {}
                Ok(false) => {
                    return Err(Why::Says("There is still something in the project.".into()));
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
        let left = match (self.workspace(), &self.project) {
            (None, Some(project)) => !self.our_services(project).await?.is_empty(),
            // What is asked for may come to be after it was looked for.
            _ => !self.our_projects().await?.is_empty(),
        };
        match left {
            false => Ok(()),
            true => Err(Why::Says("Railway is still removing it.".into())),
        }
    }

    fn made(&self) -> Vec<String> {
        if !self.asked {
            return Vec::new();
        }
        let name = &self.wanted.name;
        let known = |what: &str, id: Option<&str>| match id {
            Some(id) => format!("the {what} {name} ({id})"),
            None => format!("perhaps the {what} {name}"),
        };
        let service = self.service.as_ref().map(ServiceId::as_str);
        let project = self.project.as_ref().map(ProjectId::as_str);
        match (&self.ground, project) {
            (Some(Ground::There { project, .. }), _) => {
                let service = known("service", service);
                vec![format!("{service} in the project {}", project.name)]
            }
            // Its project first: what is in it goes with it.
            (_, project) => {
                let mut made = vec![known("project", project)];
                made.extend(service.map(|id| known("service", Some(id))));
                made
            }
        }
    }
}

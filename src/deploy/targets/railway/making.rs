//! What is made and set at Railway. Each id is noted before anything is built on it, and what was made and not noted is found by its name.

use super::whereabouts::{Ground, chosen, environment_of};
use super::{RailwayDriver, Work, once};
use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    EnvironmentId, NewService, Place, Project, ProjectId, Service, ServiceId, ServiceSettings,
    Source, Workspace,
};
use crate::deploy::targets::remote::{Given, masked, names_of};
use crate::deploy::targets::shape::PORT;
use crate::model::paths::EnvName;
use crate::model::targets::Placed;

impl RailwayDriver {
    /// The service's place: as it was noted, found by its name, or made.
    pub(super) async fn place(
        &self,
        work: &Work<'_>,
        given: &Given,
        name: &str,
    ) -> Result<Place, String> {
        let (project, environment, services) = self.ground(work, given, name).await?;
        let noted = work.placed().await.service;
        let is_noted = |service: &&Service| noted.as_deref() == Some(service.id.as_str());
        let found = services
            .iter()
            .find(is_noted)
            .or_else(|| services.iter().find(|service| service.name == name));
        let service = match found {
            Some(service) => {
                work.log
                    .say(format!("Changing the service {} at Railway.", service.name));
                service.id.clone()
            }
            None => {
                // Of one that is gone there is nothing to remember.
                work.note(|placed| {
                    placed.service = None;
                    placed.connected = None;
                    placed.url = None;
                    placed.env_names = Vec::new();
                })
                .await?;
                let new = NewService {
                    project: &project,
                    environment: &environment,
                    name,
                    source: None,
                };
                self.make(work, given, &new).await?
            }
        };
        work.note(|placed| placed.service = Some(service.to_string()))
            .await?;
        Ok(Place {
            project,
            environment,
            service,
        })
    }

    async fn make(
        &self,
        work: &Work<'_>,
        given: &Given,
        new: &NewService<'_>,
    ) -> Result<ServiceId, String> {
        work.log
            .say(format!("Making the service {} at Railway.", new.name));
        let made = once::service(&self.railway, new).await;
        made.map_err(|trouble| masked(trouble, given))
    }

    /// Project and environment, as they were noted or are chosen now, with the services that are there.
    async fn ground(
        &self,
        work: &Work<'_>,
        given: &Given,
        name: &str,
    ) -> Result<(ProjectId, EnvironmentId, Vec<Service>), String> {
        let placed = work.placed().await;
        if let (Some(project), Some(environment)) = (placed.project, placed.environment) {
            let project = ProjectId::from(project);
            match self.railway.services(&project).await {
                Ok(services) => return Ok((project, environment.into(), services)),
                // Somebody removed it there, with all that was in it.
                Err(Trouble::NotFound { .. }) => {
                    self.surely_gone(&work.placed().await).await?;
                    work.note(|placed| *placed = Placed::default()).await?;
                }
                Err(trouble) => return Err(masked(trouble, given)),
            }
        }
        let account = self.account(&work.task.options).await;
        let account = account.map_err(|trouble| masked(trouble, given))?;
        let ground = chosen(&account, &work.task.options).map_err(|refusal| refusal.detail)?;
        let (project, environment, made) = match ground {
            Ground::There {
                project,
                environment,
            } => (project, environment.id, false),
            Ground::Own { workspace } => {
                let project = self.own_project(work, given, &workspace, name).await?;
                let environment = environment_of(&project, None);
                let environment = environment.map_err(|refusal| refusal.detail)?.id.clone();
                (project, environment, true)
            }
        };
        work.note(|placed| {
            placed.account = project.workspace.as_ref().map(ToString::to_string);
            placed.project = Some(project.id.to_string());
            placed.project_made = made;
            placed.environment = Some(environment.to_string());
        })
        .await?;
        let services = self.railway.services(&project.id).await;
        let services = services.map_err(|trouble| masked(trouble, given))?;
        Ok((project.id, environment, services))
    }

    /// With the service's name, which nobody else gives: one that stands there already was made for it.
    async fn own_project(
        &self,
        work: &Work<'_>,
        given: &Given,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Project, String> {
        let tell = |trouble| masked(trouble, given);
        work.note(|placed| placed.account = Some(workspace.id.to_string()))
            .await?;
        let named = self.railway.projects_named(Some(&workspace.id), name).await;
        if let Some(project) = named.map_err(tell)?.into_iter().next() {
            return Ok(project);
        }
        work.log
            .say(format!("Making the project {name} at Railway."));
        once::project(&self.railway, &workspace.id, name)
            .await
            .map_err(tell)
    }

    /// Connects a repository before the values are there, and ends what that builds: what is newest, which nobody looked at.
    pub(super) async fn connect_before(
        &self,
        work: &Work<'_>,
        given: &Given,
        place: &Place,
        source: &Source,
    ) -> Result<(), String> {
        let tell = |trouble| masked(trouble, given);
        let Source::Repository { name, branch } = source else {
            return Ok(());
        };
        let branch = branch.as_deref().unwrap_or_default();
        let connection = format!("{name}#{branch}");
        if work.placed().await.connected.as_ref() != Some(&connection) {
            once::connect(&self.railway, place, source)
                .await
                .map_err(tell)?;
            work.note(|placed| placed.connected = Some(connection))
                .await?;
        }
        once::end_builds(&self.railway, place).await.map_err(tell)
    }

    /// Its variables, and how it is built and run. Answers whether variables were removed, by which Railway deploys.
    pub(super) async fn set(
        &self,
        work: &Work<'_>,
        given: &Given,
        place: &Place,
        settings: &ServiceSettings,
    ) -> Result<bool, String> {
        let tell = |trouble| masked(trouble, given);
        let names = names_of(given);
        let before = work.placed().await.env_names;
        let gone: Vec<EnvName> = before
            .iter()
            .filter(|name| !names.contains(name))
            .filter_map(|name| EnvName::stored(name).ok())
            .collect();
        // Both, until it is done: what was set must be known to be ours.
        let mut both = before.clone();
        both.extend(names.iter().filter(|name| !before.contains(name)).cloned());
        work.note(|placed| placed.env_names = both).await?;
        self.railway
            .variables_remove(place, &gone)
            .await
            .map_err(tell)?;
        self.railway
            .variables_set(place, &given.env, true)
            .await
            .map_err(tell)?;
        work.note(|placed| placed.env_names = names).await?;
        self.railway
            .service_set(place, settings)
            .await
            .map_err(tell)?;
        Ok(!gone.is_empty())
    }

    /// The service's address: the one that it has, or a new one.
    pub(super) async fn address(
        &self,
        work: &Work<'_>,
        given: &Given,
        place: &Place,
    ) -> Result<(), String> {
        let domain = once::domain(&self.railway, place).await;
        let domain = domain.map_err(|trouble| masked(trouble, given))?;
        if let Some(port) = domain.port.filter(|port| *port != PORT) {
            work.log.say(format!(
                "The address {} goes to port {port} of the service, which listens on {PORT}. Change that at Railway.",
                domain.name
            ));
        }
        let url = self.url_of(&domain.name)?;
        work.note(|placed| placed.url = Some(url.to_string())).await
    }
}

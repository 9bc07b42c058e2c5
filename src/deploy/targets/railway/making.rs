//! What is made and set at Railway. Each id is noted before anything is built on it, and what was made and not noted is found by its name.

use super::whereabouts::{Ground, chosen, environment_of};
use super::{RailwayDriver, Work};
use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    DeploymentId, EnvironmentId, NewService, Place, Project, ProjectId, Service, ServiceId,
    ServiceSettings, Source, Workspace,
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

    /// Empty, so that nothing is built before everything is set.
    async fn make(
        &self,
        work: &Work<'_>,
        given: &Given,
        new: &NewService<'_>,
    ) -> Result<ServiceId, String> {
        work.log
            .say(format!("Making the service {} at Railway.", new.name));
        match self.railway.service_create(new, &[]).await {
            Ok(service) => Ok(service.id),
            Err(trouble) if trouble.may_be_done() => {
                let named = self.railway.services_named(new.project, new.name).await;
                let made = named.ok().and_then(|named| named.into_iter().next());
                made.map(|service| service.id)
                    .ok_or_else(|| masked(trouble, given))
            }
            Err(trouble) => Err(masked(trouble, given)),
        }
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
        let named = || async {
            let named = self.railway.projects_named(Some(&workspace.id), name).await;
            named.map(|named| named.into_iter().next())
        };
        if let Some(project) = named().await.map_err(tell)? {
            return Ok(project);
        }
        work.log
            .say(format!("Making the project {name} at Railway."));
        match self.railway.project_create(name, Some(&workspace.id)).await {
            Ok((project, _)) => Ok(project),
            Err(trouble) if trouble.may_be_done() => {
                let made = named().await.ok().flatten();
                made.ok_or_else(|| tell(trouble))
            }
            Err(trouble) => Err(tell(trouble)),
        }
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
        let domain = match self.railway.domain_create(place, PORT).await {
            // Asked again, it finds what was made.
            Err(trouble) if trouble.may_be_done() => self.railway.domain_create(place, PORT).await,
            other => other,
        };
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

    /// Connects the service with its source and builds it. Where connecting has begun a build, that is the one.
    pub(super) async fn begin(
        &self,
        given: &Given,
        place: &Place,
        source: &Source,
        removed: bool,
    ) -> Result<DeploymentId, String> {
        let tell = |trouble| masked(trouble, given);
        let before = self.latest(place).await.map_err(tell)?;
        let connected = match self.railway.service_connect(&place.service, source).await {
            // Twice is as good as once.
            Err(trouble) if trouble.may_be_done() => {
                self.railway.service_connect(&place.service, source).await
            }
            other => other,
        };
        connected.map_err(tell)?;
        let after = self.latest(place).await.map_err(tell)?;
        // Where variables were removed, the build may be of that, and without all that was set after it.
        if let Some(begun) = after.clone().filter(|_| after != before && !removed) {
            return Ok(begun);
        }
        match self.railway.deploy(place).await {
            Ok(deploy) => Ok(deploy),
            Err(trouble) if trouble.may_be_done() => {
                let now = self.latest(place).await.map_err(tell)?;
                now.filter(|now| after.as_ref() != Some(now))
                    .ok_or_else(|| tell(trouble))
            }
            Err(trouble) => Err(tell(trouble)),
        }
    }

    async fn latest(&self, place: &Place) -> Result<Option<DeploymentId>, Trouble> {
        let latest = self.railway.latest_deployment(place).await?;
        Ok(latest.map(|latest| latest.id))
    }
}

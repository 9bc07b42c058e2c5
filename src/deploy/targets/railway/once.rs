//! What is made at Railway by requests that are sent once: where the answer to one is lost, it is looked whether it was done.

use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    DeploymentId, Domain, NewService, Place, Project, Railway, ServiceId, Source, WorkspaceId,
};
use crate::deploy::targets::shape::PORT;

/// A project with a name that nobody else gives.
pub(super) async fn project(
    railway: &Railway,
    workspace: &WorkspaceId,
    name: &str,
) -> Result<Project, Trouble> {
    match railway.project_create(name, Some(workspace)).await {
        Ok((project, _)) => Ok(project),
        Err(trouble) if trouble.may_be_done() => {
            let named = railway.projects_named(Some(workspace), name).await;
            let made = named.ok().and_then(|named| named.into_iter().next());
            made.ok_or(trouble)
        }
        Err(trouble) => Err(trouble),
    }
}

/// A service with a name that nobody else gives. Empty, so that nothing is built before everything is set.
pub(super) async fn service(railway: &Railway, new: &NewService<'_>) -> Result<ServiceId, Trouble> {
    match railway.service_create(new, &[]).await {
        Ok(service) => Ok(service.id),
        Err(trouble) if trouble.may_be_done() => {
            let named = railway.services_named(new.project, new.name).await;
            let made = named.ok().and_then(|named| named.into_iter().next());
            made.map(|service| service.id).ok_or(trouble)
        }
        Err(trouble) => Err(trouble),
    }
}

/// The service's address: the one that it has, or a new one.
pub(super) async fn domain(railway: &Railway, place: &Place) -> Result<Domain, Trouble> {
    match railway.domain_create(place, PORT).await {
        // Asked again, it finds what was made.
        Err(trouble) if trouble.may_be_done() => railway.domain_create(place, PORT).await,
        other => other,
    }
}

/// Connects the service with its source and builds it. Where connecting has begun a build, that is the one.
pub(super) async fn begin(
    railway: &Railway,
    place: &Place,
    source: &Source,
    removed: bool,
) -> Result<DeploymentId, Trouble> {
    let before = latest(railway, place).await?;
    connect(railway, place, source).await?;
    let after = latest(railway, place).await?;
    // Where variables were removed, the build may be of that, and without all that was set after it.
    if let Some(begun) = after.clone().filter(|_| after != before && !removed) {
        return Ok(begun);
    }
    deploy(railway, place, None, after.as_ref()).await
}

/// Connects the service with its source, which may begin a build of what is newest.
pub(super) async fn connect(
    railway: &Railway,
    place: &Place,
    source: &Source,
) -> Result<(), Trouble> {
    match railway.service_connect(&place.service, source).await {
        // Twice is as good as once.
        Err(trouble) if trouble.may_be_done() => {
            railway.service_connect(&place.service, source).await
        }
        other => other,
    }
}

/// Ends what is being built; what runs goes on.
pub(super) async fn end_builds(railway: &Railway, place: &Place) -> Result<(), Trouble> {
    for one in railway.standing_deployments(place).await? {
        if one.state.is_going() {
            railway.deployment_cancel(&one.id).await?;
        }
    }
    Ok(())
}

/// Builds one commit, and nothing beside it.
pub(super) async fn deploy_commit(
    railway: &Railway,
    place: &Place,
    commit: &str,
) -> Result<DeploymentId, Trouble> {
    end_builds(railway, place).await?;
    let before = latest(railway, place).await?;
    deploy(railway, place, Some(commit), before.as_ref()).await
}

/// Builds it as it is set now, of a commit or of what is newest; `before` is the newest deployment so far.
pub(super) async fn deploy(
    railway: &Railway,
    place: &Place,
    commit: Option<&str>,
    before: Option<&DeploymentId>,
) -> Result<DeploymentId, Trouble> {
    match railway.deploy(place, commit).await {
        Ok(deploy) => Ok(deploy),
        Err(trouble) if trouble.may_be_done() => {
            let now = latest(railway, place).await?;
            now.filter(|now| before != Some(now)).ok_or(trouble)
        }
        Err(trouble) => Err(trouble),
    }
}

pub(super) async fn latest(
    railway: &Railway,
    place: &Place,
) -> Result<Option<DeploymentId>, Trouble> {
    let latest = railway.latest_deployment(place).await?;
    Ok(latest.map(|latest| latest.id))
}

//! Services: what of a project is built and run.

use serde::{Deserialize, Serialize, Serializer};

use super::variables::{Exposed, refuse_references};
use super::{
    ById, Connection, EnvName, EnvironmentId, Input, Instance, Place, ProjectId, Railway, Repeat,
    SecretString, ServiceId, Trouble, gone_is_done,
};

const SERVICES: &str = "query Services($id: String!, $after: String) {
    project(id: $id) {
        services(first: 100, after: $after) {
            edges { node { id name deletedAt } }
            pageInfo { hasNextPage endCursor }
        }
    }
}";
const SERVICE_CREATE: &str = "mutation ServiceCreate($input: ServiceCreateInput!) {
    serviceCreate(input: $input) { id name }
}";
const SERVICE_CONNECT: &str =
    "mutation ServiceConnect($id: String!, $input: ServiceConnectInput!) {
    serviceConnect(id: $id, input: $input) { id }
}";
const SERVICE_SET: &str =
    "mutation ServiceSet($serviceId: String!, $environmentId: String!, $input: ServiceInstanceUpdateInput!) {
    done: serviceInstanceUpdate(serviceId: $serviceId, environmentId: $environmentId, input: $input)
}";
const SERVICE_DELETE: &str =
    "mutation ServiceDelete($id: String!) { done: serviceDelete(id: $id) }";

pub(super) const DOCUMENTS: &[&str] = &[
    SERVICES,
    SERVICE_CREATE,
    SERVICE_CONNECT,
    SERVICE_SET,
    SERVICE_DELETE,
];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
}

/// What a service is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A reference such as `ghcr.io/owner/name:tag`.
    Image(String),
    /// A repository on GitHub as `owner/name`; without a branch its default one.
    Repository {
        name: String,
        branch: Option<String>,
    },
}

/// A service to be made.
#[derive(Clone, Debug)]
pub struct NewService<'a> {
    pub project: &'a ProjectId,
    pub environment: &'a EnvironmentId,
    pub name: &'a str,
    /// With one, the build starts at once. Without, it is empty until [`Railway::service_connect`].
    pub source: Option<&'a Source>,
}

/// How a service is built and run. By default everything is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSettings {
    #[serde(skip_serializing_if = "Change::keeps")]
    pub start_command: Change,
    #[serde(skip_serializing_if = "Change::keeps")]
    pub build_command: Change,
    #[serde(skip_serializing_if = "Change::keeps")]
    pub dockerfile_path: Change,
    #[serde(skip_serializing_if = "Change::keeps")]
    pub root_directory: Change,
    #[serde(skip_serializing_if = "Change::keeps")]
    pub healthcheck_path: Change,
    /// Another image or repository; a branch is not set here but by [`Railway::service_connect`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A setting: left out, null, or a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change {
    #[default]
    Keep,
    /// As if it had never been set.
    Clear,
    To(String),
}

impl Change {
    fn keeps(&self) -> bool {
        *self == Change::Keep
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Change::Keep | Change::Clear => serializer.serialize_none(),
            Change::To(text) => serializer.serialize_str(text),
        }
    }
}

impl Source {
    fn branch(&self) -> Option<&str> {
        match self {
            Source::Image(_) => None,
            Source::Repository { branch, .. } => branch.as_deref(),
        }
    }
}

/// As the input objects have it, where the branch stands elsewhere or not at all.
impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([match self {
            Source::Image(image) => ("image", image),
            Source::Repository { name, .. } => ("repo", name),
        }])
    }
}

impl Railway {
    /// The services of a project with exactly this name. Errors: as [`Railway::services`].
    pub async fn services_named(
        &self,
        project: &ProjectId,
        name: &str,
    ) -> Result<Vec<Service>, Trouble> {
        let mut services = self.services(project).await?;
        services.retain(|service| service.name == name);
        Ok(services)
    }

    /// The services of a project, in whichever environment, by `project`, page by page. Errors: `NotFound` for the project,
    /// and those of the connection.
    pub async fn services(&self, project: &ProjectId) -> Result<Vec<Service>, Trouble> {
        #[derive(Deserialize)]
        struct Answered {
            project: Services,
        }
        #[derive(Deserialize)]
        struct Services {
            services: Connection<Found>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            #[serde(flatten)]
            service: Service,
            deleted_at: Option<String>,
        }
        let of = ById {
            id: project.as_str(),
        };
        let found = self
            .all(SERVICES, &of, |answer: Answered| answer.project.services)
            .await?;
        Ok(found
            .into_iter()
            .filter(|found| found.deleted_at.is_none())
            .map(|found| found.service)
            .collect())
    }

    /// Makes a service by `serviceCreate`, with its variables in the same call: with a source its build starts there.
    /// Errors: `Reference` before anything is sent; `Lost` when it may have been made: [`Railway::services_named`] finds it.
    pub async fn service_create(
        &self,
        new: &NewService<'_>,
        variables: &[(EnvName, SecretString)],
    ) -> Result<Service, Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ServiceCreate<'a> {
            project_id: &'a ProjectId,
            environment_id: &'a EnvironmentId,
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<&'a Source>,
            #[serde(skip_serializing_if = "Option::is_none")]
            variables: Option<Exposed<'a>>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            service_create: Service,
        }
        refuse_references(variables)?;
        let input = ServiceCreate {
            project_id: new.project,
            environment_id: new.environment,
            name: new.name,
            branch: new.source.and_then(Source::branch),
            source: new.source,
            variables: (!variables.is_empty()).then_some(Exposed(variables)),
        };
        let made: Made = self
            .ask(SERVICE_CREATE, Input { input }, Repeat::Once)
            .await?;
        Ok(made.service_create)
    }

    /// Gives an empty service its source by `serviceConnect`, or another. It may start a build: so it is sent once. Errors:
    /// `Lost` when that is not known: [`Railway::latest_deployment`] shows whether one began.
    pub async fn service_connect(
        &self,
        service: &ServiceId,
        source: &Source,
    ) -> Result<(), Trouble> {
        #[derive(Serialize)]
        struct Connect<'a> {
            id: &'a ServiceId,
            input: ConnectInput<'a>,
        }
        #[derive(Serialize)]
        struct ConnectInput<'a> {
            #[serde(flatten)]
            source: &'a Source,
            #[serde(skip_serializing_if = "Option::is_none")]
            branch: Option<&'a str>,
        }
        let connect = Connect {
            id: service,
            input: ConnectInput {
                source,
                branch: source.branch(),
            },
        };
        let _: serde::de::IgnoredAny = self.ask(SERVICE_CONNECT, connect, Repeat::Once).await?;
        Ok(())
    }

    /// Sets what is not kept by `serviceInstanceUpdate`; it counts from the next deployment on. Errors: those of the
    /// connection, and `NotFound`.
    pub async fn service_set(
        &self,
        place: &Place,
        settings: &ServiceSettings,
    ) -> Result<(), Trouble> {
        #[derive(Serialize)]
        struct Set<'a> {
            #[serde(flatten)]
            of: Instance<'a>,
            input: &'a ServiceSettings,
        }
        let set = Set {
            of: place.into(),
            input: settings,
        };
        self.bid(SERVICE_SET, set, Repeat::Safe).await
    }

    /// Deletes a service with its deployments, variables and domains in all environments by `serviceDelete`. One that is
    /// not there is deleted. Errors: those of the connection.
    pub async fn service_delete(&self, service: &ServiceId) -> Result<(), Trouble> {
        let by = ById {
            id: service.as_str(),
        };
        gone_is_done(self.bid(SERVICE_DELETE, by, Repeat::Safe).await)
    }
}

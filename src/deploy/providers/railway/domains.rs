//! Under which names a service is reached.

use serde::{Deserialize, Serialize};

use super::{Input, Instance, Place, Railway, Repeat, Trouble};

const DOMAINS: &str =
    "query Domains($projectId: String!, $environmentId: String!, $serviceId: String!) {
    domains(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId) {
        serviceDomains { domain targetPort deletedAt }
        customDomains { domain targetPort deletedAt }
    }
}";
const DOMAIN_CREATE: &str = "mutation DomainCreate($input: ServiceDomainCreateInput!) {
    serviceDomainCreate(input: $input) { domain targetPort deletedAt }
}";

pub(super) const DOCUMENTS: &[&str] = &[DOMAINS, DOMAIN_CREATE];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// A host name.
    #[serde(rename = "domain")]
    pub name: String,
    /// Where the server listens; none when Railway finds that out.
    #[serde(rename = "targetPort")]
    pub port: Option<u16>,
    deleted_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domains {
    /// Made by Railway, as in `name.up.railway.app`.
    #[serde(rename = "serviceDomains")]
    pub given: Vec<Domain>,
    /// The owner's own.
    #[serde(rename = "customDomains")]
    pub own: Vec<Domain>,
}

impl Railway {
    /// The names of a service, by `domains`. Errors: `NotFound` for the service, and those of the connection.
    pub async fn domains(&self, place: &Place) -> Result<Domains, Trouble> {
        #[derive(Deserialize)]
        struct Found {
            domains: Domains,
        }
        let found: Found = self.ask(DOMAINS, place, Repeat::Safe).await?;
        let mut domains = found.domains;
        domains.given.retain(|domain| domain.deleted_at.is_none());
        domains.own.retain(|domain| domain.deleted_at.is_none());
        Ok(domains)
    }

    /// The name that Railway gave the service (its port may be another), or a new one by `serviceDomainCreate`. Errors:
    /// `Lost` when one may have been made: asked again, this finds it.
    pub async fn domain_create(&self, place: &Place, port: u16) -> Result<Domain, Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct NewDomain<'a> {
            #[serde(flatten)]
            of: Instance<'a>,
            target_port: u16,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            service_domain_create: Domain,
        }
        if let Some(given) = self.domains(place).await?.given.into_iter().next() {
            return Ok(given);
        }
        let input = NewDomain {
            of: place.into(),
            target_port: port,
        };
        let made: Made = self
            .ask(DOMAIN_CREATE, Input { input }, Repeat::Once)
            .await?;
        Ok(made.service_domain_create)
    }
}

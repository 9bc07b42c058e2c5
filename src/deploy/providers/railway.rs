//! Railway's GraphQL API as typed functions: what each sends, and its errors. Knows no store and no deployment of ours.
//!
//! One address takes all documents. A document stands as a constant beside the function that sends it; its variables are a
//! struct that leaves out what is not said, because to Railway a null means "unset this". Errors come as HTTP 200 with
//! `errors`. Nothing here is created twice by a retry: what creates or starts something is sent once, ends as
//! [`Trouble::Lost`] when its answer does not come, and has a look-up that finds what was made.

mod account;
mod deployments;
mod domains;
mod logs;
mod projects;
mod services;
mod variables;

use http::{HeaderName, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;
use url::Url;

use super::Trouble;
use super::http::{Answer, Ask, Auth, ProviderHttp, Repeat};
use crate::deploy::sources::SourceHosts;
use crate::model::paths::EnvName;

pub use account::{Account, Environment, Project, TokenKind, Workspace};
pub use deployments::{Deployment, DeploymentState};
pub use domains::{Domain, Domains};
pub use logs::{LogLine, LogPosition, LogRead};
pub use services::{Change, NewService, Service, ServiceSettings, Source};
pub use variables::{REFERENCE, refuse_references};

/// Where the API is, unless `SEALPORT_RAILWAY_API` says otherwise.
pub const API: &str = "https://backboard.railway.com/graphql/v2";

/// The provider as sentences name it.
const NAME: &str = "Railway";
/// Pages of one list that are read at most.
const PAGES_MAX: usize = 40;

/// What each function here can send, for tests that hold all of it against Railway's schema.
#[doc(hidden)]
pub const DOCUMENTS: &[&[&str]] = &[
    account::DOCUMENTS,
    projects::DOCUMENTS,
    services::DOCUMENTS,
    variables::DOCUMENTS,
    deployments::DOCUMENTS,
    domains::DOCUMENTS,
    logs::DOCUMENTS,
];

macro_rules! ids {
    ($($(#[$says:meta])* $name:ident),+) => {$(
        $(#[$says])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                $name(id)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}
ids!(
    WorkspaceId,
    ProjectId,
    EnvironmentId,
    ServiceId,
    /// Of a deployment as Railway means it: one build and run of a service.
    DeploymentId
);

/// A service in one environment of its project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(rename = "projectId")]
    pub project: ProjectId,
    #[serde(rename = "environmentId")]
    pub environment: EnvironmentId,
    #[serde(rename = "serviceId")]
    pub service: ServiceId,
}

/// Railway, asked with one key.
#[derive(Debug)]
pub struct Railway {
    bearer: ProviderHttp,
    project_token: ProviderHttp,
    /// A key does not show which kind it is; it is found out once.
    kind: OnceCell<TokenKind>,
}

impl Railway {
    /// Errors: those of [`ProviderHttp::new`].
    pub fn new(base: Url, key: SecretString, hosts: SourceHosts) -> Result<Railway, Trouble> {
        let header = HeaderName::from_static("project-access-token");
        Ok(Railway {
            bearer: ProviderHttp::new(
                NAME,
                base.clone(),
                Auth::Bearer(key.clone()),
                hosts.clone(),
            )?,
            project_token: ProviderHttp::new(NAME, base, Auth::Header(header, key), hosts)?,
            kind: OnceCell::new(),
        })
    }

    /// With a kind that an earlier [`Railway::check`] of the same key told, which saves up to three requests.
    pub fn with_kind(mut self, kind: TokenKind) -> Railway {
        self.kind = OnceCell::new_with(Some(kind));
        self
    }

    /// The connection by which this kind of key is sent. Errors: as [`Railway::kind`].
    async fn http(&self) -> Result<&ProviderHttp, Trouble> {
        Ok(match self.kind().await? {
            TokenKind::Account | TokenKind::Workspace => &self.bearer,
            TokenKind::Project => &self.project_token,
        })
    }

    /// Sends a document with its variables. Errors: every [`Trouble`] of the connection; what `errors` say becomes
    /// `NoAccess` for "Not Authorized", `NotFound` where something is not found, and else `Refused`.
    async fn ask<D: DeserializeOwned>(
        &self,
        document: &str,
        variables: impl Serialize,
        repeat: Repeat,
    ) -> Result<D, Trouble> {
        send(self.http().await?, document, variables, repeat).await
    }

    /// A mutation whose answer is a Boolean under the alias `done`. Errors: as `ask`; `Refused` when it is false.
    async fn bid(
        &self,
        document: &str,
        variables: impl Serialize,
        repeat: Repeat,
    ) -> Result<(), Trouble> {
        #[derive(Deserialize)]
        struct Answered {
            done: bool,
        }
        let http = self.http().await?;
        let answered: Answered = send(http, document, variables, repeat).await?;
        if answered.done {
            Ok(())
        } else {
            Err(http.refusal(200, "It was not done, and no reason was given."))
        }
    }

    /// All of a list that comes by pages; `list` takes it out of the answer. Errors: as `ask`; `TooLarge` when there is no
    /// end to it, for a look-up that sees only a part would let something be made twice.
    async fn all<D: DeserializeOwned, T>(
        &self,
        document: &str,
        variables: &impl Serialize,
        list: impl Fn(D) -> Connection<T>,
    ) -> Result<Vec<T>, Trouble> {
        let http = self.http().await?;
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let asked = Paged {
                of: variables,
                after: after.as_deref(),
            };
            let page = list(send(http, document, asked, Repeat::Safe).await?);
            all.extend(page.edges.into_iter().map(|edge| edge.node));
            let info = page.page_info.unwrap_or_default();
            if !info.has_next_page {
                return Ok(all);
            }
            if info.end_cursor.is_none() || info.end_cursor == after {
                break;
            }
            after = info.end_cursor;
        }
        Err(Trouble::TooLarge { provider: NAME })
    }
}

/// Whether it means that what was to be removed is not there: then nothing is left to do.
fn gone_is_done(outcome: Result<(), Trouble>) -> Result<(), Trouble> {
    match outcome {
        Err(Trouble::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// A list as GraphQL's connections have it. Where `pageInfo` is not asked for there is one page.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection<T> {
    edges: Vec<Edge<T>>,
    page_info: Option<PageInfo>,
}

#[derive(Deserialize)]
struct Edge<T> {
    node: T,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Serialize)]
struct Paged<'a, V: Serialize> {
    #[serde(flatten)]
    of: &'a V,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
}

/// For documents about a service in an environment, which do not ask for the project.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance<'a> {
    environment_id: &'a EnvironmentId,
    service_id: &'a ServiceId,
}

impl<'a> From<&'a Place> for Instance<'a> {
    fn from(place: &'a Place) -> Self {
        Instance {
            environment_id: &place.environment,
            service_id: &place.service,
        }
    }
}

/// For documents with the one variable `$id`.
#[derive(Serialize)]
struct ById<'a> {
    id: &'a str,
}

/// For mutations with the one variable `$input`.
#[derive(Serialize)]
struct Input<T: Serialize> {
    input: T,
}

/// Read before the data, which then need not be of the right form.
#[derive(Deserialize)]
struct Failures {
    errors: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
struct Failure {
    /// It may echo what was sent.
    message: Option<SecretString>,
}

#[derive(Deserialize)]
struct Data<D> {
    data: D,
}

async fn send<D: DeserializeOwned>(
    http: &ProviderHttp,
    document: &str,
    variables: impl Serialize,
    repeat: Repeat,
) -> Result<D, Trouble> {
    #[derive(Serialize)]
    struct Body<'a, V> {
        query: &'a str,
        variables: V,
    }
    let body = Body {
        query: document,
        variables,
    };
    // Texts, maps of texts and small numbers: there is nothing in them that JSON could not say.
    let body = serde_json::to_value(body).unwrap_or(Value::Null);
    let answer = http
        .send(Ask::new(Method::POST, &[], repeat).body(body))
        .await?;
    read(http, &answer)
}

fn read<D: DeserializeOwned>(http: &ProviderHttp, answer: &Answer) -> Result<D, Trouble> {
    let failures: Failures = answer.read()?;
    // Data beside errors is a part of what was asked: the errors count.
    match failures.errors.as_deref() {
        None | Some([]) => Ok(answer.read::<Data<D>>()?.data),
        Some(failures) => Err(trouble(http, answer.status, failures)),
    }
}

fn trouble(http: &ProviderHttp, status: u16, failures: &[Failure]) -> Trouble {
    let said = || {
        failures
            .iter()
            .filter_map(|failure| failure.message.as_ref())
            .map(|message| message.expose_secret())
    };
    if said().any(|message| has(message, "not authorized")) {
        Trouble::NoAccess { provider: NAME }
    } else if said().any(|message| has(message, "not found")) {
        Trouble::NotFound { provider: NAME }
    } else {
        http.refusal(status, said().next().unwrap_or_default())
    }
}

/// In any case of letters, and without a copy of the text.
fn has(text: &str, words: &str) -> bool {
    text.as_bytes()
        .windows(words.len())
        .any(|part| part.eq_ignore_ascii_case(words.as_bytes()))
}

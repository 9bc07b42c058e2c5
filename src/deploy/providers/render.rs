//! Render's REST API, as typed functions. Each says what it sends. Every one of them can end with the troubles of sending:
//! `Unauthorised`, `Limited`, `Unreachable`, `NotJson`, `Unexpected`, `Moved`, `NotAllowed`, `TooLarge`, and `Refused` with
//! what Render says; those that are special are named.
//!
//! Variables are set and removed one by one. A list that is sent replaces all of a service's variables, so to leave alone
//! what others set there, their values would have to come here and go back; and what they change in between would be undone.
//! One by one, no value that is not ours passes through here. Render starts nothing anew by itself, so what is set in
//! several steps takes effect in one: with the deploy that follows.

mod logs;
mod making;
mod words;

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use url::Url;

use super::Trouble;
use super::http::{Ask, Auth, ProviderHttp, Repeat};
use crate::deploy::sources::SourceHosts;
use crate::model::paths::EnvName;

pub use logs::{LogKind, LogLine, LogMark};
pub use making::{NewService, ServiceBuild, ServiceChange, ServiceSource};
pub use words::{DeployState, Plan, Region, Runtime};

/// Where the API is.
pub const API: &str = "https://api.render.com/v1";

const NAME: &str = "Render";
/// The most that Render gives at once.
const PAGE_ITEMS: usize = 100;
/// A list that goes on after so many pages is none that a person made.
const PAGES_MAX: usize = 50;
/// Render takes thirty changes a minute, so of many variables one may wait for the next minute, and for one after it.
const VARIABLE_PATIENCE: Duration = Duration::from_secs(150);
/// Deploys that are looked through for a new one.
const NEWEST_DEPLOYS: usize = 20;

/// One key at Render. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Render {
    http: ProviderHttp,
}

/// What a key reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub owners: Vec<Owner>,
}

/// A workspace, in which services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub id: String,
    pub name: String,
    pub kind: OwnerKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    User,
    Team,
}

/// What came of a creation: its first deploy has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub service_id: String,
    /// None when Render does not tell it: look with [`Render::deploys`].
    pub deploy_id: Option<String>,
    pub url: Option<Url>,
}

/// A service as it is at Render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub owner: String,
    pub url: Option<Url>,
    /// Its page at Render, for a person.
    pub dashboard_url: Option<Url>,
    pub suspended: bool,
    pub repo: Option<String>,
    pub branch: Option<String>,
    pub folder: Option<String>,
    pub image: Option<String>,
    /// Words of Render's, which may be newer than ours.
    pub runtime: Option<String>,
    pub plan: Option<String>,
    pub region: Option<String>,
    pub health_check_path: Option<String>,
    pub created_at: Option<OffsetDateTime>,
}

/// One deploy of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    pub id: String,
    pub state: DeployState,
    /// Of the commit, where it was made of one.
    pub commit: Option<String>,
    /// `api`, `manual`, …
    pub trigger: Option<String>,
    pub created_at: Option<OffsetDateTime>,
}

impl Account {
    /// What the key can do, in a sentence for the page.
    pub fn says(&self) -> String {
        let named: Vec<String> = self
            .owners
            .iter()
            .map(|owner| match owner.kind {
                OwnerKind::User => format!("{} (personal)", owner.name),
                OwnerKind::Team => format!("{} (team)", owner.name),
            })
            .collect();
        match named.as_slice() {
            [] => "This key reaches no workspace, so nothing can be deployed with it.".into(),
            _ => format!(
                "This key can make, change and delete every service in {}. Render does not make keys that can do less.",
                named.join(", ")
            ),
        }
    }
}

impl Render {
    /// `base` is [`API`], but for tests. Errors: as [`ProviderHttp::new`].
    pub fn new(base: Url, key: SecretString, hosts: SourceHosts) -> Result<Self, Trouble> {
        Ok(Render {
            http: ProviderHttp::new(NAME, base, Auth::Bearer(key), hosts)?,
        })
    }

    /// Whether the key is one, and which workspaces it reaches. Sends `GET /owners`, page by page.
    pub async fn check(&self) -> Result<Account, Trouble> {
        let pages = self.pages(|| Ask::get(&["owners"])).await?;
        let owners = pages.into_iter().map(|item: OwnerItem| Owner {
            id: item.owner.id,
            name: item.owner.name,
            kind: if item.owner.kind == "team" {
                OwnerKind::Team
            } else {
                OwnerKind::User
            },
        });
        Ok(Account {
            owners: owners.collect(),
        })
    }

    /// The web services of exactly this name in a workspace, oldest first: look here before one is made, and when the
    /// answer to making one was lost. Sends `GET /services?name&ownerId&type=web_service&includePreviews=false`.
    pub async fn services_named(&self, owner: &str, name: &str) -> Result<Vec<Service>, Trouble> {
        let ask = || {
            Ask::get(&["services"])
                .query("name", name)
                .query("ownerId", owner)
                .query("type", "web_service")
                .query("includePreviews", "false")
        };
        let items: Vec<ServiceItem> = self.pages(ask).await?;
        // Whatever the filter makes of the name, another's service is never taken for ours.
        let mut services: Vec<Service> = items
            .into_iter()
            .map(|item| Service::from(item.service))
            .filter(|service| service.name == name && service.owner == owner)
            .collect();
        services.sort_by_key(|service| service.created_at);
        Ok(services)
    }

    /// Makes a service with these variables, and nothing else of ours; its first deploy begins. Sends `POST /services`
    /// once. Errors: `Payment`; `Lost` and all for which [`Trouble::may_be_done`]: it may exist, so look with
    /// [`Render::services_named`] before it is made again.
    pub async fn create(
        &self,
        service: &NewService,
        env: &[(EnvName, SecretString)],
    ) -> Result<Created, Trouble> {
        let ask = Ask::new(Method::POST, &["services"], Repeat::Once).body(service.body(env));
        let made: ServiceAndDeploy = self.http.send(ask).await?.read()?;
        let service = Service::from(made.service);
        Ok(Created {
            service_id: service.id,
            deploy_id: made.deploy_id.filter(|id| !id.is_empty()),
            url: service.url,
        })
    }

    /// Sends `GET /services/{id}`. Errors: `NotFound`.
    pub async fn service(&self, id: &str) -> Result<Service, Trouble> {
        let answer: ServiceBody = self.http.send(Ask::get(&["services", id])).await?.read()?;
        Ok(answer.into())
    }

    /// Takes effect with the next deploy. Sends `PATCH /services/{id}` with what changes alone, or nothing. `owner` is the
    /// workspace, which an image belongs to. Errors: `NotFound`, `Payment`.
    pub async fn change(
        &self,
        owner: &str,
        id: &str,
        change: &ServiceChange,
    ) -> Result<(), Trouble> {
        let Some(body) = change.body(owner) else {
            return Ok(());
        };
        let ask = Ask::new(Method::PATCH, &["services", id], Repeat::Safe).body(body);
        self.http.send(ask).await.map(drop)
    }

    /// The names of all variables of a service, whoever set them. Render sends the values too; they are passed over while
    /// the answer is read. Sends `GET /services/{id}/env-vars`, page by page. Errors: `NotFound`.
    pub async fn env_vars(&self, id: &str) -> Result<Vec<String>, Trouble> {
        let items: Vec<EnvVarItem> = self
            .pages(|| Ask::get(&["services", id, "env-vars"]))
            .await?;
        Ok(items.into_iter().map(|item| item.env_var.key).collect())
    }

    /// Sets these variables and removes those; all others stay. Takes effect with the next deploy. Doing it again does
    /// no harm, also after it was cut off. Thirty variables go in a minute, and more wait for the next.
    ///
    /// Sends `PUT /services/{id}/env-vars/{key}` for each, then `DELETE` of the same. Errors: `NotFound` when the service
    /// is gone and something is set; a variable that is gone already is removed.
    pub async fn set_env(
        &self,
        id: &str,
        env: &[(EnvName, SecretString)],
        remove: &[EnvName],
    ) -> Result<(), Trouble> {
        let variable = |method: Method, name: &EnvName| {
            let path = ["services", id, "env-vars", name.as_str()];
            Ask::new(method, &path, Repeat::Safe).patience(VARIABLE_PATIENCE)
        };
        for (name, value) in env {
            let ask = variable(Method::PUT, name).body(making::value_body(value));
            // The answer holds the value: it is dropped, which zeroes it.
            self.http.send(ask).await.map(drop)?;
        }
        for name in remove {
            // Whoever sets and removes a variable at once wants it set.
            if env.iter().any(|(set, _)| set == name) {
                continue;
            }
            gone(self.http.send(variable(Method::DELETE, name)).await)?;
        }
        Ok(())
    }

    /// Begins a deploy of what the service is now, of a commit or of what is newest on its branch. None when Render took it
    /// without telling which, and it does not stand in the list yet.
    ///
    /// Sends `POST /services/{id}/deploys` once, with `GET` of the same before it and, when the answer tells none or is
    /// lost, after it: the new one is ours. Errors: `NotFound`; `Lost` when there is no new one.
    pub async fn deploy(&self, id: &str, commit: Option<&str>) -> Result<Option<String>, Trouble> {
        let mut body = json!({"clearCache": "do_not_clear"});
        if let Some(commit) = commit {
            body["commitId"] = commit.into();
        }
        let ask = Ask::new(Method::POST, &["services", id, "deploys"], Repeat::Once).body(body);
        let before = self.deploys(id, NEWEST_DEPLOYS).await?;
        let trouble = match self.http.send(ask).await {
            Ok(answer) if answer.is_empty() => None,
            Ok(answer) => match answer.read::<DeployBody>() {
                Ok(deploy) => return Ok(Some(deploy.id)),
                Err(trouble) => Some(trouble),
            },
            Err(trouble) if trouble.may_be_done() => Some(trouble),
            Err(trouble) => return Err(trouble),
        };
        let known: HashSet<&str> = before.iter().map(|deploy| deploy.id.as_str()).collect();
        // That it was taken, or may be, counts more than that this look failed.
        let after = self.deploys(id, NEWEST_DEPLOYS).await.unwrap_or_default();
        let new = after.into_iter().find(|deploy| {
            let ours = deploy.trigger.as_deref().is_none_or(|by| by == "api");
            ours && !known.contains(deploy.id.as_str())
        });
        match (new, trouble) {
            (Some(deploy), _) => Ok(Some(deploy.id)),
            (None, None) => Ok(None),
            (None, Some(trouble)) => Err(trouble),
        }
    }

    /// The newest deploys of a service, newest first, a hundred at most. Sends `GET /services/{id}/deploys?limit`.
    /// Errors: `NotFound`.
    pub async fn deploys(&self, id: &str, limit: usize) -> Result<Vec<Deploy>, Trouble> {
        let limit = limit.clamp(1, PAGE_ITEMS).to_string();
        let ask = Ask::get(&["services", id, "deploys"]).query("limit", limit);
        let items: Vec<DeployItem> = self.http.send(ask).await?.read()?;
        let mut deploys: Vec<Deploy> = items
            .into_iter()
            .map(|item| Deploy::from(item.deploy))
            .collect();
        // Stable: where no time is told, the order is Render's.
        deploys.sort_by_key(|deploy| std::cmp::Reverse(deploy.created_at));
        Ok(deploys)
    }

    /// Sends `GET /services/{id}/deploys/{deploy}`. Errors: `NotFound`.
    pub async fn one_deploy(&self, id: &str, deploy: &str) -> Result<Deploy, Trouble> {
        let ask = Ask::get(&["services", id, "deploys", deploy]);
        let answer: DeployBody = self.http.send(ask).await?.read()?;
        Ok(Deploy::from(answer))
    }

    /// As [`Render::one_deploy`].
    pub async fn deploy_state(&self, id: &str, deploy: &str) -> Result<DeployState, Trouble> {
        Ok(self.one_deploy(id, deploy).await?.state)
    }

    /// Ends a deploy that is not over, and tells how it stands. One that was over stays as it is. Sends
    /// `POST /services/{id}/deploys/{deploy}/cancel` once, and `GET` of the deploy when that tells nothing. Errors:
    /// `NotFound`; a refusal when it goes on nevertheless.
    pub async fn cancel(&self, id: &str, deploy: &str) -> Result<DeployState, Trouble> {
        let path = ["services", id, "deploys", deploy, "cancel"];
        let asked = match self
            .http
            .send(Ask::new(Method::POST, &path, Repeat::Once))
            .await
        {
            Ok(answer) => match answer.read::<DeployBody>() {
                Ok(deploy) => return Ok(Deploy::from(deploy).state),
                Err(trouble) => trouble,
            },
            Err(trouble) => trouble,
        };
        if !is_refusal(&asked) && !asked.may_be_done() {
            return Err(asked);
        }
        match self.deploy_state(id, deploy).await? {
            state if state.is_over() => Ok(state),
            _ => Err(asked),
        }
    }

    /// Stops a service; it stays with all it has. Sends `POST /services/{id}/suspend`, and looks when that is refused:
    /// one that is suspended is so. Errors: `NotFound`.
    pub async fn suspend(&self, id: &str) -> Result<(), Trouble> {
        self.set_suspended(id, "suspend", true).await
    }

    /// The opposite. Sends `POST /services/{id}/resume`. Errors: `NotFound`.
    pub async fn resume(&self, id: &str) -> Result<(), Trouble> {
        self.set_suspended(id, "resume", false).await
    }

    async fn set_suspended(&self, id: &str, verb: &str, wanted: bool) -> Result<(), Trouble> {
        let ask = Ask::new(Method::POST, &["services", id, verb], Repeat::Safe);
        match self.http.send(ask).await {
            Ok(_) => Ok(()),
            Err(trouble) if is_refusal(&trouble) => {
                if self.service(id).await?.suspended == wanted {
                    Ok(())
                } else {
                    Err(trouble)
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Removes a service and all it has, for good; one that is not there is removed. Sends `DELETE /services/{id}`.
    pub async fn delete(&self, id: &str) -> Result<(), Trouble> {
        let ask = Ask::new(Method::DELETE, &["services", id], Repeat::Safe);
        gone(self.http.send(ask).await)
    }

    /// All of a list that comes by pages: each item has a cursor, and the last one's leads on.
    async fn pages<T: for<'a> Deserialize<'a> + HasCursor>(
        &self,
        ask: impl Fn() -> Ask,
    ) -> Result<Vec<T>, Trouble> {
        let mut all: Vec<T> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut ask = ask().query("limit", PAGE_ITEMS.to_string());
            if let Some(cursor) = &cursor {
                ask = ask.query("cursor", cursor);
            }
            let page: Vec<T> = self.http.send(ask).await?.read()?;
            // Not by its length: a page shorter than was asked for need not be the last, and what is overlooked is made twice.
            let next = page.last().map(|item| item.cursor().to_owned());
            all.extend(page);
            if next.as_deref().is_none_or(str::is_empty) || next == cursor {
                return Ok(all);
            }
            cursor = next;
        }
        Err(Trouble::TooLarge { provider: NAME })
    }
}

/// What is not there is gone.
fn gone<T>(answer: Result<T, Trouble>) -> Result<(), Trouble> {
    match answer {
        Ok(_) | Err(Trouble::NotFound { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

/// Render says no to what it was asked, as to what is done already.
fn is_refusal(trouble: &Trouble) -> bool {
    matches!(
        trouble,
        Trouble::Refused {
            status: 400..=499,
            ..
        }
    )
}

trait HasCursor {
    fn cursor(&self) -> &str;
}

/// An item of a list, with its place there.
macro_rules! item {
    ($name:ident, $field:ident: $body:ty) => {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct $name {
            $field: $body,
            #[serde(default)]
            cursor: String,
        }

        impl HasCursor for $name {
            fn cursor(&self) -> &str {
                &self.cursor
            }
        }
    };
}

item!(OwnerItem, owner: OwnerBody);
item!(ServiceItem, service: ServiceBody);
item!(EnvVarItem, env_var: EnvVarBody);
item!(DeployItem, deploy: DeployBody);

#[derive(Deserialize)]
struct OwnerBody {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Without a field for the value, which is so never kept.
#[derive(Deserialize)]
struct EnvVarBody {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAndDeploy {
    service: ServiceBody,
    deploy_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceBody {
    id: String,
    name: String,
    owner_id: String,
    suspended: String,
    dashboard_url: Option<String>,
    repo: Option<String>,
    branch: Option<String>,
    root_dir: Option<String>,
    image_path: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
    #[serde(default)]
    service_details: DetailsBody,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DetailsBody {
    url: Option<String>,
    runtime: Option<String>,
    plan: Option<String>,
    region: Option<String>,
    health_check_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeployBody {
    id: String,
    #[serde(default)]
    status: String,
    trigger: Option<String>,
    commit: Option<CommitBody>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
struct CommitBody {
    id: Option<String>,
}

impl From<ServiceBody> for Service {
    fn from(body: ServiceBody) -> Self {
        let details = body.service_details;
        let url = |text: Option<String>| text.and_then(|text| Url::parse(&text).ok());
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        Service {
            id: body.id,
            name: body.name,
            owner: body.owner_id,
            url: url(details.url),
            dashboard_url: url(body.dashboard_url),
            suspended: body.suspended == "suspended",
            repo: full(body.repo),
            branch: full(body.branch),
            folder: full(body.root_dir),
            image: full(body.image_path),
            runtime: full(details.runtime),
            plan: full(details.plan),
            region: full(details.region),
            health_check_path: full(details.health_check_path),
            created_at: body.created_at,
        }
    }
}

impl From<DeployBody> for Deploy {
    fn from(body: DeployBody) -> Self {
        Deploy {
            id: body.id,
            state: DeployState::parse(&body.status),
            commit: body.commit.and_then(|commit| commit.id),
            trigger: body.trigger,
            created_at: body.created_at,
        }
    }
}

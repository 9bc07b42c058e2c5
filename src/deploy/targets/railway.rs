//! Railway: one service for each deployment, in the project that is named or in one of its own.

mod building;
mod lines;
mod making;
mod once;
pub(super) mod trial;
mod whereabouts;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use url::Url;

use super::remote::{Given, masked, says_set, service_name, unmasked};
use super::shape::shape;
use super::watching::{keep_reading, watch};
use super::{Driver, Order, Run, Steps, Work};
use crate::deploy::Deployer;
use crate::deploy::instance::{Instance, StartFailure};
use crate::deploy::log::Log;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::railway::{
    Account, DeploymentId, LogPosition, Place, ProjectId, Railway, Source, TokenKind, WorkspaceId,
    refuse_references,
};
use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::paths::EnvName;
use crate::model::sources::{self, StartPlan};
use crate::model::targets::{AccountPlace, AccountSays, Placed, PlacedDeploy};
use building::Built;
use lines::{Coming, Lines};
use whereabouts::{Ground, chosen, said};

pub(super) struct RailwayDriver {
    deployer: Deployer,
    railway: Arc<Railway>,
    /// Opened once for all that one job does.
    given: OnceCell<Given>,
}

impl RailwayDriver {
    pub fn new(deployer: Deployer, key: SecretString) -> Result<Self, String> {
        let api = deployer.0.providers.railway_api.clone();
        let hosts = deployer.0.source_hosts.clone();
        let railway = Railway::new(api, key, hosts).map_err(|trouble| trouble.to_string())?;
        Ok(RailwayDriver {
            deployer,
            railway: Arc::new(railway),
            given: OnceCell::new(),
        })
    }

    async fn given(&self, run: &Run) -> Result<&Given, StartFailure> {
        self.given
            .get_or_try_init(|| self.deployer.given(run))
            .await
    }

    /// What the key reaches; with the project that is named, though there are more than are listed.
    async fn account(&self, options: &BTreeMap<String, String>) -> Result<Account, Trouble> {
        let mut account = self.railway.check().await?;
        if let (true, Some(wanted)) = (account.cut, said(options, "project")) {
            for workspace in &account.workspaces {
                let named = self.railway.projects_named(Some(&workspace.id), wanted);
                for project in named.await? {
                    if !account.projects.iter().any(|known| known.id == project.id) {
                        account.projects.push(project);
                    }
                }
            }
        }
        Ok(account)
    }

    fn built(
        &self,
        source: &sources::Source,
        start: &StartPlan,
        options: &BTreeMap<String, String>,
    ) -> Result<Built, Refusal> {
        let bridge = self.deployer.0.providers.bridge_image.as_deref();
        building::built(shape(source, start, options, bridge)?, options)
    }

    fn url_of(&self, domain: &str) -> Result<Url, String> {
        url_of(&self.deployer.0.providers.railway_api, domain)
    }
}

#[async_trait]
impl Driver for RailwayDriver {
    async fn check(&self) -> Result<AccountSays, String> {
        let account = self.railway.check().await.map_err(unmasked)?;
        Ok(says(&account))
    }

    async fn plan(&self, order: &Order) -> Result<Vec<String>, Refusal> {
        let built = self.built(&order.source, &order.start, &order.options)?;
        let account = self.account(&order.options).await;
        let account = account.map_err(|trouble| Refusal::invalid("key", unmasked(trouble)))?;
        let place = match chosen(&account, &order.options)? {
            Ground::There {
                project,
                environment,
            } => format!(
                "in the project {}, environment {},",
                project.name, environment.name
            ),
            Ground::Own { workspace } => {
                format!(
                    "in a project of its own, in the workspace {},",
                    workspace.name
                )
            }
        };
        let what = building::says(&built);
        let mut lines = vec![match order.placed.service {
            Some(_) => format!("Change the service {place} at Railway, {what}."),
            None => format!("Make a service {place} at Railway, {what}, with an address."),
        }];
        if matches!(built.source, Source::Repository { .. }) {
            let first = built.commit.map_or_else(
                || "what is newest there".to_owned(),
                |commit| format!("the commit {commit}"),
            );
            lines.push(format!("Railway builds {first}, and by itself again when something newer is pushed: that gets the values too."));
        }
        lines.extend(says_set(order, "Railway"));
        Ok(lines)
    }

    async fn apply(&self, work: &Work<'_>) -> Result<(), String> {
        let run = work.run().await;
        let steps = work.steps();
        steps.say(StepName::Provision, "running", "").await;
        let begun = run.placed.deploy.as_ref();
        if begun.is_some_and(|deploy| deploy.release == run.release) {
            let says = "Begun before Sealport was interrupted.";
            steps.say(StepName::Provision, "done", says).await;
            return Ok(());
        }
        let given = self.given(&run).await.map_err(|failure| failure.reason)?;
        // Both before anything is made.
        refuse_references(&given.env).map_err(|trouble| masked(trouble, given))?;
        let built = self
            .built(&run.source, &run.start, &work.task.options)
            .map_err(|refusal| refusal.detail)?;
        let name = service_name(&run.name, run.id);
        let place = self.place(work, given, &name).await?;
        match built.commit {
            Some(_) => {
                self.connect_before(work, given, &place, &built.source)
                    .await?;
            }
            None => work.note(|placed| placed.connected = None).await?,
        }
        let removed = self.set(work, given, &place, &built.settings).await?;
        self.address(work, given, &place).await?;
        let deploy = match built.commit.as_deref() {
            Some(commit) => once::deploy_commit(&self.railway, &place, commit).await,
            None => once::begin(&self.railway, &place, &built.source, removed).await,
        };
        let deploy = deploy.map_err(|trouble| masked(trouble, given))?;
        note_deploy(work, &deploy).await?;
        let says = format!("The service {name} is at Railway.");
        steps.say(StepName::Provision, "done", &says).await;
        Ok(())
    }

    async fn watch(&self, work: &Work<'_>) -> Result<(), String> {
        let run = work.run().await;
        let given = self.given(&run).await.map_err(|failure| failure.reason)?;
        let steps = work.steps();
        steps.say(StepName::Build, "running", "").await;
        let (Some(place), Some(deploy)) = (place_of(&run.placed), run.placed.deploy) else {
            return Err("What was made at Railway is not known any more. Redeploy it.".into());
        };
        let coming = Coming {
            work,
            place,
            masks: &given.masks,
            lines: Lines::of(&self.railway, DeploymentId::from(deploy.id)),
            built: false,
        };
        watch(coming, &steps, given, self.deployer.0.providers.look_every).await
    }

    async fn join(
        &self,
        run: &Run,
        steps: &Steps<'_>,
        log: &Log,
    ) -> Result<Instance, StartFailure> {
        let given = self.given(run).await?;
        let lost = |reason: &str| StartFailure {
            reason: reason.into(),
            lasting: true,
        };
        let (Some(place), Some(url)) = (place_of(&run.placed), &run.placed.url) else {
            return Err(lost("Nothing of it is at Railway. Redeploy it."));
        };
        let standing = match self.railway.standing_deployments(&place).await {
            Ok(standing) => standing,
            Err(Trouble::NotFound { .. }) => {
                return Err(lost("The service is gone at Railway. Redeploy it."));
            }
            Err(trouble) => {
                return Err(StartFailure {
                    lasting: !trouble.may_pass(),
                    reason: masked(trouble, given),
                });
            }
        };
        let domains = self.railway.domains(&place).await;
        let domains = domains.map_err(|trouble| StartFailure {
            lasting: !trouble.may_pass(),
            reason: masked(trouble, given),
        })?;
        // A name that was given up may be another's by now, and would be shown the gateway's key.
        let url = Url::parse(url).ok().filter(|url| {
            let mut names = domains.given.iter().chain(&domains.own);
            names.any(|domain| self.url_of(&domain.name).as_ref() == Ok(url))
        });
        let url = url.ok_or_else(|| lost("Its address is not its own any more. Redeploy it."))?;
        // Whether it answers decides; Railway's word on what is up is for its log.
        let up = standing.into_iter().rfind(|one| one.state.is_up());
        let noted = || run.placed.deploy.as_ref();
        let up = match up {
            Some(up) => up.id,
            None => match noted() {
                Some(deploy) => DeploymentId::from(deploy.id.clone()),
                None => return Err(lost("Nothing of it runs at Railway. Redeploy it.")),
            },
        };
        let printed = Lines {
            run: LogPosition::since(OffsetDateTime::now_utc()),
            ..Lines::of(&self.railway, up)
        };
        let beside = keep_reading(printed, log.clone(), Arc::clone(&given.masks));
        self.deployer
            .join_elsewhere(run, &url, given, steps, log, beside)
            .await
    }

    async fn stop(&self, run: &Run) -> Result<(), String> {
        let Some(place) = place_of(&run.placed) else {
            return Ok(());
        };
        let standing = match self.railway.standing_deployments(&place).await {
            Ok(standing) => standing,
            Err(Trouble::NotFound { .. }) => return self.surely_gone(&run.placed).await,
            Err(trouble) => return Err(unmasked(trouble)),
        };
        // The older ones last: Railway may bring one back for a newer one that goes.
        for one in standing.iter().rev() {
            let ended = match one.state.is_going() {
                true => self.railway.deployment_cancel(&one.id).await,
                false => self.railway.deployment_remove(&one.id).await,
            };
            ended.map_err(unmasked)?;
        }
        Ok(())
    }

    async fn destroy(&self, run: &Run) -> Result<(), String> {
        let name = service_name(&run.name, run.id);
        let Some((project, made)) = self.project_of(&run.placed, &name).await? else {
            return Ok(());
        };
        let is_ours = |id: &str, named: &str| match &run.placed.service {
            Some(noted) => noted == id,
            // Made, perhaps, and not noted.
            None => named == name,
        };
        let services = match self.railway.services(&project).await {
            Ok(services) => services,
            Err(Trouble::NotFound { .. }) => return self.surely_gone(&run.placed).await,
            Err(trouble) => return Err(unmasked(trouble)),
        };
        for service in services {
            if is_ours(service.id.as_str(), &service.name) {
                let deleted = self.railway.service_delete(&service.id).await;
                deleted.map_err(unmasked)?;
            }
        }
        match made {
            true => self.destroy_project(&project, is_ours).await,
            false => Ok(()),
        }
    }

    async fn drift(&self, run: &Run) -> Result<Vec<String>, String> {
        let Some(place) = place_of(&run.placed) else {
            return Ok(Vec::new());
        };
        let gone = || {
            Ok(vec![
                "The service is gone at Railway. Redeploying makes it anew.".to_owned(),
            ])
        };
        let standing = match self.railway.standing_deployments(&place).await {
            Ok(standing) => standing,
            Err(Trouble::NotFound { .. }) => return gone(),
            // Without its own words: they may quote what is set there.
            Err(trouble) => return Err(trouble.to_string()),
        };
        let there = match self.railway.variable_names(&place).await {
            Ok(there) => there,
            Err(Trouble::NotFound { .. }) => return gone(),
            Err(trouble) => return Err(trouble.to_string()),
        };
        let mut says = Vec::new();
        if standing.is_empty() {
            says.push("Nothing of it runs at Railway. Redeploying starts it anew.".to_owned());
        }
        says.extend(super::remote::says_missing(
            &run.placed,
            |name| there.contains(name),
            "Railway",
        ));
        Ok(says)
    }
}

impl RailwayDriver {
    /// That something is not found says it is gone only where the key would reach it. Errors: it does not.
    async fn surely_gone(&self, placed: &Placed) -> Result<(), String> {
        let account = self.railway.check().await.map_err(unmasked)?;
        let mut workspaces = account.workspaces.iter().map(|one| one.id.as_str());
        let mut projects = account.projects.iter().map(|one| one.id.as_str());
        let reaches = match (placed.account.as_deref(), account.kind) {
            (Some(workspace), TokenKind::Account | TokenKind::Workspace) => {
                workspaces.any(|id| id == workspace)
            }
            _ => projects.any(|id| Some(id) == placed.project.as_deref()),
        };
        match reaches {
            true => Ok(()),
            false => Err("The key does not reach the workspace or project at Railway where it is. Give the deployment a key that does.".into()),
        }
    }

    /// The project that was noted, or that was made and not noted; and whether Sealport made it.
    async fn project_of(
        &self,
        placed: &Placed,
        name: &str,
    ) -> Result<Option<(ProjectId, bool)>, String> {
        if let Some(project) = &placed.project {
            return Ok(Some((
                ProjectId::from(project.clone()),
                placed.project_made,
            )));
        }
        let Some(workspace) = placed.account.clone().map(WorkspaceId::from) else {
            return Ok(None);
        };
        let named = self.railway.projects_named(Some(&workspace), name).await;
        let made = named.map_err(unmasked)?.into_iter().next();
        Ok(made.map(|project| (project.id, true)))
    }

    /// Removes a project that Sealport made, unless something else is in it. Errors: it is to be tried again.
    async fn destroy_project(
        &self,
        project: &ProjectId,
        is_ours: impl Fn(&str, &str) -> bool,
    ) -> Result<(), String> {
        match self.railway.project_is_empty(project).await {
            Ok(true) => return self.railway.project_delete(project).await.map_err(unmasked),
            Ok(false) => {}
            Err(Trouble::NotFound { .. }) => return Ok(()),
            Err(trouble) => return Err(unmasked(trouble)),
        }
        let left = self.railway.services(project).await.map_err(unmasked)?;
        match left
            .iter()
            .any(|service| is_ours(service.id.as_str(), &service.name))
        {
            true => Err("Railway is still removing the service.".into()),
            false => Ok(()),
        }
    }
}

/// Why Railway would not take a text as it is.
pub(super) fn text_refused(env: &EnvName, text: &str) -> Option<String> {
    let variable = (env.clone(), SecretString::from(text));
    refuse_references(&[variable]).err().map(unmasked)
}

/// The address of a service. Behind https, as the API is; where one tries things out, both may be without.
fn url_of(api: &Url, domain: &str) -> Result<Url, String> {
    Url::parse(&format!("{}://{domain}/", api.scheme()))
        .map_err(|_| "The address that Railway gave cannot be read.".into())
}

fn place_of(placed: &Placed) -> Option<Place> {
    Some(Place {
        project: placed.project.clone()?.into(),
        environment: placed.environment.clone()?.into(),
        service: placed.service.clone()?.into(),
    })
}

async fn note_deploy(work: &Work<'_>, deploy: &DeploymentId) -> Result<(), String> {
    let deploy = PlacedDeploy {
        release: work.task.number,
        id: deploy.to_string(),
    };
    work.note(|placed| placed.deploy = Some(deploy)).await
}

/// What the key can do, and where.
fn says(account: &Account) -> AccountSays {
    let workspaces = account.workspaces.iter();
    let workspaces =
        workspaces.map(|one| AccountPlace::new("workspace", &one.name, one.id.as_str()));
    let projects = account.projects.iter().flat_map(|project| {
        let environments = project
            .environments
            .iter()
            .map(|one| AccountPlace::new("environment", &one.name, one.id.as_str()));
        let project = AccountPlace::new("project", &project.name, project.id.as_str());
        [project].into_iter().chain(environments)
    });
    AccountSays {
        sentence: sentence(account),
        places: workspaces.chain(projects).collect(),
        cut: account.cut,
    }
}

fn sentence(account: &Account) -> String {
    let named = |names: Vec<&str>| names.join(", ");
    match account.kind {
        TokenKind::Project => {
            let projects = account.projects.iter().map(|one| one.name.as_str());
            format!(
                "This key can make, change and delete every service of the project {}, in its one environment.",
                named(projects.collect())
            )
        }
        TokenKind::Account | TokenKind::Workspace if account.workspaces.is_empty() => {
            "This key reaches no workspace, so nothing can be deployed with it.".into()
        }
        kind => {
            let workspaces = account.workspaces.iter().map(|one| one.name.as_str());
            let less = match kind {
                TokenKind::Account => "a workspace or of a project",
                _ => "a project",
            };
            format!(
                "This key can make, change and delete every project in {}. A token of {less} can do less.",
                named(workspaces.collect())
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deploy::providers::railway::Workspace;

    #[test]
    fn a_text_with_a_reference_is_refused_by_its_name() {
        let env = EnvName::parse("GREETING").unwrap();
        let said = text_refused(&env, "hello ${{ Postgres.DATABASE_URL }}").unwrap();
        assert!(
            said.contains("GREETING") && said.contains("Railway"),
            "{said}"
        );
        assert_eq!(text_refused(&env, "hello ${NAME} {{x}} $ {{"), None);
    }

    #[test]
    fn a_place_is_whole_or_none() {
        let mut placed = Placed {
            project: Some("p".into()),
            environment: Some("e".into()),
            ..Placed::default()
        };
        assert_eq!(place_of(&placed), None);
        placed.service = Some("s".into());
        assert_eq!(place_of(&placed).unwrap().service.as_str(), "s");
    }

    #[test]
    fn a_key_says_how_far_it_reaches() {
        let mut account = Account {
            kind: TokenKind::Account,
            workspaces: Vec::new(),
            projects: Vec::new(),
            cut: false,
        };
        assert!(says(&account).sentence.contains("no workspace"));
        account.workspaces.push(Workspace {
            id: String::from("w").into(),
            name: "Ada's".into(),
        });
        let said = says(&account);
        assert!(said.sentence.contains("every project in Ada's"));
        assert_eq!(said.places, [AccountPlace::new("workspace", "Ada's", "w")]);
    }
}

//! Render: one web service for each deployment.

mod building;
mod lines;
pub(super) mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::remote::{Given, masked, names_of, says_missing, says_set, service_name, unmasked};
use super::shape::shape;
use super::watching::{keep_reading, watch};
use super::{Driver, Order, Run, Steps, Work};
use crate::deploy::Deployer;
use crate::deploy::instance::{Instance, StartFailure};
use crate::deploy::log::{LastLines, Log};
use crate::deploy::providers::Trouble;
use crate::deploy::providers::render::{
    Account, LogMark, NewService, Render, Service, ServiceChange,
};
use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::paths::EnvName;
use crate::model::sources;
use crate::model::targets::{AccountPlace, AccountSays, PlacedDeploy};
use building::{Wanted, cleared};
use lines::{Coming, Printed};

/// Deploys that are looked through for those that are not over.
const DEPLOYS_UNDER_WAY: usize = 20;

pub(super) struct RenderDriver {
    deployer: Deployer,
    render: Render,
    /// Opened once for all that one job does.
    given: OnceCell<Given>,
}

impl RenderDriver {
    pub fn new(deployer: Deployer, key: SecretString) -> Result<Self, String> {
        let api = deployer.0.providers.render_api.clone();
        let hosts = deployer.0.source_hosts.clone();
        let render = Render::new(api, key, hosts).map_err(|trouble| trouble.to_string())?;
        Ok(RenderDriver {
            deployer,
            render,
            given: OnceCell::new(),
        })
    }

    async fn given(&self, run: &Run) -> Result<&Given, StartFailure> {
        self.given
            .get_or_try_init(|| self.deployer.given(run))
            .await
    }

    /// The workspace: the one that is named, or the only one. Errors: `Invalid` at the key or at the option.
    async fn owner(&self, options: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let account = self.render.check().await;
        let account = account.map_err(|trouble| Refusal::invalid("key", unmasked(trouble)))?;
        owner_of(&account, options)
    }

    /// The service that stands there already: the one that was noted, or one that was made and not noted.
    async fn found(
        &self,
        noted: Option<&str>,
        owner: &str,
        name: &str,
    ) -> Result<Option<Service>, Trouble> {
        if let Some(id) = noted {
            match self.render.service(id).await {
                Ok(service) => return Ok(Some(service)),
                // Somebody removed it there.
                Err(Trouble::NotFound { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let named = self.render.services_named(owner, name).await?;
        Ok(named.into_iter().next())
    }

    /// What there is of it: the service that was noted, and any that was made and not noted; its name holds the deployment's id.
    /// Errors: the key does not reach where they are, so that "not found" would say nothing.
    async fn own(&self, run: &Run) -> Result<Vec<String>, String> {
        let Some(owner) = &run.placed.account else {
            return Ok(Vec::new());
        };
        let account = self.render.check().await.map_err(unmasked)?;
        if !account.owners.iter().any(|one| one.id == *owner) {
            return Err(format!(
                "The key does not reach the workspace {owner} at Render, where it is. Give the deployment a key that does."
            ));
        }
        let name = service_name(&run.name, run.id);
        let named = self.render.services_named(owner, &name).await;
        let mut ids: Vec<String> = named
            .map_err(unmasked)?
            .into_iter()
            .map(|service| service.id)
            .collect();
        if let Some(noted) = &run.placed.service
            && !ids.contains(noted)
        {
            ids.push(noted.clone());
        }
        Ok(ids)
    }

    async fn make(&self, work: &Work<'_>, given: &Given, wanted: &Wanted) -> Result<(), String> {
        let Wanted {
            service: new,
            commit,
        } = wanted;
        // A service begins with what is newest. Where a commit was looked at, that alone gets the values.
        let first_env = match commit {
            Some(_) => &[],
            None => given.env.as_slice(),
        };
        let names = names_of(given);
        work.note(|placed| {
            placed.env_names = names;
            placed.account = Some(new.owner.clone());
        })
        .await?;
        work.log
            .say(format!("Making the service {} at Render.", new.name));
        let made = created(&self.render, new, first_env).await;
        let (service, deploy) = made.map_err(|trouble| masked(trouble, given))?;
        work.note(|placed| placed.service = Some(service.clone()))
            .await?;
        if commit.is_some() {
            let service = self.render.service(&service).await;
            let service = service.map_err(|trouble| masked(trouble, given))?;
            return self.change(work, given, &service, wanted).await;
        }
        let deploy = match deploy {
            Some(deploy) => deploy,
            None => self.newest_deploy(&service, given).await?,
        };
        self.note_deploy(work, deploy).await
    }

    async fn change(
        &self,
        work: &Work<'_>,
        given: &Given,
        service: &Service,
        wanted: &Wanted,
    ) -> Result<(), String> {
        let new = &wanted.service;
        let tell = |trouble| masked(trouble, given);
        let placed = work.placed().await;
        work.log
            .say(format!("Changing the service {} at Render.", service.name));
        if service.suspended {
            self.render.resume(&service.id).await.map_err(tell)?;
        }
        let change = ServiceChange {
            source: Some(cleared(new.source.clone())),
            // Left out, what was there before would stay.
            health_check_path: Some(new.health_check_path.clone().unwrap_or_default()),
            plan: work.task.options.get("plan").map(|_| new.plan),
        };
        self.render
            .change(&new.owner, &service.id, &change)
            .await
            .map_err(tell)?;
        let older = work.task.commit.as_deref();
        let commit = older.or(wanted.commit.as_deref());
        if commit.is_some() {
            self.end_builds(&service.id).await.map_err(tell)?;
        }
        let names = names_of(given);
        let gone: Vec<EnvName> = placed
            .env_names
            .iter()
            .filter(|name| !names.contains(name))
            .filter_map(|name| EnvName::stored(name).ok())
            .collect();
        // Both, until it is done: what was set must be known to be ours.
        let mut both = placed.env_names.clone();
        both.extend(
            names
                .iter()
                .filter(|name| !placed.env_names.contains(name))
                .cloned(),
        );
        work.note(|placed| {
            placed.env_names = both;
            placed.account = Some(new.owner.clone());
            placed.service = Some(service.id.clone());
        })
        .await?;
        self.render
            .set_env(&service.id, &given.env, &gone)
            .await
            .map_err(tell)?;
        work.note(|placed| placed.env_names = names).await?;
        let begun = self.render.deploy(&service.id, commit).await;
        let begun = begun.map_err(tell)?;
        let deploy = match begun {
            Some(deploy) => deploy,
            None => self.newest_deploy(&service.id, given).await?,
        };
        self.note_deploy(work, deploy).await
    }

    /// Cancels what is under way: it may be of code that nobody looked at, and would get the values that are set next.
    async fn end_builds(&self, service: &str) -> Result<(), Trouble> {
        for deploy in self.render.deploys(service, DEPLOYS_UNDER_WAY).await? {
            if !deploy.state.is_over() {
                self.render.cancel(service, &deploy.id).await?;
            }
        }
        Ok(())
    }

    async fn newest_deploy(&self, service: &str, given: &Given) -> Result<String, String> {
        let deploys = self.render.deploys(service, 1).await;
        let deploys = deploys.map_err(|trouble| masked(trouble, given))?;
        let newest = deploys.into_iter().next().map(|deploy| deploy.id);
        newest.ok_or_else(|| "Render tells of no deploy of the service. Redeploy it.".into())
    }

    async fn note_deploy(&self, work: &Work<'_>, deploy: String) -> Result<(), String> {
        let release = work.task.number;
        work.note(|placed| {
            placed.deploy = Some(PlacedDeploy {
                release,
                id: deploy,
            });
        })
        .await
    }

    /// What was built, so that a later release can run it again. It is good to know; the release is live without it.
    async fn note_commit(&self, work: &Work<'_>, service: &str, deploy: &str) {
        let deploy = self.render.one_deploy(service, deploy).await;
        let commit = deploy.ok().and_then(|deploy| deploy.commit);
        let is_one = |commit: &String| {
            (6..=64).contains(&commit.len())
                && commit
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if let Some(commit) = commit.filter(is_one) {
            work.log.say(format!("It runs the commit {commit}."));
            if let Err(error) = self.deployer.0.db.release_built(work.task, &commit).await {
                error.into_refusal();
            }
        }
    }

    fn wanted(
        &self,
        name: &str,
        source: &sources::Source,
        start: &sources::StartPlan,
        options: &BTreeMap<String, String>,
        owner: &str,
    ) -> Result<Wanted, Refusal> {
        let bridge = self.deployer.0.providers.bridge_image.as_deref();
        let shape = shape(source, start, options, bridge)?;
        Wanted::of(shape, name, options, owner)
    }
}

#[async_trait]
impl Driver for RenderDriver {
    async fn check(&self) -> Result<AccountSays, String> {
        let account = self.render.check().await.map_err(unmasked)?;
        Ok(says(&account))
    }

    async fn plan(&self, order: &Order) -> Result<Vec<String>, Refusal> {
        let owner = self.owner(&order.options).await?;
        let wanted = self.wanted(
            &order.name,
            &order.source,
            &order.start,
            &order.options,
            &owner,
        )?;
        let what = wanted.says();
        let new = &wanted.service;
        let verb = match order.placed.service {
            Some(_) => "Change the web service",
            None => "Make a web service",
        };
        let mut lines = vec![format!(
            "{verb} in the workspace {owner} at Render, {what}. Region {}, plan {}.",
            new.region, new.plan
        )];
        lines.extend(says_set(order, "Render"));
        Ok(lines)
    }

    async fn apply(&self, work: &Work<'_>) -> Result<(), String> {
        let run = work.run().await;
        let steps = work.steps();
        steps.say(StepName::Provision, "running", "").await;
        if run
            .placed
            .deploy
            .as_ref()
            .is_some_and(|deploy| deploy.release == run.release)
        {
            steps
                .say(
                    StepName::Provision,
                    "done",
                    "Begun before Sealport was interrupted.",
                )
                .await;
            return Ok(());
        }
        let given = self.given(&run).await.map_err(|failure| failure.reason)?;
        let owner = match &run.placed.account {
            Some(owner) => owner.clone(),
            None => {
                let owner = self.owner(&work.task.options).await;
                owner.map_err(|refusal| refusal.detail)?
            }
        };
        let name = service_name(&run.name, run.id);
        let new = self
            .wanted(&name, &run.source, &run.start, &work.task.options, &owner)
            .map_err(|refusal| refusal.detail)?;
        let found = self
            .found(run.placed.service.as_deref(), &owner, &name)
            .await;
        match found.map_err(|trouble| masked(trouble, given))? {
            Some(service) => self.change(work, given, &service, &new).await?,
            None if work.task.commit.is_some() => {
                return Err("The service is gone at Render, and a new one begins with the newest code. Redeploy it.".into());
            }
            None => self.make(work, given, &new).await?,
        }
        steps
            .say(
                StepName::Provision,
                "done",
                &format!("The service {name} is at Render."),
            )
            .await;
        Ok(())
    }

    async fn watch(&self, work: &Work<'_>) -> Result<(), String> {
        let run = work.run().await;
        let given = self.given(&run).await.map_err(|failure| failure.reason)?;
        let steps = work.steps();
        steps.say(StepName::Build, "running", "").await;
        let (Some(owner), Some(service), Some(deploy)) =
            (run.placed.account, run.placed.service, run.placed.deploy)
        else {
            return Err("What was made at Render is not known any more. Redeploy it.".into());
        };
        let coming = Coming {
            deploy: deploy.id.clone(),
            printed: Printed {
                render: self.render.clone(),
                owner,
                service: service.clone(),
                mark: LogMark::at(OffsetDateTime::now_utc() - time::Duration::minutes(1)),
                last: LastLines::default(),
            },
            log: work.log,
            masks: &given.masks,
        };
        watch(coming, &steps, given, self.deployer.0.providers.look_every).await?;
        if matches!(run.source, sources::Source::Git { .. }) {
            self.note_commit(work, &service, &deploy.id).await;
        }
        Ok(())
    }

    async fn join(
        &self,
        run: &Run,
        steps: &Steps<'_>,
        log: &Log,
    ) -> Result<Instance, StartFailure> {
        let given = self.given(run).await?;
        let failure = |reason: String, lasting: bool| StartFailure { reason, lasting };
        let (Some(owner), Some(id)) = (&run.placed.account, &run.placed.service) else {
            return Err(failure(
                "Nothing of it is at Render. Redeploy it.".into(),
                true,
            ));
        };
        let service = self.render.service(id).await.map_err(|trouble| {
            let lasting = !trouble.may_pass();
            failure(masked(trouble, given), lasting)
        })?;
        let Some(url) = service.url else {
            return Err(failure(
                "Render gives no address for the service.".into(),
                false,
            ));
        };
        let printed = Printed {
            render: self.render.clone(),
            owner: owner.clone(),
            service: id.clone(),
            mark: LogMark::at(OffsetDateTime::now_utc()),
            last: LastLines::default(),
        };
        let beside = keep_reading(printed, log.clone(), Arc::clone(&given.masks));
        self.deployer
            .join_elsewhere(run, &url, given, steps, log, beside)
            .await
    }

    async fn stop(&self, run: &Run) -> Result<(), String> {
        for id in self.own(run).await? {
            let deploy = run.placed.deploy.as_ref();
            if let Some(deploy) = deploy.filter(|_| run.placed.service.as_ref() == Some(&id)) {
                // A build that is on its way costs its minutes. Suspending decides.
                let _ = self.render.cancel(&id, &deploy.id).await;
            }
            match self.render.suspend(&id).await {
                Ok(()) | Err(Trouble::NotFound { .. }) => {}
                Err(trouble) => return Err(unmasked(trouble)),
            }
        }
        Ok(())
    }

    async fn destroy(&self, run: &Run) -> Result<(), String> {
        for id in self.own(run).await? {
            self.render.delete(&id).await.map_err(unmasked)?;
        }
        Ok(())
    }

    async fn drift(&self, run: &Run) -> Result<Vec<String>, String> {
        let Some(id) = &run.placed.service else {
            return Ok(Vec::new());
        };
        let service = match self.render.service(id).await {
            Ok(service) => service,
            Err(Trouble::NotFound { .. }) => {
                return Ok(vec![
                    "The service is gone at Render. Redeploying makes it anew.".into(),
                ]);
            }
            // Without its own words: they may quote what is set there.
            Err(trouble) => return Err(trouble.to_string()),
        };
        let mut says = Vec::new();
        if service.suspended {
            says.push("The service is suspended at Render. Redeploying resumes it.".to_owned());
        }
        let there = self.render.env_vars(id).await;
        let there = there.map_err(|trouble| trouble.to_string())?;
        says.extend(says_missing(
            &run.placed,
            |name| there.iter().any(|there| there == name),
            "Render",
        ));
        Ok(says)
    }
}

/// What the key can do, and where.
fn says(account: &Account) -> AccountSays {
    let owners = account.owners.iter();
    AccountSays {
        sentence: account.says(),
        places: owners
            .map(|owner| AccountPlace::new("workspace", &owner.name, &owner.id))
            .collect(),
        cut: false,
    }
}

/// The workspace: the one that is named, or the only one. Errors: `Invalid` at the key or at the option.
fn owner_of(account: &Account, options: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let refuse = |says: String| Err(Refusal::invalid("options.owner", says));
    let wanted = options.get("owner").map(|owner| owner.trim());
    let mut fitting = account
        .owners
        .iter()
        .filter(|owner| wanted.is_none_or(|wanted| owner.id == wanted || owner.name == wanted));
    match (fitting.next(), fitting.next()) {
        (Some(owner), None) => Ok(owner.id.clone()),
        (None, _) => match wanted {
            Some(wanted) => refuse(format!(
                "The key reaches no workspace {wanted} at Render. Look at the option owner."
            )),
            None => Err(Refusal::invalid("key", account.says())),
        },
        (Some(_), Some(_)) => {
            let names: Vec<&str> = account
                .owners
                .iter()
                .map(|owner| owner.id.as_str())
                .collect();
            refuse(format!(
                "The key reaches several workspaces at Render: name one of {} with the option owner.",
                names.join(", ")
            ))
        }
    }
}

/// Makes a service with a name that nobody else gives: its id, and its first deploy where Render tells it. Where the answer is lost, it is
/// looked whether it was made.
async fn created(
    render: &Render,
    new: &NewService,
    env: &[(EnvName, SecretString)],
) -> Result<(String, Option<String>), Trouble> {
    match render.create(new, env).await {
        Ok(made) => Ok((made.service_id, made.deploy_id)),
        Err(trouble) if trouble.may_be_done() => {
            let named = render.services_named(&new.owner, &new.name).await;
            match named.map(|services| services.into_iter().next()) {
                Ok(Some(service)) => Ok((service.id, None)),
                _ => Err(trouble),
            }
        }
        Err(trouble) => Err(trouble),
    }
}

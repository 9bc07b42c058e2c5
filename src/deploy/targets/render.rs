//! Render: one web service for each deployment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::remote::{Given, masked, names_of, says_missing, says_set, service_name, unmasked};
use super::shape::{Shape, shape};
use super::watching::{Prints, Stand, Watched, keep, keep_reading, watch};
use super::{Driver, Order, Run, Steps, Work};
use crate::deploy::Deployer;
use crate::deploy::instance::{Instance, StartFailure};
use crate::deploy::log::{LastLines, Log};
use crate::deploy::masks::Masks;
use crate::deploy::providers::Trouble;
use crate::deploy::providers::render::{
    DeployState, LogKind, LogMark, NewService, Plan, Region, Render, Runtime, Service,
    ServiceBuild, ServiceChange, ServiceSource,
};
use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::paths::EnvName;
use crate::model::sources;
use crate::model::targets::PlacedDeploy;

/// Between two looks at what a server prints.
const LOG_EVERY: Duration = Duration::from_secs(10);

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

    /// The workspace: the one that is named, or the only one.
    async fn owner(&self, options: &BTreeMap<String, String>) -> Result<String, String> {
        let account = self.render.check().await.map_err(unmasked)?;
        let wanted = options.get("owner").map(|owner| owner.trim());
        let mut fitting = account
            .owners
            .iter()
            .filter(|owner| wanted.is_none_or(|wanted| owner.id == wanted || owner.name == wanted));
        match (fitting.next(), fitting.next()) {
            (Some(owner), None) => Ok(owner.id.clone()),
            (None, _) => Err(match wanted {
                Some(wanted) => {
                    format!(
                        "The key reaches no workspace {wanted} at Render. Look at the option owner."
                    )
                }
                None => account.says(),
            }),
            (Some(_), Some(_)) => {
                let names: Vec<&str> = account
                    .owners
                    .iter()
                    .map(|owner| owner.id.as_str())
                    .collect();
                Err(format!(
                    "The key reaches several workspaces at Render: name one of {} with the option owner.",
                    names.join(", ")
                ))
            }
        }
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

    async fn make(&self, work: &Work<'_>, given: &Given, new: &NewService) -> Result<(), String> {
        let names = names_of(given);
        work.note(|placed| {
            placed.env_names = names;
            placed.account = Some(new.owner.clone());
        })
        .await?;
        work.log
            .say(format!("Making the service {} at Render.", new.name));
        let made = self.render.create(new, &given.env).await;
        let (service, deploy) = match made {
            Ok(made) => (made.service_id, made.deploy_id),
            Err(trouble) if trouble.may_be_done() => {
                let named = self.render.services_named(&new.owner, &new.name).await;
                match named.map(|services| services.into_iter().next()) {
                    Ok(Some(service)) => (service.id, None),
                    _ => return Err(masked(trouble, given)),
                }
            }
            Err(trouble) => return Err(masked(trouble, given)),
        };
        work.note(|placed| placed.service = Some(service.clone()))
            .await?;
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
        new: &NewService,
    ) -> Result<(), String> {
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
        let begun = self.render.deploy(&service.id).await.map_err(tell)?;
        let deploy = match begun {
            Some(deploy) => deploy,
            None => self.newest_deploy(&service.id, given).await?,
        };
        self.note_deploy(work, deploy).await
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

    fn new_service(
        &self,
        name: &str,
        source: &sources::Source,
        start: &sources::StartPlan,
        options: &BTreeMap<String, String>,
        owner: &str,
    ) -> Result<NewService, Refusal> {
        let bridge = self.deployer.0.providers.bridge_image.as_deref();
        let source = match shape(source, start, options, bridge)? {
            Shape::Image { reference, command } => ServiceSource::Image {
                path: reference,
                command,
            },
            Shape::Native {
                repo,
                branch,
                folder,
                runtime,
                build,
                start,
            } => ServiceSource::Git {
                repo,
                branch,
                folder,
                build: ServiceBuild::Native {
                    runtime: match runtime {
                        sources::Runtime::Node => Runtime::Node,
                        sources::Runtime::Python => Runtime::Python,
                    },
                    build,
                    start,
                },
            },
        };
        Ok(NewService {
            owner: owner.to_owned(),
            name: name.to_owned(),
            source,
            region: word(
                options,
                "region",
                Region::Oregon,
                Region::parse,
                Region::ALL,
            )?,
            plan: word(options, "plan", Plan::Starter, Plan::parse, Plan::ALL)?,
            health_check_path: options.get("health_check").cloned(),
        })
    }
}

/// How far a service's lines are read.
struct Printed {
    render: Render,
    owner: String,
    service: String,
    mark: LogMark,
    last: LastLines,
}

impl Prints for Printed {
    async fn read(&mut self, log: &Log, masks: &Masks) -> Result<usize, Trouble> {
        let (lines, next) = self
            .render
            .logs(&self.owner, &self.service, &self.mark)
            .await?;
        self.mark = next;
        for line in &lines {
            let stream = match line.kind {
                LogKind::Build => "install",
                LogKind::Request => continue,
                LogKind::App | LogKind::Other(_) => "stdout",
            };
            keep(stream, &line.text, log, masks, &self.last);
        }
        Ok(lines.len())
    }

    fn pause(_: u32) -> Duration {
        LOG_EVERY
    }
}

/// A deploy on its way.
struct Coming<'a> {
    deploy: String,
    printed: Printed,
    log: &'a Log,
    masks: &'a Masks,
}

impl Watched for Coming<'_> {
    const PROVIDER: &'static str = "Render";

    async fn look(&mut self) -> Result<Stand, Trouble> {
        let printed = &mut self.printed;
        let state = printed.render.deploy_state(&printed.service, &self.deploy);
        let state = state.await;
        // Its lines are good to have; the state decides.
        let _ = printed.read(self.log, self.masks).await;
        Ok(match state? {
            DeployState::Live => Stand::Live,
            state if state.is_over() => Stand::Over(format!("The deploy at Render {state}.")),
            state => Stand::Going(format!("The deploy {state}.")),
        })
    }

    fn pause(every: Duration, _: u32) -> Duration {
        every
    }

    fn last(&self) -> &LastLines {
        &self.printed.last
    }
}

#[async_trait]
impl Driver for RenderDriver {
    async fn check(&self) -> Result<String, String> {
        let account = self.render.check().await.map_err(unmasked)?;
        Ok(account.says())
    }

    async fn plan(&self, order: &Order) -> Result<Vec<String>, Refusal> {
        let owner = self.owner(&order.options).await;
        let owner = owner.map_err(|says| Refusal::invalid("options.owner", says))?;
        let new = self.new_service(
            &order.name,
            &order.source,
            &order.start,
            &order.options,
            &owner,
        )?;
        let what = match &new.source {
            ServiceSource::Image { path, command } => match command {
                Some(command) => format!("from the image {path}, started with: {command}"),
                None => format!("from the image {path}"),
            },
            ServiceSource::Git { repo, .. } => format!("built by Render from {repo}"),
        };
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
            None => self.owner(&work.task.options).await?,
        };
        let name = service_name(&run.name, run.id);
        let new = self
            .new_service(&name, &run.source, &run.start, &work.task.options, &owner)
            .map_err(|refusal| refusal.detail)?;
        let found = self
            .found(run.placed.service.as_deref(), &owner, &name)
            .await;
        match found.map_err(|trouble| masked(trouble, given))? {
            Some(service) => self.change(work, given, &service, &new).await?,
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
            deploy: deploy.id,
            printed: Printed {
                render: self.render.clone(),
                owner,
                service,
                mark: LogMark::at(OffsetDateTime::now_utc() - time::Duration::minutes(1)),
                last: LastLines::default(),
            },
            log: work.log,
            masks: &given.masks,
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
            Err(trouble) => return Err(unmasked(trouble)),
        };
        let mut says = Vec::new();
        if service.suspended {
            says.push("The service is suspended at Render. Redeploying resumes it.".to_owned());
        }
        let there = self.render.env_vars(id).await.map_err(unmasked)?;
        says.extend(says_missing(
            &run.placed,
            |name| there.iter().any(|there| there == name),
            "Render",
        ));
        Ok(says)
    }
}

/// With an empty command where there is none: left out, the one of before would stay, and start what is gone.
fn cleared(source: ServiceSource) -> ServiceSource {
    match source {
        ServiceSource::Image { path, command } => ServiceSource::Image {
            path,
            command: Some(command.unwrap_or_default()),
        },
        git => git,
    }
}

/// An option that is one of a list of words.
fn word<T: Copy + std::fmt::Display>(
    options: &BTreeMap<String, String>,
    name: &str,
    unless_said: T,
    parse: impl Fn(&str) -> Option<T>,
    all: &[T],
) -> Result<T, Refusal> {
    let Some(said) = options
        .get(name)
        .map(|said| said.trim())
        .filter(|said| !said.is_empty())
    else {
        return Ok(unless_said);
    };
    parse(said).ok_or_else(|| {
        let words: Vec<String> = all.iter().map(T::to_string).collect();
        Refusal::invalid(
            &format!("options.{name}"),
            format!("For the {name} Render knows {}.", words.join(", ")),
        )
    })
}

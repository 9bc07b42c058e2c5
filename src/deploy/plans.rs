//! Deployments as programs ask for them, without the wizard: the same checks, the same looking at the source, and the same record.
//! Every door calls these with its caller; a dry run ends with the plan.

use std::collections::BTreeMap;

use super::Deployer;
use super::looks::LookAt;
use super::targets::Run;
use crate::model::actors::{Actor, Caller};
use crate::model::deployments::DeploymentSpec;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, KeyPath};
use crate::model::plans::{Begun, ChangeRequest, DeployRequest, Lack, Lacking, NotBegun, Plan};
use crate::model::sources::{Inspection, Runtime, Source, StartPlan, Transport};
use crate::model::targets::Target;
use crate::store::deployment_changes::DeploymentChange;
use crate::store::deployment_checks::{Asked, Keeps, Wrong, bindings_wrong, source_wrong};
use crate::store::{Error, Result as StoreResult};
use parts::Parts;
use weighed::Weighed;

mod parts;
#[cfg(test)]
mod tests;
mod there;
mod weighed;

/// Where Sealport deploys to, as it is offered.
pub const TARGETS: &[Target] = &[Target::Local, Target::Render, Target::Railway];

/// What a target is told, as far as it can be read, and what is wrong with it, each at its field.
pub struct Told {
    pub key: Option<KeyPath>,
    /// Nothing among them looks like a secret.
    pub options: BTreeMap<String, String>,
    pub wrong: Vec<Refusal>,
}

/// Reads what somebody says for a target; without a key's path its usual one is meant.
pub fn read_told(target: Target, key: &str, options: &BTreeMap<String, String>) -> Told {
    let mut plan = Plan::default();
    let parts = Parts::of_target(target, key, options, &mut plan);
    Told {
        key: parts.provider_key,
        options: parts.options,
        wrong: plan
            .refused
            .into_iter()
            .map(|lack| Refusal::new(lack.kind, lack.says).at(&lack.field))
            .collect(),
    }
}

impl Deployer {
    /// What the request would come to, with all that is in its way. Makes nothing.
    /// Errors: `Unavailable` while the source is still being looked at; `TooMany`.
    pub async fn plan(&self, caller: &Caller, request: &DeployRequest) -> Result<Plan, Refusal> {
        let mut weighed = self.weigh_new(caller, request, false).await?;
        if weighed.can_look()
            && let Some(found) = self.look_into(caller, &mut weighed).await?
        {
            self.look_there(caller, &mut weighed, &found).await?;
        }
        Ok(weighed.plan)
    }

    /// Makes the deployment and its first release, which goes on by itself. Errors: everything that is in the way; as [`Deployer::plan`].
    pub async fn deploy(
        &self,
        caller: &Caller,
        request: &DeployRequest,
    ) -> Result<Begun, NotBegun> {
        let mut weighed = self.weigh_new(caller, request, true).await?;
        let found = self.found_in_order(caller, &mut weighed).await?;
        if let Some(found) = &found {
            self.look_there(caller, &mut weighed, found).await?;
            weighed.in_order()?;
        }
        let (Some(name), Some(found)) = (weighed.name.clone(), found) else {
            return Err(Refusal::internal().into());
        };
        let spec = DeploymentSpec {
            owner: None,
            name,
            source: found.resolved.clone(),
            start: found.start_plan(),
            target: weighed.parts.target,
            options: weighed.parts.options.clone(),
            provider_key: weighed.provider_key(),
            fetch_key: weighed.fetch_key(),
            bindings: weighed.bindings(),
        };
        let name = told(self.0.db.deployment_create(caller, None, &spec).await)?;
        self.wake();
        Ok(Begun { name, release: 1 })
    }

    /// What the change would come to. Errors: `NotFound`, `Denied`; as [`Deployer::plan`].
    pub async fn plan_change(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        request: &ChangeRequest,
    ) -> Result<Plan, Refusal> {
        let mut weighed = self.weigh_change(caller, name, request, false).await?;
        let mut found = None;
        if request.looks() && weighed.can_look() {
            found = self.look_into(caller, &mut weighed).await?;
        }
        self.look_there_again(caller, &mut weighed, found).await;
        Ok(weighed.plan)
    }

    /// Changes what is there. None when that takes no release. Errors: as [`Deployer::deploy`], and `NotFound`, `Denied`.
    pub async fn change(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        request: &ChangeRequest,
    ) -> Result<Option<Begun>, NotBegun> {
        let mut weighed = self.weigh_change(caller, name, request, true).await?;
        let found = if request.looks() {
            self.found_in_order(caller, &mut weighed).await?
        } else {
            weighed.in_order()?;
            None
        };
        let db = &self.0.db;
        if !request.releases() {
            if let Some(follows) = request.follows_changes {
                told(db.deployment_follow(caller, name, follows).await)?;
            }
            return Ok(None);
        }
        let change = DeploymentChange {
            source: found.map(|found| (found.resolved.clone(), found.start_plan())),
            bindings: request.bindings.is_some().then(|| weighed.bindings()),
            fetch_key: request.fetch_key.is_some().then(|| weighed.fetch_key()),
            follows_changes: request.follows_changes,
            options: request
                .options
                .is_some()
                .then(|| weighed.parts.options.clone()),
            provider_key: weighed.provider_key(),
        };
        let release = told(db.deployment_change(caller, name, &change).await)?;
        self.wake();
        Ok(Some(Begun {
            name: name.clone(),
            release,
        }))
    }

    /// A new release with the newest versions. Errors: `NotFound`, `Denied`.
    pub async fn redeploy(&self, caller: &Caller, name: &DeploymentName) -> Result<Begun, Refusal> {
        let release = told(self.0.db.deployment_redeploy(caller, name).await)?;
        Ok(self.begun(name, release))
    }

    /// Wants it running; the release that runs, or that is begun for it. Errors: `NotFound`, `Denied`.
    pub async fn start(&self, caller: &Caller, name: &DeploymentName) -> Result<Begun, Refusal> {
        let release = told(self.0.db.deployment_start(caller, name).await)?;
        Ok(self.begun(name, release))
    }

    /// Wants it stopped. Errors: `NotFound`, `Denied`.
    pub async fn stop(&self, caller: &Caller, name: &DeploymentName) -> Result<(), Refusal> {
        told(self.0.db.deployment_stop(caller, name).await)?;
        self.wake();
        Ok(())
    }

    /// Destroys it for good; whoever calls has said its name. Errors: `NotFound`, `Denied`.
    pub async fn destroy(&self, caller: &Caller, name: &DeploymentName) -> Result<(), Refusal> {
        let db = &self.0.db;
        told(db.deployment_destroy(caller, name, name.as_str()).await)?;
        self.wake();
        Ok(())
    }

    /// Forgets what could not be destroyed at its provider; whoever calls has said its name. Errors: `Conflict` when nobody tried to
    /// destroy it there; as [`Deployer::destroy`].
    pub async fn forget(&self, caller: &Caller, name: &DeploymentName) -> Result<(), Refusal> {
        let db = &self.0.db;
        told(db.deployment_forget(caller, name, name.as_str()).await)?;
        self.wake();
        Ok(())
    }

    fn begun(&self, name: &DeploymentName, release: i32) -> Begun {
        self.wake();
        Begun {
            name: name.clone(),
            release,
        }
    }

    async fn weigh_new(
        &self,
        caller: &Caller,
        request: &DeployRequest,
        in_earnest: bool,
    ) -> Result<Weighed, Refusal> {
        let mut plan = Plan {
            name: request.name.clone(),
            ..Plan::default()
        };
        let parts = Parts::of_new(caller, request, &mut plan);
        let name = DeploymentName::parse(request.name.trim())
            .map_err(|refusal| plan.refuse(refusal))
            .ok();
        self.weigh(caller, name, false, parts, plan, in_earnest)
            .await
    }

    async fn weigh_change(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        request: &ChangeRequest,
        in_earnest: bool,
    ) -> Result<Weighed, Refusal> {
        let detail = told(self.0.db.deployment_show(caller, name).await)?;
        let mut plan = Plan {
            name: name.to_string(),
            ..Plan::default()
        };
        let mut parts = Parts::of_change(
            caller,
            request,
            &detail.summary.source,
            detail.target,
            &mut plan,
        );
        parts.keeps = Keeps {
            bindings: (request.looks() || request.key.is_some()) && request.bindings.is_none(),
            fetch_key: (request.looks() || request.key.is_some()) && request.fetch_key.is_none(),
        };
        if request.bindings.is_none() && detail.summary.level >= Level::Read {
            parts.kept = detail
                .bindings
                .into_iter()
                .map(|binding| binding.env)
                .collect();
        }
        if request.options.is_none() {
            parts.options.clone_from(&detail.options);
        }
        let mut weighed = self
            .weigh(caller, Some(name.clone()), true, parts, plan, in_earnest)
            .await?;
        let summary = detail.summary;
        weighed.stands = weighed.answered.as_ref().map(|answered| Run {
            id: summary.id,
            // Of guests of this machine, which are not asked about here.
            ordinal: 0,
            name: summary.name.to_string(),
            owner_id: answered.owner_id,
            release: summary.release,
            source: summary.source,
            start: detail.start,
            target: detail.target,
            options: detail.options,
            placed: detail.placed,
        });
        Ok(weighed)
    }

    /// Asks the store about what could be read.
    async fn weigh(
        &self,
        caller: &Caller,
        name: Option<DeploymentName>,
        exists: bool,
        parts: Parts,
        mut plan: Plan,
        in_earnest: bool,
    ) -> Result<Weighed, Refusal> {
        let mut answered = None;
        if let Some(name) = &name {
            let secrets: Vec<_> = parts.secrets().collect();
            let asked = Asked {
                name,
                exists,
                secrets: &secrets,
                fetch_key: parts.fetch_key.as_ref(),
                provider_key: parts.provider_key.as_ref(),
                keeps: parts.keeps,
                in_earnest,
            };
            let mut found = told(self.0.db.deployment_ask(caller, &asked).await)?;
            for wrong in found.wrong.drain(..) {
                let (how, lack) = lack_of(wrong, &parts);
                plan.add(how, lack);
            }
            answered = Some(found);
        }
        let mut weighed = Weighed {
            plan,
            parts,
            name,
            answered,
            stands: None,
        };
        weighed.settle();
        Ok(weighed)
    }

    /// What was found, when nothing at all is in the way.
    async fn found_in_order(
        &self,
        caller: &Caller,
        weighed: &mut Weighed,
    ) -> Result<Option<Inspection>, NotBegun> {
        weighed.in_order()?;
        let found = self.look_into(caller, weighed).await?;
        weighed.in_order()?;
        Ok(found)
    }

    /// Looks at the source and adds what it wants to the plan. A source that is wrong is a part of the plan.
    async fn look_into(
        &self,
        caller: &Caller,
        weighed: &mut Weighed,
    ) -> Result<Option<Inspection>, Refusal> {
        let (Some(source), Some(answered), Some(user)) =
            (&weighed.parts.source, &weighed.answered, caller.user())
        else {
            return Ok(None);
        };
        if let Source::Image { reference } = source {
            let (command, transport) = (&weighed.parts.command, &weighed.parts.transport);
            let found = of_image(reference, command.clone(), transport.clone());
            weighed.take(&found);
            return Ok(Some(found));
        }
        let at = LookAt {
            user_id: user.id,
            token_id: match &caller.actor {
                Actor::Token(token) => Some(token.id),
                _ => None,
            },
            owner_id: answered.owner_id,
            source: source.clone(),
            fetch_key: answered.fetch_key,
            command: weighed.parts.command.clone(),
            transport: weighed.parts.transport.clone(),
            administrator: user.is_admin,
        };
        match self.look_at(caller, at).await {
            Ok(found) => {
                weighed.take(&found);
                Ok(Some(found))
            }
            Err(refusal) if refusal.kind == RefusalKind::Invalid => {
                weighed.plan.refuse(refusal);
                Ok(None)
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// What is known of an image without fetching it.
pub(super) fn of_image(
    reference: &str,
    command: Option<Vec<String>>,
    transport: Option<Transport>,
) -> Inspection {
    Inspection {
        resolved: Source::Image {
            reference: reference.to_owned(),
        },
        title: reference.to_owned(),
        description: String::new(),
        start: StartPlan {
            runtime: Runtime::Node,
            command: command.unwrap_or_default(),
            transport: transport.unwrap_or(Transport::Http {
                path: "/mcp".into(),
            }),
            said_by: "the image".into(),
            wants: Vec::new(),
        },
        variables: Vec::new(),
        notes: vec![
            "An image is not looked at: it must listen on PORT and speak MCP at /mcp.".into(),
        ],
    }
}

/// What the store found in the way, with the path by which it was named.
fn lack_of(wrong: Wrong, parts: &Parts) -> (Lacking, Lack) {
    let mut lack = Lack::of(wrong.refusal);
    let named = parts.path_at(&lack.field).map(ToString::to_string);
    lack.secret = named.or(wrong.secret.map(|(_, path)| path.to_string()));
    (wrong.how, lack)
}

fn told<T>(result: StoreResult<T>) -> Result<T, Refusal> {
    result.map_err(Error::into_refusal)
}

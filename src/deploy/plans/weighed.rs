//! A request as far as it has been looked at: what it would come to, and what is in its way.

use super::parts::{Parts, To};
use crate::deploy::targets::Run;
use crate::model::deployments::{Binding, Bound, described};
use crate::model::errors::Refusal;
use crate::model::paths::{DeploymentName, EnvName};
use crate::model::plans::{Found, Lack, Lacking, NotBegun, Plan};
use crate::model::sources::Inspection;
use crate::store::deployment_checks::Answered;
use std::collections::HashSet;
use uuid::Uuid;

/// A request, as far as it could be read, with what the store said to it.
pub(super) struct Weighed {
    pub plan: Plan,
    pub parts: Parts,
    pub name: Option<DeploymentName>,
    pub answered: Option<Answered>,
    /// What is there already, of a change.
    pub stands: Option<Run>,
}

impl Weighed {
    /// Everything is in order so far. Errors: what is not.
    pub fn in_order(&self) -> Result<(), NotBegun> {
        match self.plan.is_ready() {
            true => Ok(()),
            false => Err(NotBegun::Lacking(Box::new(self.plan.clone()))),
        }
    }

    /// Whether looking at the source is allowed, though other things may be in the way: nobody has a guest run for what they may not
    /// deploy, and a fetch key is opened for those who may use it.
    pub fn can_look(&self) -> bool {
        let hinders = |lack: &Lack| {
            ["source", "token", "fetch_key", "key", "target", "mode"].contains(&lack.field.as_str())
                || lack.field.starts_with("options")
        };
        self.answered.is_some() && !self.plan.lacks().any(hinders)
    }

    pub fn take(&mut self, found: &Inspection) {
        for wanted in &found.variables {
            // Also to what is missing: that is said already.
            let is_bound = self.parts.names().any(|env| env.as_str() == wanted.name);
            // A guess from the code is said, and does not stand in the way.
            if wanted.required && wanted.default.is_none() && !wanted.suggested && !is_bound {
                let refusal = Refusal::invalid(
                    &format!("bindings.{}", wanted.name),
                    format!(
                        "The source requires {}, and nothing is bound to it. Bind a secret to it, or a text.",
                        wanted.name
                    ),
                );
                self.plan.add(Lacking::Missing, Lack::of(refusal));
            }
        }
        // What the source says is a secret does not become plain text unasked.
        for (env, text) in self.parts.texts() {
            let wants = |name: &str| {
                let of = found.variables.iter().find(|wanted| wanted.name == name);
                of.is_some_and(|wanted| wanted.secret)
            };
            if !text.plain && !text.text.is_empty() && wants(env.as_str()) && !text.suspicious {
                self.plan.refuse(super::parts::looks_secret(env));
            }
        }
        self.plan.found = Some(Found {
            source: found.resolved.clone(),
            title: found.title.clone(),
            description: found.description.clone(),
            command: found.start.command.clone(),
            transport: found.start.transport.clone(),
            variables: found.variables.clone(),
            notes: found.notes.clone(),
        });
        self.settle();
    }

    /// What would be bound: what nothing is in the way of.
    pub fn settle(&mut self) {
        let hindered: HashSet<&str> = self
            .plan
            .lacks()
            .filter_map(|lack| lack.env.as_deref())
            .collect();
        let names = self.parts.names();
        let bound = names.filter(|env| !hindered.contains(env.as_str()));
        self.plan.bound = bound.cloned().collect();
    }

    pub fn provider_key(&self) -> Option<Uuid> {
        self.answered.as_ref().and_then(|found| found.provider_key)
    }

    pub fn fetch_key(&self) -> Option<Uuid> {
        self.answered.as_ref().and_then(|found| found.fetch_key)
    }

    /// What the source says of a variable; empty where it was not looked at.
    pub fn description_of(&self, env: &EnvName) -> String {
        let found = self.plan.found.iter().flat_map(|found| &found.variables);
        let mut named = found.filter(|wanted| wanted.name == env.as_str());
        named
            .next()
            .map(|wanted| described(&wanted.description))
            .unwrap_or_default()
    }

    pub fn bindings(&self) -> Vec<Binding> {
        let ids = self.answered.as_ref().map(|found| &found.secrets);
        let bind = |(env, to): &(EnvName, To)| {
            let to = match to {
                To::Secret(_) => Bound::Secret {
                    id: *ids?.get(env)?,
                },
                To::Text(text) => Bound::Text {
                    text: text.text.clone(),
                },
                To::PerUser => Bound::PerUser {
                    description: self.description_of(env),
                },
            };
            Some(Binding {
                env: env.clone(),
                to,
            })
        };
        self.parts.bound.iter().filter_map(bind).collect()
    }
}

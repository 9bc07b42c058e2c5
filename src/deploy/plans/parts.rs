//! A request, read part by part. What cannot be read stands in the plan; the rest goes on, so that all is told at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{bindings_wrong, source_wrong};
use crate::deploy::inspections::chosen_transport;
use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
use crate::deploy::sources::{check_command, typed_command};
use crate::deploy::targets::text_refused;
use crate::model::actors::Caller;
use crate::model::deployments::{Binding, Bound};
use crate::model::errors::Refusal;
use crate::model::limits::GuestLimits;
use crate::model::paths::{EnvName, KeyPath};
use crate::model::plans::{BindingRequest, ChangeRequest, DeployRequest, Plan};
use crate::model::sources::{Source, Transport};
use crate::model::targets::Target;
use crate::store::deployment_checks::{
    BINDINGS_MAX, Keeps, bound_twice, no_provider_key, per_user_wrong, too_many_bindings,
};

/// From how many bytes on the text of a variable that is named like a secret is taken for one.
const SECRET_LEN_BYTES: usize = 8;

/// An option's text.
const OPTION_LEN_CHARS: usize = 500;
/// From how many bytes on a name is not said again.
const WORD_LEN_BYTES: usize = 64;

/// What could be read of a request.
pub struct Parts {
    pub source: Option<Source>,
    pub command: Option<Vec<String>>,
    pub transport: Option<Transport>,
    pub bound: Vec<(EnvName, To)>,
    pub fetch_key: Option<KeyPath>,
    pub target: Target,
    /// What the target is told, all of it.
    pub options: BTreeMap<String, String>,
    pub provider_key: Option<KeyPath>,
    /// Variables that stay bound as they are.
    pub kept: Vec<EnvName>,
    /// What is asked about again.
    pub keeps: Keeps,
}

pub enum To {
    Secret(KeyPath),
    Text(Text),
    /// Each caller brings it.
    PerUser,
}

pub struct Text {
    pub text: String,
    /// Said to be no secret.
    pub plain: bool,
    /// It stands in the plan already.
    pub suspicious: bool,
}

impl Parts {
    fn at(target: Target) -> Self {
        Parts {
            source: None,
            command: None,
            transport: None,
            bound: Vec::new(),
            fetch_key: None,
            target,
            options: BTreeMap::new(),
            provider_key: None,
            kept: Vec::new(),
            keeps: Keeps::default(),
        }
    }

    pub fn of_new(caller: &Caller, request: &DeployRequest, plan: &mut Plan) -> Self {
        let mut parts = Parts::at(read_target(request.target.as_deref(), plan));
        check_mode(request, plan);
        parts.read_provider_key(request.key.as_deref(), true, plan);
        parts.read_source(caller, &request.source, plan);
        parts.read_options(&request.options, plan);
        parts.read_bindings(&request.bindings, plan);
        parts.check_place(plan);
        parts.read_fetch_key(request.fetch_key.as_deref(), plan);
        parts
    }

    /// What is said for the target alone.
    pub fn of_target(
        target: Target,
        key: &str,
        options: &BTreeMap<String, String>,
        plan: &mut Plan,
    ) -> Self {
        let mut parts = Parts::at(target);
        parts.read_provider_key(Some(key), true, plan);
        parts.read_options(options, plan);
        parts
    }

    pub fn of_change(
        caller: &Caller,
        request: &ChangeRequest,
        source: &Source,
        target: Target,
        plan: &mut Plan,
    ) -> Self {
        let mut parts = Parts::at(target);
        parts.read_provider_key(request.key.as_deref(), false, plan);
        if request.looks() {
            let source = request.source.clone().unwrap_or(source.to_string());
            parts.read_source(caller, &source, plan);
        }
        if let Some(options) = &request.options {
            parts.read_options(options, plan);
        }
        if let Some(bindings) = &request.bindings {
            parts.read_bindings(bindings, plan);
            parts.check_place(plan);
        }
        parts.read_fetch_key(request.fetch_key.as_deref(), plan);
        parts
    }

    pub fn secrets(&self) -> impl Iterator<Item = (EnvName, KeyPath)> {
        self.bound.iter().filter_map(|(env, to)| match to {
            To::Secret(at) => Some((env.clone(), at.clone())),
            To::Text(_) | To::PerUser => None,
        })
    }

    pub fn texts(&self) -> impl Iterator<Item = (&EnvName, &Text)> {
        self.bound.iter().filter_map(|(env, to)| match to {
            To::Secret(_) | To::PerUser => None,
            To::Text(text) => Some((env, text)),
        })
    }

    /// The variables that there will be.
    pub fn names(&self) -> impl Iterator<Item = &EnvName> {
        self.bound.iter().map(|(env, _)| env).chain(&self.kept)
    }

    /// What each caller brings can be kept apart on this machine alone.
    fn check_place(&self, plan: &mut Plan) {
        for (env, to) in &self.bound {
            if matches!(to, To::PerUser)
                && let Some(refusal) = per_user_wrong(self.target, env)
            {
                plan.refuse(refusal);
            }
        }
    }

    /// By which path a part of the request names its secret.
    pub fn path_at(&self, field: &str) -> Option<&KeyPath> {
        match field {
            "fetch_key" => return self.fetch_key.as_ref(),
            "key" => return self.provider_key.as_ref(),
            _ => {}
        }
        let env = field.strip_prefix("bindings.")?;
        self.bound.iter().find_map(|(name, to)| match to {
            To::Secret(at) if name.as_str() == env => Some(at),
            _ => None,
        })
    }

    fn read_source(&mut self, caller: &Caller, raw: &str, plan: &mut Plan) {
        match Source::parse(raw) {
            Ok(source) => match source_wrong(caller, &source, self.target) {
                Some(refusal) => plan.refuse(refusal),
                None => self.source = Some(source),
            },
            Err(refusal) => plan.refuse(refusal),
        }
    }

    fn read_options(&mut self, options: &BTreeMap<String, String>, plan: &mut Plan) {
        let known: Vec<&str> = self
            .target
            .options()
            .iter()
            .map(|option| option.name)
            .collect();
        // Told once, however many there are.
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            let of = if is_word(name) {
                format!("There is no option {name} here. ")
            } else {
                String::new()
            };
            plan.refuse(Refusal::invalid(
                "options",
                format!(
                    "{of}{} knows these: {}.",
                    self.target.title(),
                    known.join(", ")
                ),
            ));
        }
        for name in known {
            let Some(said) = options.get(name) else {
                continue;
            };
            if said.chars().count() > OPTION_LEN_CHARS || said.chars().any(char::is_control) {
                plan.refuse(Refusal::invalid(
                    &format!("options.{name}"),
                    format!("An option has at most {OPTION_LEN_CHARS} characters, in one line."),
                ));
                continue;
            }
            if looks_like_secret("", said) {
                plan.refuse(Refusal::invalid(
                    &format!("options.{name}"),
                    "That looks like a secret, and options can be read by whoever sees the deployment.",
                ));
                continue;
            }
            if !said.trim().is_empty() {
                self.options.insert(name.to_owned(), said.trim().to_owned());
            }
            let at = |refusal: Refusal| refusal.at(&format!("options.{name}"));
            match name {
                "command" => {
                    match check_command(said).and_then(|()| typed_command(said.trim())) {
                        Ok(words) => self.command = Some(words),
                        Err(refusal) => plan.refuse(at(refusal)),
                    }
                }
                "transport" => match chosen_transport(said) {
                    Some(transport) => self.transport = Some(transport),
                    None => plan.refuse(at(Refusal::invalid(
                        "",
                        "A transport is stdio or http. Leave it out to take what looking at the source finds.",
                    ))),
                },
                // The target's own.
                _ => {}
            }
        }
        if self.target == Target::Local
            && let Err(wrong) = GuestLimits::of(&self.options)
        {
            for refusal in wrong {
                plan.refuse(refusal);
            }
        }
    }

    /// Of a new deployment the target's usual path, unless another is named.
    fn read_provider_key(&mut self, raw: Option<&str>, is_new: bool, plan: &mut Plan) {
        let named = raw.map(str::trim).filter(|raw| !raw.is_empty());
        let raw = match (named, self.target.key_path()) {
            (Some(_), None) => {
                plan.refuse(no_provider_key(self.target));
                return;
            }
            (Some(raw), Some(_)) => raw,
            (None, Some(usual)) if is_new => usual,
            (None, _) => return,
        };
        // Railway's keys are UUIDs, and would pass for a name.
        if looks_like_secret("", raw) || uuid::Uuid::parse_str(raw).is_ok() {
            plan.refuse(Refusal::invalid(
                "key",
                "That looks like a value. Store the key as a secret first, and give its path here, as in meta/render/api_key.",
            ));
            return;
        }
        match KeyPath::parse(raw) {
            Ok(at) => self.provider_key = Some(at),
            Err(refusal) => plan.refuse(refusal.at("key")),
        }
    }

    fn read_bindings(&mut self, bindings: &[BindingRequest], plan: &mut Plan) {
        if bindings.len() > BINDINGS_MAX {
            plan.refuse(too_many_bindings());
            return;
        }
        let mut names = BTreeSet::new();
        for (place, binding) in bindings.iter().enumerate() {
            let env = match EnvName::parse(binding.env.trim()) {
                Ok(env) => env,
                Err(refusal) => {
                    plan.refuse(no_variable(place, binding.env.trim(), refusal));
                    continue;
                }
            };
            if !names.insert(env.clone()) {
                plan.refuse(bound_twice(&env));
                continue;
            }
            match read_binding(&env, binding) {
                Ok(to) => {
                    if let To::Text(Text {
                        suspicious: true, ..
                    }) = &to
                    {
                        plan.refuse(looks_secret(&env));
                    }
                    if let To::Text(Text { text, .. }) = &to
                        && let Some(refusal) = text_refused(self.target, &env, text)
                    {
                        plan.refuse(refusal);
                    }
                    self.bound.push((env, to));
                }
                Err(refusal) => {
                    plan.refuse(refusal.at(&format!("bindings.{env}")));
                    // It is meant to be there: that it is missing is not said on top.
                    self.kept.push(env);
                }
            }
        }
    }

    fn read_fetch_key(&mut self, raw: Option<&str>, plan: &mut Plan) {
        let Some(raw) = raw.map(str::trim).filter(|raw| !raw.is_empty()) else {
            return;
        };
        match KeyPath::parse(raw) {
            Ok(at) => self.fetch_key = Some(at),
            Err(refusal) => plan.refuse(refusal.at("fetch_key")),
        }
    }
}

/// A name that is refused is named. What cannot be a name is not said again: it may be a value in the wrong place.
fn no_variable(place: usize, env: &str, refusal: Refusal) -> Refusal {
    if is_word(env) && !looks_like_secret("", env) {
        return refusal.at(&format!("bindings.{env}"));
    }
    let detail = format!("Binding {}: {}", place + 1, refusal.detail);
    Refusal::new(refusal.kind, detail).at("bindings")
}

fn is_word(text: &str) -> bool {
    (1..=WORD_LEN_BYTES).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn read_binding(env: &EnvName, binding: &BindingRequest) -> Result<To, Refusal> {
    match (&binding.secret, &binding.text, binding.per_user) {
        (Some(path), None, false) => {
            if looks_like_secret("", path) {
                return Err(Refusal::invalid(
                    "",
                    "That looks like a value. Store it as a secret first, and give the path here, as in project/shop/API_KEY.",
                ));
            }
            KeyPath::parse(path.trim()).map(To::Secret)
        }
        (None, Some(text), false) => {
            let shape = Binding {
                env: env.clone(),
                to: Bound::Text { text: text.clone() },
            };
            if let Some(refusal) = bindings_wrong(&[shape]).into_iter().next() {
                return Err(refusal);
            }
            let suspicious = looks_like_secret(env.as_str(), text)
                || (is_secret_name(env.as_str()) && text.len() >= SECRET_LEN_BYTES);
            Ok(To::Text(Text {
                text: text.clone(),
                plain: binding.plain,
                suspicious: suspicious && !binding.plain,
            }))
        }
        (None, None, true) => Ok(To::PerUser),
        _ => Err(Refusal::invalid(
            "",
            "Say one of secret (a path), text, and per_user.",
        )),
    }
}

/// What is not kept as plain text unless somebody says that it is none.
pub fn looks_secret(env: &EnvName) -> Refusal {
    Refusal::invalid(
        &format!("bindings.{env}"),
        format!(
            "{env} looks like a secret, and text can be read by whoever sees the deployment. Store it as a secret and bind its path, or send \"plain\": true with it when it is none."
        ),
    )
}

/// This machine where none is said, and where it cannot be read.
fn read_target(said: Option<&str>, plan: &mut Plan) -> Target {
    let Some(said) = said.map(str::trim).filter(|said| !said.is_empty()) else {
        return Target::Local;
    };
    match Target::from_name(said) {
        Some(target) => target,
        None => {
            plan.refuse(Refusal::invalid(
                "target",
                "There is no such target. Say local (this machine, as when it is left out), render or railway.",
            ));
            Target::Local
        }
    }
}

/// The bindings say it; where it is said besides, the two agree.
fn check_mode(request: &DeployRequest, plan: &mut Plan) {
    let brings = request.bindings.iter().any(|binding| binding.per_user);
    let says = match (request.mode.as_deref(), brings) {
        (None, _) | (Some("shared"), false) | (Some("per-user"), true) => return,
        (Some("shared"), true) => {
            "In a shared deployment no caller brings a variable: make it per-user, or leave per_user out."
        }
        (Some("per-user"), false) => {
            "In a per-user deployment each caller brings a variable: say which, with \"per_user\": true."
        }
        (Some(_), _) => {
            "A deployment’s mode is shared (one server, with its owner’s secrets) or per-user (an instance for each caller, with keys of their own)."
        }
    };
    plan.refuse(Refusal::invalid("mode", says));
}

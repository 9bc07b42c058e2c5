//! Where a deployment runs.

use serde::{Deserialize, Serialize};

use super::deployments::StepName;
use super::errors::Refusal;
use super::limits;

/// What a provider has of a deployment. Written down before anything is built on it, so that nothing is made twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placed {
    /// Whose it is there: a workspace or an owner, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Sealport made the project, and so removes it with the last that is in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub project_made: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The repository and branch that the service is connected with, where connecting builds what is newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<String>,
    /// Where the server answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The variables that Sealport set there: no others are ever changed or removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_names: Vec<String>,
    /// The provider's deploy that belongs to a release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<PlacedDeploy>,
    /// Whether the server answers at its own address to whoever comes without the gateway's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedDeploy {
    pub release: i32,
    pub id: String,
}

/// What a provider says that a key can do there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSays {
    /// For a person.
    pub sentence: String,
    pub places: Vec<AccountPlace>,
    /// There are more of them than are listed.
    pub cut: bool,
}

/// A workspace, a project or an environment that a key reaches, as the provider names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountPlace {
    pub kind: String,
    pub name: String,
    pub id: String,
}

/// Of names and ids that a provider gives, so much is shown.
const PLACE_LEN_CHARS: usize = 100;
/// Places that are listed at most.
const PLACES_MAX: usize = 60;

impl AccountPlace {
    pub fn new(kind: &str, name: &str, id: &str) -> Self {
        let shown = |text: &str| {
            let plain = text.chars().filter(|c| !c.is_control());
            plain.take(PLACE_LEN_CHARS).collect()
        };
        AccountPlace {
            kind: kind.to_owned(),
            name: shown(name),
            id: shown(id),
        }
    }
}

impl AccountSays {
    /// With no more than a page lists.
    pub fn shortened(mut self) -> Self {
        self.cut |= self.places.len() > PLACES_MAX;
        self.places.truncate(PLACES_MAX);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A process of this machine, in a sandbox.
    Local,
    Render,
    Railway,
}

/// Something that a target wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetOption {
    pub name: &'static str,
    /// What it is, in a sentence.
    pub says: &'static str,
}

impl Target {
    pub const ALL: [Target; 3] = [Target::Local, Target::Render, Target::Railway];

    pub fn as_str(self) -> &'static str {
        match self {
            Target::Local => "local",
            Target::Render => "render",
            Target::Railway => "railway",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Target::ALL
            .into_iter()
            .find(|target| target.as_str() == name)
    }

    /// The provider of this name. Errors: `NotFound`.
    pub fn provider(name: &str) -> Result<Self, Refusal> {
        let named = Target::from_name(name).filter(|target| target.is_remote());
        named.ok_or_else(|| Refusal::not_found("provider"))
    }

    /// As a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Target::Local => "This machine",
            Target::Render => "Render",
            Target::Railway => "Railway",
        }
    }

    pub fn is_remote(self) -> bool {
        self != Target::Local
    }

    /// Where the provider's key stands unless another path is named; none where there is no provider.
    pub fn key_path(self) -> Option<&'static str> {
        match self {
            Target::Local => None,
            Target::Render => Some("meta/render/api_key"),
            Target::Railway => Some("meta/railway/api_key"),
        }
    }

    /// Where at the provider a person makes a key.
    pub fn key_page(self) -> Option<&'static str> {
        match self {
            Target::Local => None,
            Target::Render => Some("https://dashboard.render.com/u/settings#api-keys"),
            Target::Railway => Some("https://railway.com/account/tokens"),
        }
    }

    /// Whether a secret at this path could be the provider's key, by its words.
    pub fn may_be_key(self, path: &str) -> bool {
        let (name, path) = (self.as_str(), path.to_ascii_lowercase());
        self.is_remote() && path.split(['/', '_', '-', '.']).any(|word| word == name)
    }

    /// The steps of a release there, in their order.
    pub fn steps(self) -> &'static [StepName] {
        match self {
            Target::Local => &[
                StepName::Fetch,
                StepName::Install,
                StepName::Start,
                StepName::Handshake,
            ],
            Target::Render | Target::Railway => {
                &[StepName::Provision, StepName::Build, StepName::Handshake]
            }
        }
    }

    /// What may be said beside source and bindings; none of it must.
    pub fn options(self) -> &'static [TargetOption] {
        match self {
            Target::Local => &LOCAL,
            Target::Render => &[
                COMMAND,
                TRANSPORT,
                BRANCH,
                DOCKERFILE,
                HEALTH_CHECK,
                TargetOption {
                    name: "owner",
                    says: "The workspace at Render, by id or name; needed when the key opens several.",
                },
                TargetOption {
                    name: "region",
                    says: "oregon, ohio, virginia, frankfurt or singapore; oregon unless said. It stays as it was made.",
                },
                TargetOption {
                    name: "plan",
                    says: "free, starter, standard, pro and so on, as Render names them; starter unless said.",
                },
            ],
            Target::Railway => &[
                COMMAND,
                TRANSPORT,
                BRANCH,
                DOCKERFILE,
                HEALTH_CHECK,
                TargetOption {
                    name: "workspace",
                    says: "The workspace at Railway, by id or name, where a project is made.",
                },
                TargetOption {
                    name: "project",
                    says: "The project, by id or name; one with the deployment’s name is made unless said.",
                },
                TargetOption {
                    name: "environment",
                    says: "The environment of that project, by id or name; production unless said.",
                },
            ],
        }
    }
}

impl Target {
    /// Those that only a target has: command and transport belong to the source.
    pub fn own_options(self) -> impl Iterator<Item = &'static TargetOption> {
        let of_source = [COMMAND.name, TRANSPORT.name];
        self.options()
            .iter()
            .filter(move |option| !of_source.contains(&option.name))
    }
}

impl TargetOption {
    /// As a field is headed, as in "Health check" or "Memory (MiB)".
    pub fn title(&self) -> String {
        let mut title = match self.name.strip_suffix("_mib") {
            Some(what) => format!("{what} (MiB)"),
            None => self.name.replace('_', " "),
        };
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        title
    }
}

const LOCAL: [TargetOption; 9] = {
    let [memory, processes, files, disk, file, log, network] = limits::OPTIONS;
    [
        COMMAND, TRANSPORT, memory, processes, files, disk, file, log, network,
    ]
};
const COMMAND: TargetOption = TargetOption {
    name: "command",
    says: "The command that starts it, instead of what looking at the source finds.",
};
const TRANSPORT: TargetOption = TargetOption {
    name: "transport",
    says: "stdio or http, instead of what looking at the source finds.",
};
const BRANCH: TargetOption = TargetOption {
    name: "branch",
    says: "The branch of a git source that the provider builds from; its default one unless said.",
};
const DOCKERFILE: TargetOption = TargetOption {
    name: "dockerfile",
    says: "The path of a Dockerfile in a git source, below its folder, that the provider builds in place of its own runtime. What it starts listens on $PORT.",
};
const HEALTH_CHECK: TargetOption = TargetOption {
    name: "health_check",
    says: "A path that answers 200 when the server is up, as in /healthz.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_name_and_its_own_options() {
        for target in Target::ALL {
            assert_eq!(Target::from_name(target.as_str()), Some(target));
            assert_eq!(target.key_path().is_some(), target.is_remote());
            assert_eq!(target.key_page().is_some(), target.is_remote());
            let usual = target.key_path().unwrap_or_default();
            assert_eq!(target.may_be_key(usual), target.is_remote());
            let mut names: Vec<_> = target.options().iter().map(|option| option.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), target.options().len(), "{target:?}");
            assert_eq!(target.steps().last(), Some(&StepName::Handshake));
            assert!(target.steps().is_sorted());
            assert_eq!(target.own_options().count() + 2, target.options().len());
        }
        assert_eq!(Target::from_name("kubernetes"), None);
        for (path, may_be) in [
            ("meta/render/api_key", true),
            ("RENDER_API_KEY", true),
            ("project/shop/render-key", true),
            ("meta/railway/api_key", false),
            ("RENDERER", false),
        ] {
            assert_eq!(Target::Render.may_be_key(path), may_be, "{path}");
            assert!(!Target::Local.may_be_key(path));
        }
        assert_eq!(HEALTH_CHECK.title(), "Health check");
        let memory = LOCAL.iter().find(|option| option.name == "memory_mib");
        assert_eq!(
            memory.map(TargetOption::title).as_deref(),
            Some("Memory (MiB)")
        );
    }
}

//! What Render calls things: the words that its API takes and gives.

use std::fmt;

/// A closed list of words, with one way in and one way out.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($variant,)+
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// None for a word that Render does not have.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where a service runs. It cannot be changed later.
    Region {
        Oregon = "oregon",
        Ohio = "ohio",
        Virginia = "virginia",
        Frankfurt = "frankfurt",
        Singapore = "singapore",
    }
}

words! {
    /// What a service may use, and what it costs. Only those that are offered to everybody.
    Plan {
        Free = "free",
        Starter = "starter",
        Standard = "standard",
        Pro = "pro",
        ProPlus = "pro_plus",
        ProMax = "pro_max",
        ProUltra = "pro_ultra",
    }
}

words! {
    /// What Render itself builds and starts.
    Runtime {
        Node = "node",
        Python = "python",
        Go = "go",
        Rust = "rust",
        Ruby = "ruby",
        Elixir = "elixir",
    }
}

/// How far a deploy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployState {
    Created,
    Queued,
    BuildInProgress,
    PreDeployInProgress,
    UpdateInProgress,
    Live,
    /// A later one took its place, or the service was suspended.
    Deactivated,
    BuildFailed,
    PreDeployFailed,
    UpdateFailed,
    Canceled,
    /// A word that was not known when this was written.
    Unknown(String),
}

impl DeployState {
    pub(super) fn parse(word: &str) -> Self {
        match word {
            "created" => DeployState::Created,
            "queued" => DeployState::Queued,
            "build_in_progress" => DeployState::BuildInProgress,
            "pre_deploy_in_progress" => DeployState::PreDeployInProgress,
            "update_in_progress" => DeployState::UpdateInProgress,
            "live" => DeployState::Live,
            "deactivated" => DeployState::Deactivated,
            "build_failed" => DeployState::BuildFailed,
            "pre_deploy_failed" => DeployState::PreDeployFailed,
            "update_failed" => DeployState::UpdateFailed,
            "canceled" => DeployState::Canceled,
            other => DeployState::Unknown(
                other
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .take(40)
                    .collect(),
            ),
        }
    }

    /// Nothing more happens to it of itself. What is unknown is waited for, within the patience of whoever waits.
    pub fn is_over(&self) -> bool {
        self.has_failed() || matches!(self, DeployState::Live | DeployState::Deactivated)
    }

    pub fn has_failed(&self) -> bool {
        matches!(
            self,
            DeployState::BuildFailed
                | DeployState::PreDeployFailed
                | DeployState::UpdateFailed
                | DeployState::Canceled
        )
    }
}

/// As it stands in a sentence after "The deploy".
impl fmt::Display for DeployState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeployState::Created => "was made",
            DeployState::Queued => "waits for its turn",
            DeployState::BuildInProgress => "is being built",
            DeployState::PreDeployInProgress => "runs its pre-deploy command",
            DeployState::UpdateInProgress => "is being started",
            DeployState::Live => "is live",
            DeployState::Deactivated => "was replaced",
            DeployState::BuildFailed => "failed while it was built",
            DeployState::PreDeployFailed => "failed in its pre-deploy command",
            DeployState::UpdateFailed => "failed when it was started",
            DeployState::Canceled => "was cancelled",
            DeployState::Unknown(word) => return write!(f, "is in the state {word}"),
        })
    }
}

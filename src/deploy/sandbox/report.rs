//! What holds guests on this host, in words.

use std::fmt;

use ipnet::IpNet;
use serde::Serialize;

use super::SandboxConfig;
use super::walls::Means;
use crate::deploy::Deployer;

/// The state of the sandbox as the probe found it. Displays as sentences for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SandboxReport {
    pub isolation: Isolation,
    pub network: Outside,
    /// Whether Landlock stands as a second wall.
    pub landlock: bool,
    /// What guests may reach of private networks.
    pub private_networks: Vec<String>,
    /// Why there is no isolation, when there is none.
    pub why_none: Option<String>,
    /// Why the network is open, when it is.
    pub why_open: Option<String>,
    /// Whether guests run here at all.
    pub runs_guests: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces, an id of its own, a file system of its own.
    Bubblewrap,
    None,
}

/// How guests reach the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// By a stack of their own, which reaches nothing private that is not listed.
    UserMode,
    /// By the host's own network, loopback and private ranges included.
    Open,
}

impl SandboxReport {
    pub(super) fn new(config: &SandboxConfig) -> Self {
        SandboxReport {
            isolation: Isolation::None,
            network: Outside::Open,
            landlock: false,
            private_networks: config
                .private_networks
                .iter()
                .map(IpNet::to_string)
                .collect(),
            why_none: None,
            why_open: None,
            runs_guests: config.allow_unsandboxed,
        }
    }

    pub(super) fn conclude(&mut self, means: Means, landlock: bool) {
        self.landlock = landlock;
        if means.bubblewrap {
            self.isolation = Isolation::Bubblewrap;
            self.runs_guests = true;
        }
        if means.own_network {
            self.network = Outside::UserMode;
            self.why_open = None;
        }
    }

    /// The same for anybody who asks: no address and no reason. False where it is weaker than it
    /// should be.
    pub fn in_short(&self) -> (bool, &'static str) {
        match (self.isolation, self.runs_guests, self.network) {
            (Isolation::None, false, _) => (false, "no servers run here"),
            (Isolation::None, true, _) => (
                false,
                "servers run without a sandbox, and their network is open",
            ),
            (Isolation::Bubblewrap, _, Outside::Open) => (false, "the servers' network is open"),
            (Isolation::Bubblewrap, _, Outside::UserMode) => (true, "servers are confined"),
        }
    }

    fn private(&self) -> String {
        if self.private_networks.is_empty() {
            "the host's loopback, private and link-local ranges are closed".into()
        } else {
            format!(
                "of private ranges only {} can be reached",
                self.private_networks.join(", ")
            )
        }
    }
}

impl Deployer {
    /// How guests are confined, in a few words for anybody who asks.
    pub fn confinement_in_short(&self) -> (bool, &'static str) {
        self.0.sandbox.0.report.in_short()
    }
}

/// What an operator does about an open network, as the end of a sentence.
pub(super) fn remedy_for_network(walls: bool) -> &'static str {
    if walls {
        "install slirp4netns and iproute2, and let Sealport's user open /dev/net/tun, which a \
         container has to be given"
    } else {
        "that takes bubblewrap, slirp4netns and iproute2"
    }
}

impl fmt::Display for SandboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = |reason: &Option<String>| match reason {
            Some(reason) => format!(" ({reason})"),
            None => String::new(),
        };
        match (self.isolation, self.runs_guests) {
            (Isolation::Bubblewrap, _) => f.write_str("Servers run in a bubblewrap sandbox. ")?,
            (Isolation::None, true) => write!(
                f,
                "Servers run without a sandbox{}, because SEALPORT_ALLOW_UNSANDBOXED says so. ",
                why(&self.why_none)
            )?,
            (Isolation::None, false) => write!(
                f,
                "No servers run here: there is no sandbox{}. ",
                why(&self.why_none)
            )?,
        }
        match self.network {
            Outside::UserMode => write!(
                f,
                "Each has a network of its own, IPv4 only: {}. ",
                self.private()
            )?,
            Outside::Open => write!(
                f,
                "Their network is open{}: they reach the host's loopback and private ranges, and \
                 those that speak HTTP do not run; {}. ",
                why(&self.why_open),
                remedy_for_network(self.isolation == Isolation::Bubblewrap)
            )?,
        }
        f.write_str(if self.landlock {
            "Landlock stands as a second wall. "
        } else {
            "This kernel has no Landlock. "
        })?;
        f.write_str(
            "The kernel limits the memory of each process; that of a server as a whole is looked \
             at every second.",
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn strangers_learn_that_it_is_weaker_and_neither_addresses_nor_reasons() {
        let mut report = SandboxReport {
            isolation: Isolation::Bubblewrap,
            network: Outside::UserMode,
            landlock: true,
            private_networks: vec!["10.1.2.0/24".into()],
            why_none: Some("10.1.2.3".into()),
            why_open: Some("10.1.2.3".into()),
            runs_guests: true,
        };
        assert_eq!(report.in_short(), (true, "servers are confined"));
        report.network = Outside::Open;
        assert_eq!(report.in_short(), (false, "the servers' network is open"));
        report.isolation = Isolation::None;
        let (sound, words) = report.in_short();
        assert!(!sound && words.contains("without a sandbox"), "{words}");
        report.runs_guests = false;
        assert_eq!(report.in_short(), (false, "no servers run here"));
    }
}

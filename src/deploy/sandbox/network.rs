//! A guest's own network: a user-mode stack that reaches out, routes that keep it from private
//! places, and one socket of ours that reaches in.
//!
//! The stack (slirp4netns) runs outside and opens the guest's connections as ordinary ones of the
//! host. So what a guest must not reach is forbidden by routes in its namespace, which it has no
//! right to change. Only IPv4 goes out: the stack's IPv6 is experimental, and off.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipnet::{IpNet, Ipv4Net};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::host::{Layout, Programs};
use super::walls::{Line, Means, powerless, program};
use super::{GuestNetwork, GuestSpec, SandboxError, keeper};

/// The stack's address in the guest's network. With the host's loopback listed, a guest reaches
/// the host's 127.0.0.1 here, and nowhere else.
pub(in crate::deploy) const GATEWAY: &str = "10.0.2.2";
/// Where the stack answers DNS, by asking the host's resolver.
pub(super) const RESOLVER: &str = "10.0.2.3";
/// The stack's own network: only the two addresses above are anything in it.
const STACK_NETWORK: &str = "10.0.2.0/24";
const DEVICE: &str = "tap0";

/// Closed unless the administrator lists them: this host, private and shared ranges, link-local
/// (where clouds keep their metadata; Azure also under an address that looks public), protocol
/// assignments, benchmarks, multicast, reserved.
const CLOSED: [(Ipv4Addr, u8); 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// What belongs to one guest's network and ends with it.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Ends when its standard input closes, so also when Sealport is killed.
    _stack: Option<Child>,
    forwarder: Option<Forwarder>,
}

impl Network {
    pub fn http_socket(&self) -> Option<PathBuf> {
        self.forwarder.as_ref().map(|found| found.socket.clone())
    }
}

#[derive(Debug)]
struct Forwarder {
    _process: Child,
    socket: PathBuf,
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Everything needed to raise a guest's network.
pub(super) struct Plan<'a> {
    pub means: Means,
    pub programs: &'a Programs,
    pub layout: &'a Layout,
    pub listed: &'a [IpNet],
    pub runtime_dir: &'a Path,
}

impl Plan<'_> {
    /// Raises the network of the waiting guest whose first process is `pid`.
    pub async fn raise(&self, guest: &GuestSpec, pid: u32) -> Result<Network, SandboxError> {
        let mut network = Network::default();
        if self.means.network_of_its_own(guest.network) {
            match guest.network {
                GuestNetwork::Outgoing => {
                    network._stack = Some(self.start_stack(pid).await?);
                    // Unknown addresses would stay open, by which all that listens on them is reached.
                    let host = host_addresses(Path::new("/proc/net/fib_trie")).map_err(
                        starting("a network that is closed to this host's own addresses"),
                    )?;
                    self.configure(pid, routes(self.listed, &host)).await?;
                }
                GuestNetwork::None if self.programs.ip.is_some() => {
                    self.configure(pid, "link set lo up\n".into()).await?;
                }
                GuestNetwork::None => {}
            }
        }
        if let Some(port) = guest.listen {
            network.forwarder = Some(self.start_forwarder(guest, pid, port).await?);
        }
        Ok(network)
    }

    async fn start_stack(&self, pid: u32) -> Result<Child, SandboxError> {
        let mut line = Line::default();
        line.push(program(&self.programs.setpriv, "util-linux")?);
        line.words(["--pdeathsig", "KILL", "--"]);
        line.push(program(&self.programs.slirp4netns, "slirp4netns")?);
        // The stack reads packets that a guest wrote: it gets an empty root and few system calls.
        line.words(["--enable-sandbox", "--enable-seccomp"]);
        line.words(["--configure", "--mtu=65520", "--ready-fd=1", "--exit-fd=0"]);
        if !self
            .listed
            .iter()
            .any(|network| network.addr().is_loopback())
        {
            line.words(["--disable-host-loopback"]);
        }
        line.words([pid.to_string().as_str(), DEVICE]);
        let mut command = line.command()?;
        command.process_group(0).stderr(Stdio::piped());
        let mut stack = keeper::spawn(command)
            .await
            .map_err(starting("slirp4netns"))?;
        if !stack_is_up(&mut stack).await {
            return Err(failed("slirp4netns", &mut stack).await);
        }
        Ok(stack)
    }

    /// Changes the guest's network from outside, by `ip` in its namespace.
    async fn configure(&self, pid: u32, script: String) -> Result<(), SandboxError> {
        let mut line = Line::default();
        self.enter(&mut line, pid)?;
        line.push(program(&self.programs.ip, "iproute2")?);
        line.words(["-batch", "-"]);
        let mut command = line.command()?;
        command.stderr(Stdio::piped());
        let mut ip = keeper::spawn(command).await.map_err(starting("ip"))?;
        if let Some(mut stdin) = ip.stdin.take() {
            // A refusal shows in the status.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
        match ip.wait().await {
            Ok(status) if status.success() => Ok(()),
            _ => Err(failed("ip", &mut ip).await),
        }
    }

    async fn start_forwarder(
        &self,
        guest: &GuestSpec,
        pid: u32,
        port: u16,
    ) -> Result<Forwarder, SandboxError> {
        let name = hex::encode(rand::random::<[u8; 8]>());
        let socket = self.runtime_dir.join(name);
        let listener =
            std::os::unix::net::UnixListener::bind(&socket).map_err(super::host::at(&socket))?;
        let mut line = Line::default();
        let inside = self.means.network_of_its_own(guest.network);
        if inside {
            self.enter(&mut line, pid)?;
        }
        powerless(&mut line, self.means, self.programs, guest.uid, inside)?;
        line.push(&self.layout.launcher);
        line.words(["guest-forward", &port.to_string()]);
        let mut command = line.command()?;
        // The socket is opened here and handed over: the forwarder has no right to our directory.
        command.stdout(Stdio::from(OwnedFd::from(listener)));
        command.process_group(0).stderr(Stdio::null());
        match keeper::spawn(command).await {
            Ok(process) => Ok(Forwarder {
                _process: process,
                socket,
            }),
            Err(error) => {
                let _ = std::fs::remove_file(&socket);
                Err(starting("the forwarder")(error))
            }
        }
    }

    fn enter(&self, line: &mut Line, pid: u32) -> Result<(), SandboxError> {
        line.push(program(&self.programs.nsenter, "util-linux")?);
        line.words(["--target", &pid.to_string()]);
        if !self.means.root {
            line.words(["--user", "--preserve-credentials"]);
        }
        line.words(["--net", "--"]);
        Ok(())
    }
}

/// The stack writes a `1` at a line's start to the same pipe as its messages, once it is up.
async fn stack_is_up(stack: &mut Child) -> bool {
    let Some(stdout) = stack.stdout.as_mut() else {
        return false;
    };
    let mut line_start = true;
    loop {
        match stdout.read_u8().await {
            Ok(b'1') if line_start => return true,
            Ok(byte) => line_start = byte == b'\n',
            Err(_) => return false,
        }
    }
}

/// The script for `ip -batch` that leaves a guest the world without the host's neighbourhood.
fn routes(listed: &[IpNet], host: &[Ipv4Addr]) -> String {
    let listed: Vec<Ipv4Net> = listed
        .iter()
        .filter_map(|network| match network {
            IpNet::V4(network) if !network.addr().is_loopback() => Some(network.trunc()),
            _ => None,
        })
        .collect();
    let closed = CLOSED
        .iter()
        .filter_map(|(address, length)| Ipv4Net::new(*address, *length).ok())
        .chain(host.iter().map(|address| Ipv4Net::from(*address)))
        .filter(|closed| !listed.iter().any(|open| open.contains(closed)));
    // The stack would take other addresses of its network for real ones of the host's network.
    let mut script = format!(
        "route replace {GATEWAY}/32 dev {DEVICE}\n\
         route replace {RESOLVER}/32 dev {DEVICE}\n\
         route del {STACK_NETWORK} dev {DEVICE}\n"
    );
    for closed in closed {
        script.push_str(&format!("route replace prohibit {closed}\n"));
    }
    for open in &listed {
        if open.prefix_len() > 0 {
            script.push_str(&format!(
                "route replace {open} via {GATEWAY} dev {DEVICE}\n"
            ));
        }
    }
    script
}

/// The host's own addresses: by them a guest would reach what listens on every interface.
fn host_addresses(table: &Path) -> std::io::Result<Vec<Ipv4Addr>> {
    let read = std::fs::read_to_string(table).map_err(|error| {
        std::io::Error::new(error.kind(), format!("{}: {error}", table.display()))
    })?;
    Ok(local_addresses(&read))
}

/// In that table an address stands on the line before the one that says whose it is.
fn local_addresses(table: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in table.lines() {
        if line.contains("/32 host LOCAL") {
            found.extend(last.filter(|address: &Ipv4Addr| !address.is_loopback()));
        } else if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address.parse().ok();
        }
    }
    found.sort();
    found.dedup();
    found
}

pub(super) fn starting(what: &'static str) -> impl FnOnce(std::io::Error) -> SandboxError {
    move |error| SandboxError::Start {
        what,
        detail: error.to_string(),
    }
}

/// What a helper said before it ended, for the operator. Helpers are given no value.
pub(super) async fn failed(what: &'static str, child: &mut Child) -> SandboxError {
    let _ = child.start_kill();
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let read = stderr.take(4096).read_to_end(&mut said).await;
        let _ = read;
    }
    SandboxError::Start {
        what,
        detail: String::from_utf8_lossy(&said).trim().to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn private_ranges_and_the_host_are_closed_and_listed_ones_open() {
        let host = [Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(10, 1, 2, 3)];
        let script = routes(&[], &host);
        for closed in ["10.0.0.0/8", "169.254.0.0/16", "203.0.113.7/32"] {
            assert!(script.contains(&format!("prohibit {closed}\n")), "{script}");
        }

        let listed =
            ["10.0.0.0/8", "192.168.7.0/24", "127.0.0.0/8"].map(|net| net.parse().unwrap());
        let script = routes(&listed, &host);
        assert!(!script.contains("prohibit 10."), "{script}");
        assert!(script.contains("prohibit 192.168.0.0/16\n"), "{script}");
        assert!(script.contains("route replace 192.168.7.0/24 via 10.0.2.2 dev tap0\n"));
        assert!(!script.contains("127."), "{script}");
    }

    #[test]
    fn the_hosts_addresses_are_read_from_the_kernels_table() {
        let table = "Local:\n  +-- 0.0.0.0/0 3 0 5\n        |-- 127.0.0.1\n           /32 host LOCAL\n        \
                     |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           \
                     /32 host LOCAL\n";
        assert_eq!(local_addresses(table), [Ipv4Addr::new(192, 0, 2, 2)]);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_no_empty_one() {
        let place = tempfile::tempdir().unwrap();
        let table = place.path().join("fib_trie");
        let refused = host_addresses(&table).unwrap_err().to_string();
        assert!(refused.contains("fib_trie"), "{refused}");
        std::fs::write(&table, "Local:\n").unwrap();
        assert!(host_addresses(&table).unwrap().is_empty());
    }
}

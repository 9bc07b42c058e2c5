//! The command line that puts a guest behind its walls. It carries names and paths, never values.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::host::{Layout, Programs};
use super::{GuestNetwork, GuestSpec, SandboxError};

/// Where a guest finds its home, and where our launcher is bound.
pub(super) const HOME: &str = "/srv";
/// Where it sees what outlives its home. Not below that: the guest could lay a link in the way of the mount.
pub const DATA: &str = "/data";
const LAUNCHER: &str = "/.sealport";

/// The user that a guest takes itself for, whatever it is outside.
const INSIDE_ID: &str = "1000";

/// A guest's /tmp and /dev/shm live in memory; so each is bounded.
const TMP_MAX_BYTES: &str = "536870912";

/// The devices that a guest may write to. /dev itself lives in memory without a bound.
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// What hides a place of ours is empty and stays so; zero would mean no bound.
const MASK_BYTES: &str = "4096";

/// What guests read of the host's /etc: certificates, the clock's zone and the linker's cache.
const ETC: [&str; 14] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/mime.types",
];

/// What a guest without walls reads besides, where one with walls gets files of our own.
const ETC_OF_THE_HOST: [&str; 5] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
];

/// The top folders that hold programs: links into /usr on most hosts.
const PROGRAM_FOLDERS: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"];

/// What stands on this host, once the probe has tried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Means {
    pub bubblewrap: bool,
    pub own_network: bool,
    /// bubblewrap can also forbid user namespaces inside, which close a large part of the kernel.
    pub no_inner_namespaces: bool,
    pub root: bool,
}

impl Means {
    /// Whether this guest gets a network namespace.
    pub fn network_of_its_own(&self, network: GuestNetwork) -> bool {
        self.bubblewrap && (self.own_network || network == GuestNetwork::None)
    }
}

/// The whole chain: leave the host's network, leave root, build the walls, start the launcher.
pub(super) fn chain(
    means: Means,
    programs: &Programs,
    layout: &Layout,
    guest: &GuestSpec,
    private: &[PathBuf],
) -> Result<Command, SandboxError> {
    let mut line = Line::default();
    if means.bubblewrap {
        let own_network = means.network_of_its_own(guest.network);
        leave_network(&mut line, means, programs, own_network)?;
        leave_root(&mut line, means, programs, guest.uid)?;
        line.push(program(&programs.bwrap, "bubblewrap")?);
        build(&mut line, means, layout, guest, private);
        line.words(["--", LAUNCHER, "guest-launch"]);
    } else {
        // Without walls there is still no root, and Landlock where the kernel has it.
        leave_root(&mut line, means, programs, guest.uid)?;
        line.push(&layout.launcher);
        line.words(["guest-launch"]);
    }
    let mut command = line.command()?;
    command.process_group(0);
    command.stderr(Stdio::piped());
    Ok(command)
}

fn leave_network(
    line: &mut Line,
    means: Means,
    programs: &Programs,
    own_network: bool,
) -> Result<(), SandboxError> {
    // As root the network namespace belongs to the host's user namespace. As anyone else to one
    // of ours that the guest is not in. Either way the guest has no say over its routes.
    if !means.root {
        line.push(program(&programs.unshare, "util-linux")?);
        line.words(["--user", "--map-root-user"]);
        if own_network {
            line.words(["--net"]);
        }
        line.words(["--"]);
    } else if own_network {
        line.push(program(&programs.unshare, "util-linux")?);
        line.words(["--net", "--"]);
    }
    Ok(())
}

fn leave_root(
    line: &mut Line,
    means: Means,
    programs: &Programs,
    uid: u32,
) -> Result<(), SandboxError> {
    line.push(program(&programs.setpriv, "util-linux")?);
    line.words(["--pdeathsig", "KILL", "--no-new-privs"]);
    if means.root {
        let uid = uid.to_string();
        line.words(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        line.words(["--inh-caps=-all", "--bounding-set=-all"]);
    }
    // Not root: bubblewrap needs the capabilities of our own user namespace for the one that it
    // makes inside, where it drops them all.
    line.words(["--"]);
    Ok(())
}

fn build(line: &mut Line, means: Means, layout: &Layout, guest: &GuestSpec, private: &[PathBuf]) {
    line.words(["--unshare-user", "--uid", INSIDE_ID, "--gid", INSIDE_ID]);
    line.words(["--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
    line.words(["--unshare-cgroup-try", "--hostname", "guest"]);
    line.words(["--die-with-parent", "--new-session", "--clearenv"]);
    line.words(["--cap-drop", "ALL"]);
    if means.no_inner_namespaces {
        line.words(["--disable-userns"]);
    }
    for name in PROGRAM_FOLDERS {
        let folder = Path::new("/").join(name);
        if let Ok(target) = std::fs::read_link(&folder) {
            line.words(["--symlink"]);
            line.push(target);
            line.push(folder);
        } else if folder.is_dir() {
            line.read_only(&folder, &folder);
        }
    }
    for file in ETC {
        line.words(["--ro-bind-try", file, file]);
    }
    let resolver = if means.own_network {
        "resolv.user-mode"
    } else {
        "resolv.open"
    };
    for (ours, inside) in [
        (resolver, "/etc/resolv.conf"),
        ("hosts", "/etc/hosts"),
        ("nsswitch.conf", "/etc/nsswitch.conf"),
        ("passwd", "/etc/passwd"),
        ("group", "/etc/group"),
    ] {
        line.read_only(&layout.etc.join(ours), Path::new(inside));
    }
    line.words(["--proc", "/proc", "--dev", "/dev"]);
    for folder in ["/tmp", "/dev/shm"] {
        line.words(["--size", TMP_MAX_BYTES, "--tmpfs", folder]);
    }
    line.words([match guest.home_is_shared {
        true => "--ro-bind",
        false => "--bind",
    }]);
    line.push(&guest.home);
    line.words([HOME, "--chdir", HOME]);
    if let Some(data) = &guest.data {
        line.words(["--bind"]);
        line.push(data);
        line.words([DATA]);
    }
    for (outside, inside) in &guest.read_only {
        line.read_only(outside, inside);
    }
    for (outside, inside) in exposed(&guest.read_only, private) {
        if outside.is_dir() {
            line.words(["--size", MASK_BYTES, "--tmpfs"]);
            line.push(&inside);
            line.words(["--remount-ro"]);
            line.push(&inside);
        } else {
            // On a mount without devices it cannot even be opened.
            line.read_only(Path::new("/dev/null"), &inside);
        }
    }
    line.read_only(&layout.launcher, Path::new(LAUNCHER));
    // What bubblewrap mounted for all of this lives in memory too. The mounts below stay as they are.
    line.words(["--remount-ro", "/dev", "--remount-ro", "/"]);
}

/// The folders that guests see of the host: (on the host and without links, inside).
fn seen(read_only: &[(PathBuf, PathBuf)]) -> Vec<(PathBuf, PathBuf)> {
    let folders = PROGRAM_FOLDERS.iter().map(|name| Path::new("/").join(name));
    folders
        .filter(|folder| !folder.is_symlink())
        .chain(ETC.iter().map(PathBuf::from))
        .map(|path| (path.clone(), path))
        .chain(read_only.iter().cloned())
        .filter_map(|(outside, inside)| Some((std::fs::canonicalize(outside).ok()?, inside)))
        .collect()
}

/// Which of our own places lie below a folder that guests see, such as data below /usr/src:
/// (on the host, inside).
pub(super) fn exposed(
    read_only: &[(PathBuf, PathBuf)],
    private: &[PathBuf],
) -> Vec<(PathBuf, PathBuf)> {
    let seen = seen(read_only);
    let mut found: Vec<(PathBuf, PathBuf)> = private
        .iter()
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .flat_map(|path| {
            let below = seen.iter().filter_map(move |(outside, inside)| {
                let rest = path.strip_prefix(outside).ok()?;
                Some((path.clone(), inside.join(rest)))
            });
            below.collect::<Vec<_>>()
        })
        .collect();
    // What lies below a folder that is hidden is hidden with it, and no longer there to be hidden.
    found.sort_by(|one, other| one.1.cmp(&other.1));
    found.dedup_by(|next, kept| next.1.starts_with(&kept.1));
    found
}

/// What Landlock lets a guest read and run, and what it lets it write: the same as the walls.
pub(super) fn paths(means: Means, guest: &GuestSpec) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folders = PROGRAM_FOLDERS.iter().map(|name| Path::new("/").join(name));
    let mut readable: Vec<PathBuf> = folders.collect();
    readable.push("/proc".into());
    if means.bubblewrap {
        readable.push("/etc".into());
        readable.extend(guest.read_only.iter().map(|(_, inside)| inside.clone()));
        readable.push("/dev".into());
        let mut writable: Vec<PathBuf> = DEVICES.map(PathBuf::from).into();
        writable.extend(["/tmp", "/dev/shm", "/dev/pts"].map(PathBuf::from));
        match guest.home_is_shared {
            true => readable.push(HOME.into()),
            false => writable.push(HOME.into()),
        }
        writable.extend(guest.data.is_some().then(|| PathBuf::from(DATA)));
        return (readable, writable);
    }
    // Here Landlock is the only wall, and /etc, /tmp and /dev are the host's.
    readable.extend(ETC.iter().chain(&ETC_OF_THE_HOST).map(PathBuf::from));
    readable.extend(guest.read_only.iter().map(|(outside, _)| outside.clone()));
    let mut writable: Vec<PathBuf> = guest.data.iter().cloned().collect();
    match guest.home_is_shared {
        true => readable.push(guest.home.clone()),
        false => writable.push(guest.home.clone()),
    }
    writable.extend(["/dev/null", "/dev/zero", "/dev/full"].map(PathBuf::from));
    readable.extend(["/dev/random", "/dev/urandom"].map(PathBuf::from));
    (readable, writable)
}

/// A program of the host that has to be there by now.
pub(super) fn program<'a>(
    found: &'a Option<PathBuf>,
    package: &str,
) -> Result<&'a PathBuf, SandboxError> {
    found
        .as_ref()
        .ok_or_else(|| SandboxError::Missing(package.to_owned()))
}

/// Drops a helper of ours to nothing: an id without rights, no capabilities, dead with us.
pub(super) fn powerless(
    line: &mut Line,
    means: Means,
    programs: &Programs,
    uid: u32,
    in_namespace: bool,
) -> Result<(), SandboxError> {
    line.push(program(&programs.setpriv, "util-linux")?);
    line.words(["--pdeathsig", "KILL", "--no-new-privs"]);
    if means.root {
        let uid = uid.to_string();
        line.words(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    }
    // Who has no capabilities cannot drop them either.
    if means.root || in_namespace {
        line.words(["--inh-caps=-all", "--bounding-set=-all"]);
    }
    line.words(["--"]);
    Ok(())
}

/// A command line in the making.
#[derive(Default)]
pub(super) struct Line(Vec<OsString>);

impl Line {
    pub fn push(&mut self, word: impl Into<OsString>) {
        self.0.push(word.into());
    }

    pub fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn read_only(&mut self, outside: &Path, inside: &Path) {
        self.words(["--ro-bind"]);
        self.push(outside);
        self.push(inside);
    }

    /// Nothing is inherited: no variable, and no folder that might go away.
    pub fn command(self) -> Result<Command, SandboxError> {
        let mut words = self.0.into_iter();
        let program = words
            .next()
            .ok_or_else(|| SandboxError::Invalid("there is no program to run".into()))?;
        let mut command = Command::new(program);
        command.args(words).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(command)
    }
}

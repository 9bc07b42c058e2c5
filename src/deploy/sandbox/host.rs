//! What the sandbox finds on the host, and what it lays out there for its guests.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{SandboxConfig, SandboxError};

/// The host's programs that build the walls, by absolute path.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub bwrap: Option<PathBuf>,
    pub unshare: Option<PathBuf>,
    pub setpriv: Option<PathBuf>,
    pub nsenter: Option<PathBuf>,
    pub slirp4netns: Option<PathBuf>,
    pub ip: Option<PathBuf>,
}

impl Programs {
    pub fn find() -> Self {
        Programs {
            bwrap: find("bwrap"),
            unshare: find("unshare"),
            setpriv: find("setpriv"),
            nsenter: find("nsenter"),
            slirp4netns: find("slirp4netns"),
            ip: find("ip"),
        }
    }

    /// The packages of a Debian or Ubuntu machine that are missing for walls.
    pub fn missing_for_walls(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.bwrap.is_none() {
            missing.push("bubblewrap");
        }
        if self.unshare.is_none() || self.setpriv.is_none() || self.nsenter.is_none() {
            missing.push("util-linux");
        }
        missing
    }

    /// The packages that are missing for a network of a guest's own.
    pub fn missing_for_network(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.slirp4netns.is_none() {
            missing.push("slirp4netns");
        }
        if self.ip.is_none() {
            missing.push("iproute2");
        }
        missing
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A plain user's PATH often leaves out where `ip` is.
    let also = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(also)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| {
            fs::metadata(candidate).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        })
}

/// Settings of a kernel that keep everybody but root from making user namespaces: the file below
/// /proc/sys, what it then holds, and what opens it again.
const NAMESPACES: [(&str, &str, &str); 3] = [
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor keeps user namespaces from unprivileged programs, as on Ubuntu 24.04: run `sudo \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give unshare and bwrap a \
         profile with `userns` as the guide shows",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "the kernel keeps user namespaces from unprivileged programs: run `sudo sysctl -w \
         kernel.unprivileged_userns_clone=1`",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "the kernel allows no user namespaces: run `sudo sysctl -w \
         user.max_user_namespaces=15000`",
    ),
];

/// Why this host lets nobody make a user namespace, with the remedy. `sys` is /proc/sys.
pub(super) fn namespaces_closed(sys: &Path) -> Option<String> {
    let closed: Vec<&str> = NAMESPACES
        .iter()
        .filter(|(file, closed, _)| {
            fs::read_to_string(sys.join(file)).is_ok_and(|found| found.trim() == *closed)
        })
        .map(|(_, _, remedy)| *remedy)
        .collect();
    (!closed.is_empty()).then(|| closed.join("; "))
}

/// Where the files lie that every guest sees.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Our own executable, where guests' ids can reach it.
    pub launcher: PathBuf,
    /// The few files of a guest's /etc that we write ourselves.
    pub etc: PathBuf,
}

/// Makes the directories, a launcher that guests can start, and their /etc.
pub(super) fn lay_out(config: &SandboxConfig, root: bool) -> Result<Layout, SandboxError> {
    folder(&config.runtime_dir, 0o700)?;
    sweep(&config.runtime_dir);
    folder(&config.guests_dir, 0o711)?;
    if root {
        enterable(&config.guests_dir)?;
    }
    let launcher = if !root || reachable(&config.launcher) {
        config.launcher.clone()
    } else {
        publish(&config.launcher, &config.guests_dir.join(".launcher"))?
    };
    let etc = config.guests_dir.join(".etc");
    folder(&etc, 0o755)?;
    write_etc(&etc, loopback_listed(config)).map_err(at(&etc))?;
    Ok(Layout { launcher, etc })
}

/// Removes the sockets that a killed Sealport left: those at which nobody listens.
fn sweep(runtime_dir: &Path) {
    let Ok(found) = fs::read_dir(runtime_dir) else {
        return;
    };
    for path in found.flatten().map(|entry| entry.path()) {
        let answer = UnixStream::connect(&path);
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether the administrator lists the host's own loopback.
pub(super) fn loopback_listed(config: &SandboxConfig) -> bool {
    config
        .private_networks
        .iter()
        .any(|network| network.addr().is_loopback())
}

/// Makes a guest's home: its own, and nobody else's. `uid` matters only when we are root.
pub(super) fn home(home: &Path, uid: u32, root: bool) -> Result<(), SandboxError> {
    match fs::symlink_metadata(home) {
        Ok(found) if !found.is_dir() => {
            return Err(SandboxError::Invalid(format!(
                "{} is not a directory",
                home.display()
            )));
        }
        Ok(_) => {}
        Err(_) => fs::create_dir(home).map_err(at(home))?,
    }
    if root && fs::symlink_metadata(home).map_err(at(home))?.uid() != uid {
        own(home, uid).map_err(at(home))?;
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).map_err(at(home))
}

/// Gives a tree away without following a link out of it. The folder itself comes last, so that
/// an interrupted run is taken up again.
fn own(path: &Path, uid: u32) -> io::Result<()> {
    // Level by level, not by recursion: how deep it is a guest has chosen.
    let mut waiting = vec![path.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
            lchown(entry.path(), Some(uid), Some(uid))?;
        }
    }
    lchown(path, Some(uid), Some(uid))
}

fn folder(path: &Path, mode: u32) -> Result<(), SandboxError> {
    fs::create_dir_all(path).map_err(at(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

/// Guests run as ids of their own, which must be able to pass through every directory above.
fn enterable(path: &Path) -> Result<(), SandboxError> {
    let path = fs::canonicalize(path).map_err(at(path))?;
    for above in path.ancestors() {
        if fs::metadata(above).map_err(at(above))?.mode() & 0o001 == 0 {
            return Err(SandboxError::Invalid(format!(
                "Guests run as users of their own and cannot enter {}. Choose a data directory \
                 that every user may pass through, such as /var/lib/sealport.",
                above.display()
            )));
        }
    }
    Ok(())
}

fn reachable(file: &Path) -> bool {
    let Ok(file) = fs::canonicalize(file) else {
        return false;
    };
    let readable = fs::metadata(&file).is_ok_and(|found| found.mode() & 0o005 == 0o005);
    let mut above = file.ancestors().skip(1);
    readable
        && above.all(|folder| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// Puts the launcher where guests' ids can start it, under a name that changes with it.
/// Copies of earlier versions go; a guest that still runs from one keeps its file.
fn publish(launcher: &Path, shelf: &Path) -> Result<PathBuf, SandboxError> {
    let found = fs::metadata(launcher).map_err(at(launcher))?;
    let mut hash = Sha256::new();
    for number in [found.dev(), found.ino(), found.size()] {
        hash.update(number.to_be_bytes());
    }
    for number in [found.mtime(), found.mtime_nsec()] {
        hash.update(number.to_be_bytes());
    }
    let name = hex::encode(&hash.finalize()[..8]);
    folder(shelf, 0o755)?;
    let copy = shelf.join(&name).join("sealport");
    if !copy.is_file() {
        let half = tempfile::tempdir_in(shelf).map_err(at(shelf))?;
        let file = half.path().join("sealport");
        // A link costs nothing, where the file system and the file's own mode allow it.
        let linked = found.mode() & 0o005 == 0o005 && fs::hard_link(launcher, &file).is_ok();
        if !linked {
            fs::copy(launcher, &file).map_err(at(&file))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(at(&file))?;
        }
        fs::set_permissions(half.path(), fs::Permissions::from_mode(0o755)).map_err(at(shelf))?;
        let half = half.keep();
        if fs::rename(&half, shelf.join(&name)).is_err() {
            // Another start of Sealport was first, with the same file.
            let _ = fs::remove_dir_all(&half);
        }
    }
    if let Ok(others) = fs::read_dir(shelf) {
        for other in others.flatten().filter(|other| *other.file_name() != *name) {
            let _ = fs::remove_dir_all(other.path());
        }
    }
    Ok(copy)
}

fn write_etc(etc: &Path, loopback_listed: bool) -> io::Result<()> {
    let mut hosts = String::from("127.0.0.1 localhost guest\n::1 localhost\n");
    if loopback_listed {
        hosts.push_str(super::network::GATEWAY);
        hosts.push_str(" host.sealport.internal\n");
    }
    let resolver = format!("nameserver {}\n", super::network::RESOLVER);
    let open = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for (name, text) in [
        ("hosts", hosts.as_str()),
        ("resolv.user-mode", resolver.as_str()),
        ("resolv.open", open.as_str()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
        (
            "passwd",
            "guest:x:1000:1000:guest:/srv:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        ),
        ("group", "guest:x:1000:\nnogroup:x:65534:\n"),
    ] {
        let mut file = tempfile::NamedTempFile::new_in(etc)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        file.persist(etc.join(name)).map_err(|error| error.error)?;
    }
    Ok(())
}

/// An I/O error that says where.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |error| SandboxError::Host(format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_user_namespaces_is_told_with_what_opens_it() {
        let sys = tempfile::tempdir().unwrap();
        for folder in ["kernel", "user"] {
            fs::create_dir(sys.path().join(folder)).unwrap();
        }
        let set = |file: &str, value: &str| fs::write(sys.path().join(file), value).unwrap();
        assert_eq!(namespaces_closed(sys.path()), None);
        set("kernel/apparmor_restrict_unprivileged_userns", "0\n");
        set("kernel/unprivileged_userns_clone", "1\n");
        set("user/max_user_namespaces", "96365\n");
        assert_eq!(namespaces_closed(sys.path()), None);

        for (file, closed, open, remedy) in [
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "0\n",
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0\n",
                "1\n",
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                "user/max_user_namespaces",
                "0\n",
                "96365\n",
                "sysctl -w user.max_user_namespaces=15000",
            ),
        ] {
            set(file, closed);
            let said = namespaces_closed(sys.path()).unwrap();
            assert!(said.contains(remedy) && !said.contains(';'), "{said}");
            set(file, open);
        }
    }
}

//! What `sealport doctor` asks of the sandbox: whether guests can be held here, and whether some outlived their server.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{FIRST_GUEST_ID, Isolation, Outside, Sandbox, SandboxConfig, report};
use crate::model::findings::Finding;

/// Programs that a guest's first process is, outside its walls.
const STARTERS: [&str; 3] = ["bwrap", "unshare", "setpriv"];
/// Deployments number their ids from [`FIRST_GUEST_ID`]; a machine has fewer.
const GUEST_IDS: u32 = 100_000;
/// Processes that are named; of more, the number is told.
const NAMED: usize = 20;

/// A place of its own to try the sandbox out, beside the guests that run.
pub fn trial_place(guests_dir: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(".doctor-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir_in(guests_dir)
}

/// Runs a first guest with these settings.
pub async fn examine(config: SandboxConfig) -> Finding {
    let is_accepted = config.allow_unsandboxed;
    let report = match Sandbox::probe(config).await {
        Ok(sandbox) => sandbox.report(),
        Err(error) => return Finding::to_do("sandbox", error.to_string()),
    };
    let says = report.to_string();
    match (report.isolation, report.network) {
        (Isolation::Bubblewrap, Outside::UserMode) => Finding::ok("sandbox", says),
        _ if is_accepted => Finding::note("sandbox", says),
        (Isolation::None, _) => Finding::to_do(
            "sandbox",
            format!(
                "{says} Mend that, or set SEALPORT_ALLOW_UNSANDBOXED to run servers without walls."
            ),
        ),
        (Isolation::Bubblewrap, Outside::Open) => Finding::to_do(
            "sandbox",
            format!("{says} Do this: {}.", report::remedy_for_network(true)),
        ),
    }
}

/// Guests of these directories whose Sealport is gone.
pub fn orphans(guests_dir: &Path) -> Finding {
    let processes = processes();
    let root = rustix::process::geteuid().is_root();
    let guests_dir = guests_dir.to_string_lossy();
    let mut left: Vec<(i32, &str)> = processes
        .iter()
        .filter(|(pid, process)| {
            process.is_guest(&guests_dir, root) && !has_server(&processes, **pid, root)
        })
        .map(|(pid, process)| (*pid, process.name.as_str()))
        .collect();
    left.sort_unstable();
    if left.is_empty() {
        return Finding::ok("left processes", "no server outlived its Sealport");
    }
    let named: Vec<String> = left
        .iter()
        .take(NAMED)
        // A guest chooses its name, and a terminal would obey some.
        .map(|(pid, name)| format!("{pid} ({})", name.escape_debug()))
        .collect();
    let ids: Vec<String> = left
        .iter()
        .take(NAMED)
        .map(|(pid, _)| pid.to_string())
        .collect();
    Finding::to_do(
        "left processes",
        format!(
            "{} of servers whose Sealport is gone: {}. End them: kill -9 {}",
            left.len(),
            named.join(", "),
            ids.join(" ")
        ),
    )
}

struct Process {
    parent: i32,
    name: String,
    uid: u32,
    arguments: String,
    /// Whether it lives in our own user namespace, which a guest behind walls does not, whatever it calls itself.
    is_among_us: bool,
}

impl Process {
    fn is_guest(&self, guests_dir: &str, root: bool) -> bool {
        let is_its_start =
            STARTERS.contains(&self.name.as_str()) && self.arguments.contains(guests_dir);
        self.has_guest_id(root) || is_its_start
    }

    /// Only root gives guests ids of their own.
    fn has_guest_id(&self, root: bool) -> bool {
        root && (FIRST_GUEST_ID..FIRST_GUEST_ID + GUEST_IDS).contains(&self.uid)
    }

    /// Sealport itself, and not what it is inside a guest, nor a guest by that name.
    fn is_server(&self, root: bool) -> bool {
        self.name == "sealport"
            && self.is_among_us
            && !self.has_guest_id(root)
            && !self.arguments.contains("\0guest-")
    }
}

/// Whether a Sealport stands above it.
fn has_server(processes: &HashMap<i32, Process>, pid: i32, root: bool) -> bool {
    let Some(guest) = processes.get(&pid) else {
        return false;
    };
    let mut at = guest.parent;
    // No deeper than there are processes: the picture is not of one moment, and could have a circle.
    for _ in 0..processes.len() {
        match processes.get(&at) {
            Some(process) if process.is_server(root) => return true,
            Some(process) => at = process.parent,
            None => return false,
        }
    }
    false
}

fn processes() -> HashMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let ours = UserNamespace::of(Path::new("/proc/self"));
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, process(&entry.path(), &ours)?))
        })
        .collect()
}

/// None for one that ended meanwhile.
fn process(dir: &Path, ours: &UserNamespace) -> Option<Process> {
    // Not text: a name can be any bytes, and one that is no text would hide its process.
    let stat = fs::read(dir.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // proc_pid_stat(5): the name stands in parentheses and may hold some itself.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    let is_dead = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    if is_dead {
        return None;
    }
    Some(Process {
        parent,
        name: name.to_owned(),
        uid: fs::metadata(dir).ok()?.uid(),
        arguments: String::from_utf8_lossy(&fs::read(dir.join("cmdline")).ok()?).into_owned(),
        is_among_us: UserNamespace::of(dir).is(ours),
    })
}

/// Which ids a process has to do with: its user namespace, by what can be seen of it.
struct UserNamespace {
    /// As in `user:[4026531837]`.
    name: Option<PathBuf>,
    /// Which ids inside are which outside.
    ids: Option<String>,
}

impl UserNamespace {
    fn of(process: &Path) -> Self {
        UserNamespace {
            name: fs::read_link(process.join("ns/user")).ok(),
            ids: fs::read_to_string(process.join("uid_map")).ok(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (&self.name, &other.name) {
            (Some(name), Some(other)) => name == other,
            // A Sealport that runs is closed even to its own user (`harden_self`). The ids stay to be read, and those of a guest's
            // namespace are a few of ours under other numbers.
            _ => self.ids.is_some() && self.ids == other.ids,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(parent: i32, name: &str, arguments: &str) -> Process {
        Process {
            parent,
            name: name.into(),
            uid: 1000,
            arguments: arguments.into(),
            is_among_us: true,
        }
    }

    fn left(all: &HashMap<i32, Process>, root: bool) -> Vec<i32> {
        let mut left: Vec<i32> = all
            .iter()
            .filter(|(pid, process)| {
                process.is_guest("/data/guests", root) && !has_server(all, **pid, root)
            })
            .map(|(pid, _)| *pid)
            .collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn a_guest_is_left_when_no_sealport_stands_above_it() {
        let chain = "bwrap\0--bind\0/data/guests/a\0/srv\0--\0/sealport\0guest-launch\0";
        let all = HashMap::from([
            (1, process(0, "init", "init\0")),
            (10, process(1, "sealport", "sealport\0serve\0")),
            (11, process(10, "bwrap", chain)),
            (20, process(1, "bwrap", chain)),
            // What stands inside a guest is no server, whatever its name.
            (30, process(1, "sealport", "/sealport\0guest-launch\0")),
            (31, process(30, "bwrap", chain)),
            (40, process(1, "less", "less\0/data/guests/a/log\0")),
        ]);
        assert_eq!(left(&all, false), [20, 31]);
        assert!(!all[&20].is_guest("/other/guests", false));
    }

    #[test]
    fn a_guest_that_calls_itself_sealport_has_no_server_by_that() {
        let chain = "bwrap\0--bind\0/data/guests/a\0";
        let with_id = |process: Process| Process {
            uid: FIRST_GUEST_ID,
            ..process
        };
        let walled = |process: Process| Process {
            is_among_us: false,
            ..process
        };
        let deceivers = || {
            HashMap::from([
                (1, process(0, "init", "init\0")),
                // By its id, alone and above another.
                (10, with_id(process(1, "sealport", "node\0"))),
                (11, with_id(process(10, "node", "node\0"))),
                // Behind walls, where it is another user to itself.
                (20, walled(process(1, "sealport", "node\0"))),
                (21, walled(process(20, "bwrap", chain))),
            ])
        };
        assert_eq!(left(&deceivers(), true), [10, 11, 21]);
        assert_eq!(left(&deceivers(), false), [21]);
        // Below a real one they are held, whatever stands between.
        let mut held = deceivers();
        held.insert(1, process(0, "sealport", "sealport\0serve\0"));
        assert_eq!(left(&held, true), [0; 0]);
    }

    #[test]
    fn a_process_of_ours_is_seen_with_its_parent() {
        let own = processes();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(own[&pid].parent > 0);
        assert!(!own[&pid].arguments.is_empty());
        assert!(own[&pid].is_among_us);
    }

    #[test]
    fn a_server_that_is_closed_to_us_is_known_by_its_ids() {
        let seen = |name: Option<&str>, ids: Option<&str>| UserNamespace {
            name: name.map(PathBuf::from),
            ids: ids.map(String::from),
        };
        let ours = seen(Some("user:[1]"), Some("0 0 4294967295"));
        assert!(seen(Some("user:[1]"), None).is(&ours));
        assert!(seen(None, Some("0 0 4294967295")).is(&ours));
        assert!(!seen(None, Some("1000 1000 1")).is(&ours));
        assert!(!seen(None, None).is(&seen(None, None)));
        // What can be seen of the namespace itself decides.
        assert!(!seen(Some("user:[2]"), Some("0 0 4294967295")).is(&ours));
    }
}

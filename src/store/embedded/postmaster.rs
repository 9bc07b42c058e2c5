//! PostgreSQL's processes: making a cluster, starting it, seeing whether it runs, stopping it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use super::binaries::{self, Binaries};
use super::system_user::{self, SystemUser};
use super::{EmbeddedError, Settings, configuration};
use crate::store::data_dir::{self, DataDir, failed, make_dir, make_private_dir};

pub(super) const PORT: u16 = 5432;

const POLL: Duration = Duration::from_millis(20);

/// Replaying the log after a crash can take minutes, and a start that gives up helps nobody.
const START_TIMEOUT: Duration = Duration::from_secs(600);

const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(60);
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the processes of a killed postmaster may take to notice its end.
const ORPHANS_TIMEOUT: Duration = Duration::from_secs(20);

const LOG_MAX_BYTES: u64 = 2 * 1024 * 1024;
const LOG_KEPT_BYTES: u64 = 256 * 1024;

/// A cluster's paths, and whom it runs as.
#[derive(Debug)]
pub(super) struct Postmaster {
    home: PathBuf,
    cluster: PathBuf,
    configuration: PathBuf,
    log: PathBuf,
    socket_dir: PathBuf,
    owner: u32,
    user: Option<SystemUser>,
    settings: Settings,
    data: DataDir,
}

/// A running postmaster, by its own word.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    pub(super) socket_dir: PathBuf,
    pub(super) port: u16,
    ready: bool,
}

impl Postmaster {
    pub(super) fn new(data: &DataDir, settings: &Settings) -> Result<Postmaster, EmbeddedError> {
        let home = data.postgres_dir();
        let user = if data.uid() == 0 {
            Some(system_user::for_postgres(&home)?)
        } else {
            None
        };
        let owner = user.map_or(data.uid(), |user| user.uid);
        make_private_dir(&home, owner)?;
        let configuration = data.place().join("postgres.conf.d");
        make_dir(&configuration, 0o755)?;
        Ok(Postmaster {
            cluster: home.join("data"),
            configuration,
            log: data.place().join("postgres.log"),
            socket_dir: data.socket_path(user.is_some()),
            home,
            owner,
            user,
            settings: settings.clone(),
            data: data.clone(),
        })
    }

    /// The postmaster of this cluster, if one lives.
    pub(super) fn running(&self) -> Option<Running> {
        let text = fs::read_to_string(self.cluster.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let pid = Pid::from_raw(lines.first()?.parse().ok()?)?;
        if !self.is_ours(pid) {
            return None;
        }
        // Lines as in PostgreSQL's pidfile.h: 4 is the port, 5 the socket directory, 8 the state.
        Some(Running {
            pid,
            port: lines
                .get(3)
                .and_then(|port| port.parse().ok())
                .unwrap_or(PORT),
            socket_dir: lines
                .get(4)
                .filter(|dir| !dir.is_empty())
                .map_or_else(|| self.socket_dir.clone(), PathBuf::from),
            ready: lines.get(7) == Some(&"ready"),
        })
    }

    /// Makes the cluster when there is none, starts it, and waits until it takes connections.
    pub(super) async fn launch(&self) -> Result<(Child, Running), EmbeddedError> {
        let wanted = self.version()?;
        let programs = binaries::find_or_fetch(
            &self.data,
            wanted,
            self.settings.binary_dirs.as_deref(),
            self.user.is_some(),
        )
        .await?;
        if wanted.is_none() {
            self.make_cluster(&programs).await?;
        }
        self.write_configuration()?;
        if self.user.is_none() {
            self.data.runtime_dir()?;
        }
        make_private_dir(&self.socket_dir, self.owner)?;

        let deadline = Instant::now() + ORPHANS_TIMEOUT;
        loop {
            self.remove_stale_locks()?;
            match self.start(&programs).await {
                // The postmaster was killed and its processes have not ended yet.
                Err(EmbeddedError::DidNotStart { log, .. })
                    if log.contains("pre-existing shared memory block")
                        && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                other => return other,
            }
        }
    }

    /// Waits until a postmaster that we did not start takes connections; `None` when it ends first.
    pub(super) async fn adopt(&self) -> Result<Option<Running>, EmbeddedError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while let Some(running) = self.running() {
            if running.ready {
                return Ok(Some(running));
            }
            self.wait_a_little(deadline).await?;
        }
        Ok(None)
    }

    /// Ends when the postmaster has ended.
    pub(super) async fn ended(&self, pid: Pid, child: Option<&mut Child>) {
        match child {
            Some(child) => {
                let _ = child.wait().await;
            }
            None => {
                while self.is_ours(pid) {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }

    /// Stops PostgreSQL: open transactions are rolled back, everything committed is on disk.
    pub(super) async fn stop(&self, mut child: Option<Child>) -> Result<(), EmbeddedError> {
        for (signal, timeout) in [
            (Signal::INT, FAST_STOP_TIMEOUT),
            // Without a checkpoint: the next start replays the log.
            (Signal::QUIT, IMMEDIATE_STOP_TIMEOUT),
        ] {
            let Some(running) = self.running() else {
                break;
            };
            let _ = rustix::process::kill_process(running.pid, signal);
            let ended = async {
                match &mut child {
                    Some(child) => {
                        let _ = child.wait().await;
                    }
                    None => {
                        while self.is_ours(running.pid) {
                            tokio::time::sleep(POLL).await;
                        }
                    }
                }
            };
            if tokio::time::timeout(timeout, ended).await.is_ok() {
                break;
            }
            tracing::warn!(?signal, "PostgreSQL did not stop in time");
        }
        if self.running().is_some() {
            return Err(EmbeddedError::DidNotStop);
        }
        // What lies outside the data directory is not left behind.
        let _ = fs::remove_dir(&self.socket_dir);
        Ok(())
    }

    /// Asks PostgreSQL to stop, without waiting.
    pub(super) fn ask_to_stop(&self) {
        if let Some(running) = self.running() {
            let _ = rustix::process::kill_process(running.pid, Signal::INT);
        }
    }

    /// Keeps the log file bounded.
    pub(super) fn bound_log(&self) -> std::io::Result<()> {
        bound(&self.log, LOG_MAX_BYTES, LOG_KEPT_BYTES)
    }

    /// The major version that the cluster was made by; `None` without a cluster.
    fn version(&self) -> Result<Option<u32>, EmbeddedError> {
        match fs::read_to_string(self.cluster.join("PG_VERSION")) {
            Ok(text) => Ok(binaries::major_of(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.cluster.join("PG_VERSION"))(error).into()),
        }
    }

    /// Runs initdb beside the cluster's place and moves the result there, so that a killed first
    /// start leaves no half of a cluster.
    async fn make_cluster(&self, programs: &Binaries) -> Result<(), EmbeddedError> {
        let fresh = self.home.join("data.new");
        let mut output = None;
        // C.UTF-8 knows letters beyond ASCII; not every C library has it.
        for locale in ["C.UTF-8", "C"] {
            if fresh.exists() {
                fs::remove_dir_all(&fresh).map_err(failed("remove", &fresh))?;
            }
            let mut command = self.command(&programs.dir.join("initdb"));
            command
                .arg("--pgdata")
                .arg(&fresh)
                .args(["--username=postgres", "--encoding=UTF8"])
                .arg(format!("--locale={locale}"))
                .args([
                    "--auth-local=peer",
                    "--auth-host=reject",
                    "--no-instructions",
                ]);
            if !self.settings.durable {
                command.arg("--no-sync");
            }
            let result = command
                .kill_on_drop(true)
                .output()
                .await
                .map_err(failed("run", &programs.dir.join("initdb")))?;
            let success = result.status.success();
            output = Some(result);
            if success {
                break;
            }
        }
        if let Some(output) = output.filter(|output| !output.status.success()) {
            return Err(EmbeddedError::NoCluster {
                output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        fs::rename(&fresh, &self.cluster).map_err(failed("move", &fresh))?;
        File::open(&self.home)
            .and_then(|home| home.sync_all())
            .map_err(failed("write", &self.home))?;
        Ok(())
    }

    /// The configuration lies outside PostgreSQL's own directory: when we are root, nothing that
    /// PostgreSQL's user could change decides where root writes or who may connect.
    fn write_configuration(&self) -> Result<(), EmbeddedError> {
        let own_name = system_user::own_name()?;
        for (name, text) in [
            (
                "postgresql.conf",
                configuration::server(&self.cluster, &self.socket_dir, PORT, &self.settings),
            ),
            ("pg_hba.conf", configuration::access()),
            (
                "pg_ident.conf",
                configuration::identities(&own_name, &self.settings),
            ),
        ] {
            let path = self.configuration.join(name);
            fs::write(&path, text).map_err(failed("write", &path))?;
            data_dir::set_mode(&path, 0o644)?;
        }
        Ok(())
    }

    async fn start(&self, programs: &Binaries) -> Result<(Child, Running), EmbeddedError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(failed("open", &self.log))?;
        let log_start = log.metadata().map_err(failed("look at", &self.log))?.len();
        let stdout = log.try_clone().map_err(failed("open", &self.log))?;

        let setting = |name: &str, file: &str| {
            let mut argument = std::ffi::OsString::from(format!("{name}="));
            argument.push(self.configuration.join(file));
            argument
        };
        let program = programs.dir.join("postgres");
        let mut command = self.command(&program);
        command
            .arg("-D")
            .arg(&self.cluster)
            .arg("-c")
            .arg(setting("config_file", "postgresql.conf"))
            .arg("-c")
            .arg(setting("hba_file", "pg_hba.conf"))
            .arg("-c")
            .arg(setting("ident_file", "pg_ident.conf"))
            // Here, so that not even `alter system` opens a port.
            .args(["-c", "listen_addresses="])
            .stdout(stdout)
            .stderr(log)
            // Ctrl-C in a terminal must reach Sealport alone, which then stops PostgreSQL in order.
            .process_group(0);
        let mut child = command.spawn().map_err(failed("run", &program))?;

        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = child.try_wait().map_err(failed("wait for", &program))? {
                return Err(EmbeddedError::DidNotStart {
                    status: status.to_string(),
                    log: self.log_since(log_start),
                });
            }
            if let Some(running) = self.running().filter(|running| running.ready) {
                return Ok((child, running));
            }
            if let Err(error) = self.wait_a_little(deadline).await {
                let _ = child.start_kill();
                return Err(error);
            }
        }
    }

    /// A command that runs as PostgreSQL's user, with nothing of our environment: what stands in
    /// it can be a secret.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .current_dir(&self.home);
        if let Some(zone) = std::env::var_os("TZ") {
            command.env("TZ", zone);
        }
        if let Some(user) = self.user {
            // Setting the user as root also drops our supplementary groups.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// PostgreSQL takes its own stale lock files for a living postmaster's when the process id in
    /// them is in use: by another process after a container's restart, or by a dead postmaster that
    /// process 1 has not reaped. That no process of the old postmaster's is left, PostgreSQL also
    /// tells from its shared memory.
    fn remove_stale_locks(&self) -> Result<(), EmbeddedError> {
        for path in [
            self.cluster.join("postmaster.pid"),
            self.socket_dir.join(format!(".s.PGSQL.{PORT}.lock")),
        ] {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let pid = text
                .lines()
                .next()
                .and_then(|line| Pid::from_raw(line.trim().parse().ok()?));
            if pid.is_some_and(|pid| state_of(pid).is_some() && !self.is_ours(pid)) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Whether a living process is this cluster's postmaster: one that was started for it.
    fn is_ours(&self, pid: Pid) -> bool {
        if state_of(pid).is_none_or(|state| matches!(state, 'Z' | 'X')) {
            return false;
        }
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let named = fs::read(proc.join("cmdline")).is_ok_and(|arguments| {
            arguments
                .split(|byte| *byte == 0)
                .any(|argument| argument == self.cluster.as_os_str().as_bytes())
        });
        named || fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == self.cluster)
    }

    async fn wait_a_little(&self, deadline: Instant) -> Result<(), EmbeddedError> {
        if Instant::now() >= deadline {
            return Err(EmbeddedError::NotReady {
                seconds: START_TIMEOUT.as_secs(),
                log: self.log.clone(),
            });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    fn log_since(&self, start: u64) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len().saturating_sub(start);
            read_tail(&mut file, length.min(4096))
        };
        String::from_utf8_lossy(&read().unwrap_or_default())
            .trim()
            .to_owned()
    }
}

/// When a log is longer than `max` bytes, moves its last `kept` aside and starts it again.
fn bound(log: &Path, max: u64, kept: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(log)?;
    if file.metadata()?.len() <= max {
        return Ok(());
    }
    let tail = read_tail(&mut file, kept)?;
    let mut aside = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(log.with_extension("log.1"))?;
    aside.write_all(&tail)?;
    // PostgreSQL appends, so it goes on at the new end.
    file.set_len(0)
}

fn read_tail(file: &mut File, bytes: u64) -> std::io::Result<Vec<u8>> {
    let start = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The state letter of a process (proc_pid_stat(5)); `None` when there is no such process.
fn state_of(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name before it stands in parentheses and can hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::{bound, state_of};
    use rustix::process::Pid;

    #[test]
    fn a_log_stays_bounded_and_its_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("postgres.log");
        let mut writer = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        writer.write_all(b"0123456789").unwrap();
        bound(&log, 10, 4).unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"0123456789", "not over its limit");

        writer.write_all(b"ab").unwrap();
        bound(&log, 10, 4).unwrap();
        writer.write_all(b"next").unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"next");
        assert_eq!(
            fs::read(dir.path().join("postgres.log.1")).unwrap(),
            b"89ab"
        );
    }

    #[test]
    fn a_process_has_a_state_while_it_lives() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        assert!(state_of(own).is_some_and(|state| matches!(state, 'R' | 'S')));
        assert_eq!(state_of(Pid::from_raw(i32::MAX).unwrap()), None);
    }
}

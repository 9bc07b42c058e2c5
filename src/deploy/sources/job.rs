//! A job: programs run one after the other in guests of one home, within one time, one room on the disk and one
//! amount of output.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::deploy::masks::Masks;
use crate::deploy::sandbox::{GuestNetwork, GuestSpec, Limits, Sandbox, kept_bytes};
use crate::model::deployments::LOG_LINE_LEN_BYTES;

use super::failure::SourceFailure;
use super::settings::InstallSettings;
use super::text;
use super::tree::Tree;

/// Lines that one job may add to a log.
const LOG_LINES_MAX: usize = 5_000;
/// Lines that a failure shows.
const LAST_LINES: usize = 20;
/// What is kept of a program whose answer is wanted.
const ANSWER_LEN_BYTES: usize = 1024 * 1024;
/// How often the room on the disk is looked at.
const DISK_POLL: Duration = Duration::from_secs(2);

pub(super) struct Job<'a> {
    pub sandbox: &'a Sandbox,
    pub settings: &'a InstallSettings,
    pub home: &'a Path,
    pub uid: u32,
    pub deadline: Instant,
    pub disk_max_bytes: u64,
    pub log: Option<&'a mpsc::Sender<String>>,
    /// The fetch key, which no line may show.
    pub masks: Masks,
    pub lines: AtomicUsize,
}

/// One program of a job.
pub(super) struct Call<'a> {
    pub argv: Vec<String>,
    /// As the guest sees it.
    pub cwd: &'a str,
    pub env: Vec<(String, SecretString)>,
    pub network: GuestNetwork,
}

impl<'a> Call<'a> {
    pub fn new(cwd: &'a str, argv: &[&str]) -> Self {
        Call {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            cwd,
            env: Vec::new(),
            network: GuestNetwork::None,
        }
    }

    pub fn online(mut self) -> Self {
        self.network = GuestNetwork::Outgoing;
        self
    }

    pub fn word(mut self, word: impl Into<String>) -> Self {
        self.argv.push(word.into());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), SecretString::from(value)));
        self
    }

    pub fn secret(mut self, name: &str, value: SecretString) -> Self {
        self.env.push((name.to_owned(), value));
        self
    }
}

/// What a program did.
pub(super) struct Done {
    pub success: bool,
    /// Its standard output, bounded.
    pub answer: String,
    /// Its last lines, cleaned.
    pub last: Vec<String>,
}

impl Done {
    /// The last lines in one, for looking for a known error.
    pub fn said(&self) -> String {
        self.last.join("\n")
    }
}

impl Job<'_> {
    /// The way in which a build tool keeps its own files: removed with the job.
    pub const SCRATCH: &'static str = ".build";

    /// Errors: it could not start, took too long, or filled the disk. That it ended badly is no error here.
    pub async fn run(&self, call: Call<'_>) -> Result<Done, SourceFailure> {
        let program = call
            .argv
            .first()
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .unwrap_or_default();
        let spec = GuestSpec {
            uid: self.uid,
            home: self.home.to_owned(),
            home_is_shared: false,
            data: None,
            cwd: Some(call.cwd.into()),
            read_only: self.settings.read_only.clone(),
            argv: call.argv,
            env: self.environment(call.env),
            network: call.network,
            listen: None,
            limits: Limits {
                // Compilers and bundlers take more than servers do.
                memory_bytes: 4 << 30,
                ..Limits::default()
            },
        };
        let mut guest = self.sandbox.spawn(spec).await.map_err(|error| {
            SourceFailure::unavailable(format!("The sandbox could not start {program}: {error}"))
        })?;
        drop(guest.stdin.take());
        let (stdout, stderr) = (guest.stdout.take(), guest.stderr.take());
        let last = std::sync::Mutex::new(VecDeque::new());
        let mut answer = Vec::new();
        let reading = async {
            tokio::join!(
                self.read(stdout, Some(&mut answer), &last),
                self.read(stderr, None, &last),
            );
        };
        let outcome = tokio::select! {
            biased;
            // Waiting ends what the program left behind, which would keep its output open.
            outcome = async { tokio::join!(reading, guest.wait()).1 } => Ok(outcome),
            () = tokio::time::sleep_until(self.deadline) => Err(SourceFailure::wrong(format!(
                "{program} took too long and was stopped."
            ))),
            failure = self.watch_disk() => Err(failure),
        };
        let last: Vec<String> = last.into_inner().unwrap_or_default().into();
        match outcome {
            Ok(exit) => Ok(Done {
                success: exit.success(),
                answer: String::from_utf8_lossy(&answer).into_owned(),
                last,
            }),
            Err(failure) => {
                guest.stop(Duration::ZERO).await;
                Err(failure.with_output(last))
            }
        }
    }

    /// As `run`; a bad end becomes the failure that `explain` makes of the last lines.
    pub async fn must(
        &self,
        call: Call<'_>,
        explain: impl FnOnce(&str) -> String,
    ) -> Result<Done, SourceFailure> {
        let done = self.run(call).await?;
        match done.success {
            true => Ok(done),
            false => {
                let sentence = explain(&done.said());
                Err(SourceFailure::wrong(sentence).with_output(done.last))
            }
        }
    }

    /// Unpacks `/srv/look/<archive>` into `/srv/look/package`, without the folder that all of it lies in.
    pub fn unpack(&self, archive: &str) -> Result<Call<'static>, SourceFailure> {
        let call = Call::new(
            "/srv/look",
            &[
                &self.program("tar", "tar")?,
                "--extract",
                "--gzip",
                "--no-same-owner",
                "--no-same-permissions",
                "--strip-components=1",
                "--directory=package",
                "--file",
            ],
        );
        Ok(call.word(archive))
    }

    /// A remark of ours, among the installers' lines.
    pub async fn say(&self, line: &str) {
        if let Some(log) = self.log {
            let _ = log.send(line.to_owned()).await;
        }
    }

    /// Removes a directory of the home, if it is there.
    pub async fn remove(&self, name: &'static str) -> Result<(), SourceFailure> {
        let home = self.home.to_owned();
        tokio::task::spawn_blocking(move || Tree::remove(&home, name))
            .await
            .map_err(|_| SourceFailure::unavailable("Cleaning up was cut off."))?
            .map_err(|error| broken(&error))
    }

    /// A program of this machine that guests see too, as they see it. Errors: there is none, or they cannot use it.
    pub fn program(&self, name: &str, package: &str) -> Result<String, SourceFailure> {
        if let Some(path) = self.sandbox.program(name) {
            return Ok(path.to_string_lossy().into_owned());
        }
        let sentence = match self.sandbox.why_without(name) {
            Some(why) => format!("This machine has no {name} that servers can use. {why}"),
            None => format!(
                "This machine has no {name}, which this source needs. Its operator can install the package {package}."
            ),
        };
        Err(SourceFailure::unavailable(sentence))
    }

    /// Removes one file of `/srv/app`, from inside: a path of two steps is not safe from outside.
    pub async fn remove_in_app(&self, file: &str) -> Result<(), SourceFailure> {
        let call =
            Call::new("/srv/app", &[&self.program("rm", "coreutils")?, "-f", "--"]).word(file);
        self.must(call, |_| "An old lock file could not be removed.".into())
            .await?;
        Ok(())
    }

    /// The home as a tree, for reading and writing from outside.
    pub fn tree(&self) -> Result<Tree, SourceFailure> {
        Tree::open(self.home).map_err(|error| SourceFailure::unavailable(error.to_string()))
    }

    /// New files belong to the guest where we may give them away.
    pub fn owner(&self) -> Option<u32> {
        rustix::process::geteuid().is_root().then_some(self.uid)
    }

    fn environment(&self, own: Vec<(String, SecretString)>) -> Vec<(String, SecretString)> {
        let fixed = [
            // Not /srv: what a server wrote there, such as an .npmrc, must not steer its next install.
            ("HOME", "/srv/.build"),
            ("TMPDIR", "/srv/.build/tmp"),
            ("LANG", "C.UTF-8"),
            ("CI", "true"),
            ("NO_COLOR", "1"),
            ("npm_config_cache", "/srv/.build/npm"),
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_update_notifier", "false"),
            ("npm_config_progress", "false"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PIP_NO_INPUT", "1"),
            ("PIP_CACHE_DIR", "/srv/.build/pip"),
            ("PIP_PROGRESS_BAR", "off"),
            ("PIP_CONFIG_FILE", "/dev/null"),
            // The history is gone by the time of the build, and these tools ask it for a version.
            ("SETUPTOOLS_SCM_PRETEND_VERSION", "0.0.0"),
            ("PBR_VERSION", "0.0.0"),
        ];
        self.settings
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(fixed)
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
            .chain(own)
            .collect()
    }

    async fn watch_disk(&self) -> SourceFailure {
        loop {
            tokio::time::sleep(DISK_POLL).await;
            let (home, max) = (self.home.to_owned(), self.disk_max_bytes);
            // By descriptors, not by names: a program can give its folders names that no path and no text can hold.
            let size = tokio::task::spawn_blocking(move || {
                kept_bytes(&[home], &AtomicBool::new(false)).unwrap_or(0)
            })
            .await
            .unwrap_or(0);
            if size > max {
                return SourceFailure::wrong(format!(
                    "It takes more room than the {} MiB that a source may.",
                    max / (1024 * 1024)
                ));
            }
        }
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        from: Option<R>,
        mut answer: Option<&mut Vec<u8>>,
        last: &std::sync::Mutex<VecDeque<String>>,
    ) {
        let Some(mut from) = from else {
            return;
        };
        let mut buffer = vec![0_u8; 16 * 1024];
        let mut line: Vec<u8> = Vec::new();
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            if let Some(answer) = answer.as_deref_mut() {
                let room = ANSWER_LEN_BYTES.saturating_sub(answer.len());
                answer.extend_from_slice(&buffer[..read.min(room)]);
            }
            for byte in &buffer[..read] {
                match byte {
                    b'\n' | b'\r' => self.line(&std::mem::take(&mut line), last).await,
                    // The rest of a long line is dropped, its end still ends it.
                    _ if line.len() <= LOG_LINE_LEN_BYTES * 2 => line.push(*byte),
                    _ => {}
                }
            }
        }
        self.line(&line, last).await;
    }

    async fn line(&self, raw: &[u8], last: &std::sync::Mutex<VecDeque<String>>) {
        // Cleaned before it is masked, for what is removed could join the pieces of a key; cut last, for a piece is no match.
        let shown = text::output(&String::from_utf8_lossy(raw), usize::MAX);
        let shown = if raw.len() > LOG_LINE_LEN_BYTES * 2 {
            "(a line too long to keep)".to_owned()
        } else {
            text::output(&self.masks.text(&shown), LOG_LINE_LEN_BYTES - 4)
        };
        // npm warns of settings that only its build tools read, on every call.
        if shown.is_empty() || shown.starts_with("npm warn Unknown ") {
            return;
        }
        if let Ok(mut last) = last.lock() {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(text::line(&shown, 400));
        }
        let Some(log) = self.log else {
            return;
        };
        // A log that nobody takes from holds the program back, until its time is over.
        match self.lines.fetch_add(1, Ordering::Relaxed) {
            n if n < LOG_LINES_MAX => drop(log.send(shown).await),
            n if n == LOG_LINES_MAX => {
                drop(log.send("(more lines than are kept)".into()).await);
            }
            _ => {}
        }
    }
}

pub(super) fn broken(error: &std::io::Error) -> SourceFailure {
    SourceFailure::unavailable(format!(
        "The deployment's directory cannot be used: {}.",
        error.kind()
    ))
}

//! From a source to what runs: inspecting it, fetching it, installing it. Everything foreign happens in the sandbox,
//! and what a guest wrote is read without following its links.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::sources::{Inspection, Source, StartPlan, Transport};

use super::masks::Masks;
use super::sandbox::Sandbox;

pub use command::typed as typed_command;
pub use failure::SourceFailure;
pub use hosts::SourceHosts;
pub(super) use hosts::Unfit;
pub use install::Installed;
pub use settings::InstallSettings;

use detect::{Detected, Kind, Project, detect};
use job::{Job, broken};
use tree::Tree;

pub mod variables;

mod install;

mod dir;
mod git;
mod npm;
mod pypi;

mod hosts;
mod job;
mod settings;

mod detect;

mod code;
mod mcpb;
mod package_json;
mod python;
mod server_json;

mod command;
mod failure;
mod text;
mod tree;

/// What looking at a source, or installing it, may take.
#[derive(Clone, Copy, Debug)]
pub struct WorkLimits {
    pub inspect_timeout: Duration,
    pub install_timeout: Duration,
    /// Bytes on the disk, of everything in the home.
    pub inspect_disk_bytes: u64,
    pub install_disk_bytes: u64,
}

impl Default for WorkLimits {
    fn default() -> Self {
        WorkLimits {
            inspect_timeout: Duration::from_secs(3 * 60),
            install_timeout: Duration::from_secs(10 * 60),
            inspect_disk_bytes: 1 << 30,
            install_disk_bytes: 4 << 30,
        }
    }
}

/// Where sources are looked at and installed. Cheap to clone.
#[derive(Clone)]
pub struct Workshop {
    sandbox: Sandbox,
    settings: InstallSettings,
    dir_roots: Vec<PathBuf>,
    hosts: SourceHosts,
    limits: WorkLimits,
}

/// What someone wants to know of a source.
pub struct SourceAsk {
    pub source: Source,
    /// The credential of a private repository or registry.
    pub fetch_key: Option<SecretString>,
    /// What was typed instead of what the source says; the program first.
    pub command: Option<Vec<String>>,
    /// What was chosen instead of what the source says.
    pub transport: Option<Transport>,
    /// Directories of this machine are for administrators.
    pub administrator: bool,
}

/// A command line as it was typed, before it is kept anywhere. Errors: `Invalid` at `command` when it seems to hold a secret.
pub fn check_command(line: &str) -> Result<(), Refusal> {
    // Where the quotes do not close the words themselves are looked at.
    let words = shell_words::split(line)
        .unwrap_or_else(|_| line.split_whitespace().map(str::to_owned).collect());
    detect::refuse_secrets_in(&words).map_err(|why| Refusal::invalid("command", why))
}

impl Workshop {
    /// `dir_roots`: where directory sources may lie. `hosts`: extra hosts that repositories may be fetched from.
    pub fn new(
        sandbox: Sandbox,
        settings: InstallSettings,
        dir_roots: Vec<PathBuf>,
        hosts: SourceHosts,
    ) -> Self {
        Workshop {
            sandbox,
            settings,
            dir_roots,
            hosts,
            limits: WorkLimits::default(),
        }
    }

    pub fn with_limits(mut self, limits: WorkLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Looks at a source in `home`, a directory that is empty and for this alone; the caller removes it.
    /// `progress` is told what is being done, in short sentences.
    /// Errors: why the source cannot be used, or why this machine cannot look at it.
    pub async fn inspect(
        &self,
        ask: &SourceAsk,
        home: &Path,
        uid: u32,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Inspection, SourceFailure> {
        if let Some(Transport::Http { path }) = &ask.transport
            && !server_json::is_plain_path(path)
        {
            return Err(SourceFailure::wrong(
                "The path of an HTTP server looks like /mcp.",
            ));
        }
        if let Some(words) = &ask.command {
            command::program(words).map_err(SourceFailure::wrong)?;
        }
        let job = self
            .job(
                home,
                uid,
                ask.fetch_key.as_ref(),
                self.limits.inspect_timeout,
                self.limits.inspect_disk_bytes,
                None,
            )
            .await?;
        job.remove("look").await?;
        let looked = self.look_at(&job, ask, progress).await;
        for made in ["look", "venv", Job::SCRATCH] {
            job.remove(made).await?;
        }
        let (resolved, found) = looked?;
        Ok(Inspection {
            title: match found.title.as_str() {
                "" => text::line(&resolved.to_string(), text::TITLE_LEN),
                title => text::line(title, text::TITLE_LEN),
            },
            description: text::line(&found.description, text::SENTENCE_LEN),
            start: StartPlan {
                runtime: found.runtime,
                command: found.command,
                transport: ask
                    .transport
                    .clone()
                    .or(found.transport)
                    .unwrap_or(Transport::Stdio),
                said_by: text::line(&found.said_by, text::TITLE_LEN),
                wants: Vec::new(),
            },
            variables: found.wanted,
            notes: found
                .notes
                .iter()
                .take(20)
                .map(|note| text::line(note, text::SENTENCE_LEN))
                .collect(),
            resolved,
        })
    }

    /// Makes what `inspect` pinned ready to run in `home`, the deployment's own directory. Nothing else runs in it
    /// meanwhile. Whether the actor may use a directory of this machine was asked when the source was chosen; here
    /// only its root is checked again. `/srv/app` and `/srv/venv` are made anew; what a server keeps in `/data` is not in this home.
    /// `log` gets the installers' lines; `step` is called as `Fetch` and `Install` begin.
    /// Errors: why it could not be fetched or installed.
    #[expect(
        clippy::too_many_arguments,
        reason = "one caller, and each is its own thing"
    )]
    pub async fn fetch_and_install(
        &self,
        pinned: &Source,
        start: &StartPlan,
        fetch_key: Option<&SecretString>,
        home: &Path,
        uid: u32,
        log: mpsc::Sender<String>,
        step: &(dyn Fn(StepName) + Send + Sync),
    ) -> Result<Installed, SourceFailure> {
        let job = self
            .job(
                home,
                uid,
                fetch_key,
                self.limits.install_timeout,
                self.limits.install_disk_bytes,
                Some(&log),
            )
            .await?;
        let install = install::Install {
            job: &job,
            workshop: self,
            source: pinned,
            start,
            key: fetch_key,
        };
        let installed = install.run(step).await;
        job.remove(Job::SCRATCH).await?;
        installed
    }

    async fn look_at(
        &self,
        job: &Job<'_>,
        ask: &SourceAsk,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(Source, Detected), SourceFailure> {
        let (key, typed) = (ask.fetch_key.as_ref(), ask.command.as_deref());
        match &ask.source {
            Source::Npm { package, version } => {
                npm::inspect(job, package, version.as_deref(), key, typed, progress).await
            }
            Source::Pypi { package, version } => {
                pypi::inspect(job, package, version.as_deref(), key, typed, progress).await
            }
            Source::Git {
                url,
                reference,
                folder,
            } => {
                progress("Fetching the repository".into());
                make(job, "look")?;
                let commit =
                    git::fetch(job, &self.hosts, url, reference.as_deref(), key, "look").await?;
                progress("Looking into the repository".into());
                let path = match folder {
                    Some(folder) => format!("look/{}", folder.trim_end_matches('/')),
                    None => "look".into(),
                };
                let tree = job
                    .tree()?
                    .sub(&path)
                    .ok_or_else(|| install::no_folder(folder.as_deref()))?;
                let found = look(tree, Kind::Tree, typed).await?;
                let resolved = Source::Git {
                    url: url.clone(),
                    reference: Some(commit),
                    folder: folder.clone(),
                };
                Ok((resolved, found))
            }
            Source::Dir { path } => self.inspect_directory(job, ask, path, progress).await,
            Source::Image { .. } => Err(images_run_elsewhere()),
        }
    }

    async fn inspect_directory(
        &self,
        job: &Job<'_>,
        ask: &SourceAsk,
        path: &str,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(Source, Detected), SourceFailure> {
        if !ask.administrator {
            return Err(SourceFailure::wrong(
                "Directories of this machine are for administrators.",
            ));
        }
        progress("Copying the directory".into());
        let from = dir::resolve(path, &self.dir_roots)?;
        make(job, "look")?;
        let (to, owner) = (job.tree()?, job.owner());
        let left_out = tokio::task::spawn_blocking(move || dir::copy(&from, &to, "look", owner))
            .await
            .map_err(|_| SourceFailure::unavailable("The copy was cut off."))??;
        progress("Looking into the directory".into());
        let tree = job
            .tree()?
            .sub("look")
            .ok_or_else(|| install::no_folder(None))?;
        let mut found = look(tree, Kind::Tree, ask.command.as_deref()).await?;
        found.notes.extend(left_out.notes());
        Ok((ask.source.clone(), found))
    }

    async fn job<'a>(
        &'a self,
        home: &'a Path,
        uid: u32,
        key: Option<&SecretString>,
        timeout: Duration,
        disk_max_bytes: u64,
        log: Option<&'a mpsc::Sender<String>>,
    ) -> Result<Job<'a>, SourceFailure> {
        self.sandbox
            .prepare_home(uid, home)
            .await
            .map_err(|error| {
                SourceFailure::unavailable(format!("The sandbox is not ready: {error}"))
            })?;
        let job = Job {
            sandbox: &self.sandbox,
            settings: &self.settings,
            home,
            uid,
            deadline: Instant::now() + timeout,
            disk_max_bytes,
            log,
            masks: Masks::new(key),
            lines: AtomicUsize::new(0),
        };
        job.remove(Job::SCRATCH).await?;
        make(&job, Job::SCRATCH)?;
        make(&job, ".build/tmp")?;
        Ok(job)
    }
}

fn make(job: &Job<'_>, directory: &str) -> Result<(), SourceFailure> {
    job.tree()?
        .make_directory(directory, job.owner())
        .map_err(|error| broken(&error))
}

/// Reading a large source takes a while, so it does not hold up others.
async fn look(tree: Tree, kind: Kind, typed: Option<&[String]>) -> Result<Detected, SourceFailure> {
    let typed = typed.map(<[String]>::to_vec);
    tokio::task::spawn_blocking(move || detect(&Project { tree: &tree, kind }, typed.as_deref()))
        .await
        .map_err(|_| SourceFailure::unavailable("Looking into the source was cut off."))?
        .map_err(SourceFailure::wrong)
}

fn images_run_elsewhere() -> SourceFailure {
    SourceFailure::wrong(
        "Images run on remote targets only: this machine's sandbox starts Node.js and Python servers. Choose the npm package, the PyPI package or the repository.",
    )
}

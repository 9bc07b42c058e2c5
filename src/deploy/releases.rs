//! Releases: fetch, install, start, handshake. Each ends in a named state, with its reason.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::instance::{Instance, StartAsk};
use super::log::Log;
use super::sandbox::FIRST_GUEST_ID;
use super::sources::Installed;
use super::supervisor::Backoff;
use super::{Deployer, Running};
use crate::model::deployments::{DeploymentState, ReleaseState, StepName};
use crate::model::errors::Refusal;
use crate::model::sources::{Source, StartPlan};
use crate::store::releases::ReleaseTask;

/// How often a release under way looks whether it is still wanted.
const WANTED_POLL: Duration = Duration::from_secs(2);
/// Lines of the installers that wait to be logged.
const INSTALL_LINES: usize = 256;

/// What one release installed: read again at each start, so that nothing is installed twice. The note of it lies beside
/// the guest's home, out of its reach.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Standing {
    pub source: Source,
    pub start: StartPlan,
    /// The directory of the install, below the deployment's.
    pub dir: String,
    pub installed: Installed,
}

impl Deployer {
    /// Takes one queued release and runs it beside the others. Returns whether there was one.
    pub(super) async fn release_step(&self) -> crate::store::Result<bool> {
        if self.0.releases.available_permits() == 0 {
            return Ok(false);
        }
        let Some(task) = self.0.db.release_claim(self.0.holder).await? else {
            return Ok(false);
        };
        let deployer = self.clone();
        self.0.tasks.spawn(async move {
            let Ok(_permit) = deployer.0.releases.acquire().await else {
                return;
            };
            deployer.release(task).await;
            deployer.wake();
        });
        Ok(true)
    }

    async fn release(&self, task: ReleaseTask) {
        let log = Log::open(self, task.deployment_id, task.number);
        log.say(format!("Release {} begins.", task.number));
        let outcome = tokio::select! {
            outcome = self.bring_up(&task, &log) => outcome,
            () = self.unwanted(&task) => {
                log.say("The release was given up: something newer was asked for.");
                self.end(&task, ReleaseState::Superseded, None).await;
                self.sweep(&task).await;
                return;
            }
        };
        match outcome {
            Ok(instance) => {
                log.say(format!("Release {} is live.", task.number));
                self.take_over(&task, instance).await;
            }
            Err(reason) => {
                // A reason holds the server's last lines.
                for line in format!("Release {} failed. {reason}", task.number).lines() {
                    log.say(line);
                }
                self.end(&task, ReleaseState::Failed, Some(&reason)).await;
                self.keep_older(&task, &reason).await;
                self.sweep(&task).await;
            }
        }
    }

    async fn bring_up(&self, task: &ReleaseTask, log: &Log) -> Result<Instance, String> {
        let standing = self.install(task, log).await?;
        self.step(task, StepName::Start, "running", "").await;
        let ask = StartAsk {
            deployment_id: task.deployment_id,
            ordinal: task.ordinal,
            owner_id: task.owner_id,
            release: task.number,
            home: self.deployment_dir(task.deployment_id).join(&standing.dir),
            data: self.data_dir(task.deployment_id),
            installed: standing.installed,
            start: standing.start,
        };
        let started = Instance::start(self, ask, log.clone(), async || {
            self.step(task, StepName::Start, "done", "").await;
            self.step(task, StepName::Handshake, "running", "").await;
        })
        .await;
        match started {
            Ok(instance) => {
                let name = instance.relay().server_info()["serverInfo"]["name"].to_string();
                let sentence = format!("{name} answered.");
                self.step(task, StepName::Handshake, "done", &sentence)
                    .await;
                Ok(instance)
            }
            Err(failure) => Err(failure.reason),
        }
    }

    /// Fetches and installs, unless just that stands there already.
    async fn install(&self, task: &ReleaseTask, log: &Log) -> Result<Standing, String> {
        if let Some(standing) = self.standing(task.deployment_id, task.number).await
            && (&standing.source, &standing.start) == (&task.source, &task.start)
            // A directory has no version, so what stands here may be older than what lies there.
            && !(task.anew && matches!(task.source, Source::Dir { .. }))
        {
            for step in [StepName::Fetch, StepName::Install] {
                self.step(task, step, "done", "Already here from an earlier release.")
                    .await;
            }
            return Ok(standing);
        }
        // Whoever chose it was an administrator then; what lies there now is for one of now.
        if matches!(task.source, Source::Dir { .. }) && !task.anew && !task.owner_is_administrator {
            return Err(
                "A directory of this machine is copied for administrators only. Ask one to press Redeploy."
                    .into(),
            );
        }
        self.step(task, StepName::Fetch, "running", "").await;
        let fetch_key = match task.fetch_key {
            Some(id) => {
                let opened = self
                    .0
                    .db
                    .fetch_key_open(task.owner_id, id, &task.name)
                    .await;
                Some(opened.map_err(|error| error.into_refusal().detail)?)
            }
            None => None,
        };
        let dir = directory_of(task.number);
        let home = self.deployment_dir(task.deployment_id).join(&dir);
        let uid = FIRST_GUEST_ID + task.ordinal.unsigned_abs();
        // What an earlier try left half-done.
        self.remove_install(task.deployment_id, task.number).await;
        self.make_deployment_dir(task.deployment_id)
            .await
            .map_err(|error| format!("The deployment's directory cannot be made: {error}"))?;
        self.0
            .sandbox
            .prepare_home(uid, &home)
            .await
            .map_err(|error| error.to_string())?;
        // Beside the installs, so that it outlives them.
        self.0
            .sandbox
            .prepare_home(uid, &self.data_dir(task.deployment_id))
            .await
            .map_err(|error| error.to_string())?;

        let (lines, mut said) = mpsc::channel::<String>(INSTALL_LINES);
        let sink = log.clone();
        let writing = self.0.tasks.spawn(async move {
            while let Some(line) = said.recv().await {
                sink.push("install", line);
            }
        });
        let (steps, mut begun) = mpsc::channel::<StepName>(StepName::ALL.len());
        let began = move |step| {
            let _ = steps.try_send(step);
        };
        let fetching = self.0.workshop.fetch_and_install(
            &task.source,
            &task.start,
            fetch_key.as_ref(),
            &home,
            uid,
            lines,
            &began,
        );
        tokio::pin!(fetching);
        let installed = loop {
            tokio::select! {
                installed = &mut fetching => break installed,
                Some(step) = begun.recv() => {
                    if step == StepName::Install {
                        self.step(task, StepName::Fetch, "done", "").await;
                    }
                    self.step(task, step, "running", "").await;
                }
            }
        };
        let _ = writing.await;
        let installed = match installed {
            Ok(installed) => installed,
            Err(failure) => {
                self.remove_install(task.deployment_id, task.number).await;
                return Err(Refusal::from(failure).detail);
            }
        };
        for step in [StepName::Fetch, StepName::Install] {
            self.step(task, step, "done", "").await;
        }
        let standing = Standing {
            source: task.source.clone(),
            start: task.start.clone(),
            dir,
            installed,
        };
        self.keep_standing(task, &standing)
            .await
            .map_err(|error| format!("What was installed could not be noted: {error}"))?;
        Ok(standing)
    }

    /// Puts the new instance in the place of the older one, and says that it is live.
    async fn take_over(&self, task: &ReleaseTask, instance: Instance) {
        let instance = Arc::new(instance);
        if !self.end(task, ReleaseState::Live, None).await {
            // Another server took the deployment, or someone stopped it meanwhile.
            instance.stop().await;
            return;
        }
        let older = self.0.running.lock().await.insert(
            task.deployment_id,
            Running {
                instance,
                backoff: Backoff::default(),
                stopping: false,
            },
        );
        if let Some(older) = older {
            older.instance.stop().await;
        }
        self.sweep(task).await;
    }

    /// A failed release leaves an older one running, and says so.
    async fn keep_older(&self, task: &ReleaseTask, reason: &str) {
        let older = {
            let running = self.0.running.lock().await;
            running
                .get(&task.deployment_id)
                .filter(|running| running.is_up())
                .map(|running| running.instance.release)
        };
        if let Some(older) = older {
            let reason = format!(
                "Release {} failed; release {older} still runs. {reason}",
                task.number
            );
            let kept = self
                .0
                .db
                .deployment_state(
                    task.deployment_id,
                    task.fence,
                    Some(older),
                    DeploymentState::Running,
                    Some(&reason),
                )
                .await;
            if let Err(error) = kept {
                error.into_refusal();
            }
        }
    }

    /// Ends when the release is wanted no more.
    async fn unwanted(&self, task: &ReleaseTask) {
        loop {
            match self.0.db.release_wanted(task).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    error.into_refusal();
                }
            }
            let _ = tokio::time::timeout(WANTED_POLL, self.changed()).await;
        }
    }

    async fn step(&self, task: &ReleaseTask, step: StepName, state: &str, detail: &str) {
        if let Err(error) = self.0.db.release_step(task, step, state, detail).await {
            error.into_refusal();
        }
        self.0.changed.notify_waiters();
    }

    /// Returns whether the end was stored.
    async fn end(&self, task: &ReleaseTask, state: ReleaseState, reason: Option<&str>) -> bool {
        let stored = self.0.db.release_end(task, state, reason).await;
        self.0.changed.notify_waiters();
        stored.map_err(crate::store::Error::into_refusal).is_ok()
    }

    pub(super) fn deployment_dir(&self, deployment_id: Uuid) -> PathBuf {
        self.0.guests_dir.join(deployment_id.to_string())
    }

    pub(super) fn data_dir(&self, deployment_id: Uuid) -> PathBuf {
        self.deployment_dir(deployment_id).join("data")
    }

    /// Ours; the guest passes through it to its home and can neither list nor change it.
    async fn make_deployment_dir(&self, deployment_id: Uuid) -> std::io::Result<()> {
        let dir = self.deployment_dir(deployment_id);
        tokio::fs::create_dir_all(&dir).await?;
        tokio::fs::set_permissions(&dir, Permissions::from_mode(0o711)).await
    }

    /// The newest install that a release may use: its own or one before it.
    pub(super) async fn standing(&self, deployment_id: Uuid, release: i32) -> Option<Standing> {
        let installs = self.installs(deployment_id).await;
        let newest = installs.into_iter().filter(|of| *of <= release).max()?;
        let note = self.note(deployment_id, newest);
        let standing = serde_json::from_slice(&tokio::fs::read(note).await.ok()?);
        standing
            .map_err(|error| tracing::warn!(%error, "the note of an install does not read"))
            .ok()
    }

    /// Written when all is installed: an install without a note is half-done.
    async fn keep_standing(&self, task: &ReleaseTask, standing: &Standing) -> std::io::Result<()> {
        let note = self.note(task.deployment_id, task.number);
        let new = note.with_extension("new");
        tokio::fs::write(&new, serde_json::to_vec(standing)?).await?;
        tokio::fs::rename(&new, &note).await
    }

    fn note(&self, deployment_id: Uuid, release: i32) -> PathBuf {
        let name = format!("{}.json", directory_of(release));
        self.deployment_dir(deployment_id).join(name)
    }

    /// The releases whose install stands complete.
    async fn installs(&self, deployment_id: Uuid) -> Vec<i32> {
        let names = names_in(&self.deployment_dir(deployment_id)).await;
        names
            .iter()
            .filter_map(|name| release_of(name.strip_suffix(".json")?))
            .collect()
    }

    /// Keeps the install that this release uses and that of what runs. Older ones go, and so does what this release or one
    /// before it left half-done.
    async fn sweep(&self, task: &ReleaseTask) {
        let id = task.deployment_id;
        let runs = {
            let running = self.0.running.lock().await;
            running.get(&id).map(|running| running.instance.release)
        };
        let installs = self.installs(id).await;
        let used_by = |release: i32| installs.iter().copied().filter(|of| *of <= release).max();
        let kept = [used_by(task.number), runs.and_then(used_by)];
        for name in names_in(&self.deployment_dir(id)).await {
            if let Some(old) = release_of(&name)
                && old <= task.number
                && !kept.contains(&Some(old))
            {
                self.remove_install(id, old).await;
            }
        }
    }

    /// The note goes first: what is removed half-way is no install.
    async fn remove_install(&self, deployment_id: Uuid, release: i32) {
        let note = self.note(deployment_id, release);
        match tokio::fs::remove_file(&note).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the note of an install could not be removed");
            }
            _ => {}
        }
        let dir = self
            .deployment_dir(deployment_id)
            .join(directory_of(release));
        remove_dir(&dir).await;
    }
}

/// The directory that a release installs into, below the deployment's.
fn directory_of(release: i32) -> String {
    format!("r{release}")
}

/// The release whose directory has this name.
fn release_of(directory: &str) -> Option<i32> {
    directory.strip_prefix('r')?.parse().ok()
}

pub(super) async fn names_in(dir: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else {
        return names;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names
}

pub(super) async fn remove_dir(dir: &std::path::Path) {
    if let Err(error) = tokio::fs::remove_dir_all(dir).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "a guest's directory could not be removed");
    }
}

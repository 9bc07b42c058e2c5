//! This machine: fetched, installed, and run as a guest in the sandbox.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Driver, Order, Run, Steps, Work};
use crate::deploy::Deployer;
use crate::deploy::instance::{Instance, Own, StartAsk, StartFailure};
use crate::deploy::log::Log;
use crate::deploy::sandbox::{FIRST_GUEST_ID, clear};
use crate::deploy::sources::Installed;
use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::limits::GuestLimits;
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::AccountSays;
use crate::store::releases::ReleaseTask;

/// What callers' own instances write lies below it, in a directory for each.
const CALLERS_DIR: &str = "callers";
/// Lines of the installers that wait to be logged.
const INSTALL_LINES: usize = 256;

pub(super) struct Local {
    pub deployer: Deployer,
}

#[async_trait]
impl Driver for Local {
    async fn check(&self) -> Result<AccountSays, String> {
        let says: Vec<String> = self
            .deployer
            .confinement()
            .into_iter()
            .map(|(_, sentence)| sentence)
            .collect();
        Ok(AccountSays {
            sentence: says.join(" "),
            ..AccountSays::default()
        })
    }

    async fn plan(&self, order: &Order) -> Result<Vec<String>, Refusal> {
        Ok(vec![format!(
            "Fetch and install {} in a sandbox of this machine, and start it there.",
            order.source
        )])
    }

    async fn apply(&self, work: &Work<'_>) -> Result<(), String> {
        work.deployer.install(work.task, work.log).await.map(drop)
    }

    /// It is up when it is joined.
    async fn watch(&self, _: &Work<'_>) -> Result<(), String> {
        Ok(())
    }

    async fn join(
        &self,
        run: &Run,
        steps: &Steps<'_>,
        log: &Log,
    ) -> Result<Instance, StartFailure> {
        let ask = self.deployer.start_ask(run).await?;
        steps.say(StepName::Start, "running", "").await;
        let instance = Instance::start(&self.deployer, ask, log.clone(), async || {
            steps.say(StepName::Start, "done", "").await;
            steps.say(StepName::Handshake, "running", "").await;
        })
        .await?;
        steps
            .say(StepName::Handshake, "done", &instance.answered())
            .await;
        Ok(instance)
    }

    /// The instance was all of it.
    async fn stop(&self, _: &Run) -> Result<(), String> {
        Ok(())
    }

    /// Its files are swept when it is gone from the database.
    async fn destroy(&self, _: &Run) -> Result<(), String> {
        Ok(())
    }

    /// What is installed is nobody else's to change.
    async fn drift(&self, _: &Run) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

/// What one release installed: read again at each start, so that nothing is installed twice. The note of it lies beside
/// the guest's home, out of its reach.
#[derive(Clone, Serialize, Deserialize)]
struct Standing {
    source: Source,
    start: StartPlan,
    /// The directory of the install, below the deployment's.
    dir: String,
    installed: Installed,
}

impl Deployer {
    /// How what is installed is started.
    async fn start_ask(&self, run: &Run) -> Result<StartAsk, StartFailure> {
        let Some(standing) = self.standing(run.id, run.release).await else {
            return Err(StartFailure {
                reason: "What was installed is not on this machine any more. Redeploy it.".into(),
                lasting: true,
            });
        };
        Ok(StartAsk {
            deployment_id: run.id,
            ordinal: run.ordinal,
            owner_id: run.owner_id,
            release: run.release,
            home: self.deployment_dir(run.id).join(&standing.dir),
            data: self.data_dir(run.id),
            installed: standing.installed,
            source: standing.source,
            start: standing.start,
            // Checked when they were set; a row of another version may hold something else.
            limits: GuestLimits::of(&run.options).unwrap_or_default(),
            own: None,
        })
    }

    /// Starts a caller's own instance, with a directory of its own.
    pub(in crate::deploy) async fn start_for(
        &self,
        run: &Run,
        own: Own,
        log: &Log,
    ) -> Result<Instance, StartFailure> {
        let mut ask = self.start_ask(run).await?;
        // What callers agree to is what the deployment is now; until its release is live, an older install stands here.
        if (&ask.source, &ask.start) != (&run.source, &run.start) {
            return Err(StartFailure {
                reason: "Its newest release is not live yet. Call again when it is.".into(),
                lasting: true,
            });
        }
        let dir = self.callers_dir(run.id);
        // Another owner's server finds nothing of what was kept for this one's.
        ask.data = dir.join(format!("{}-{}", own.user_id, run.owner_id));
        let made = async {
            make_passage(&dir)
                .await
                .map_err(|error| error.to_string())?;
            let uid = FIRST_GUEST_ID + run.ordinal.unsigned_abs();
            let prepared = self.0.sandbox.prepare_home(uid, &ask.data).await;
            prepared.map_err(|error| error.to_string())
        };
        made.await.map_err(|error| StartFailure {
            reason: format!("The directory of your own instance cannot be made: {error}"),
            lasting: false,
        })?;
        ask.own = Some(own);
        log.say("Your own instance is being started.");
        Instance::start(self, ask, log.clone(), async || {}).await
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

    pub(in crate::deploy) fn deployment_dir(&self, deployment_id: Uuid) -> PathBuf {
        self.0.guests_dir.join(deployment_id.to_string())
    }

    /// Ours; what callers' own instances keep lies below it.
    pub(in crate::deploy) fn callers_dir(&self, deployment_id: Uuid) -> PathBuf {
        self.deployment_dir(deployment_id).join(CALLERS_DIR)
    }

    fn data_dir(&self, deployment_id: Uuid) -> PathBuf {
        self.deployment_dir(deployment_id).join("data")
    }

    /// Ours; the guest passes through it to its home and can neither list nor change it.
    async fn make_deployment_dir(&self, deployment_id: Uuid) -> std::io::Result<()> {
        make_passage(&self.deployment_dir(deployment_id)).await
    }

    /// The newest install that a release may use: its own or one before it.
    async fn standing(&self, deployment_id: Uuid, release: i32) -> Option<Standing> {
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
    pub(in crate::deploy) async fn sweep(&self, task: &ReleaseTask) {
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

/// A directory of ours that guests pass through.
async fn make_passage(dir: &std::path::Path) -> std::io::Result<()> {
    tokio::fs::create_dir_all(dir).await?;
    tokio::fs::set_permissions(dir, Permissions::from_mode(0o711)).await
}

/// The directory that a release installs into, below the deployment's.
fn directory_of(release: i32) -> String {
    format!("r{release}")
}

/// The release whose directory has this name.
fn release_of(directory: &str) -> Option<i32> {
    directory.strip_prefix('r')?.parse().ok()
}

pub(in crate::deploy) async fn names_in(dir: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else {
        return names;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names
}

pub(in crate::deploy) async fn remove_dir(dir: &std::path::Path) {
    let gone = {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || clear(&dir)).await
    };
    if let Err(error) = gone.unwrap_or_else(|error| Err(error.into())) {
        tracing::warn!(%error, dir = %dir.display(), "a guest's directory could not be removed");
    }
}

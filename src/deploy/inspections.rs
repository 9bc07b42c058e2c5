//! Inspecting the source of a draft, as a job: what it is, how it starts, which variables it wants.

use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::Deployer;
use super::plans::of_image;
use super::sandbox::FIRST_GUEST_ID;
use super::sources::{SourceAsk, typed_command};
use super::targets::remove_dir;
use crate::model::drafts::DraftForm;
use crate::model::errors::Refusal;
use crate::model::sources::{Inspection, Source, Transport};
use crate::store::drafts::InspectTask;

/// Ids of inspecting guests, apart from those of deployments.
const INSPECT_IDS_FROM: u32 = FIRST_GUEST_ID + 1_000_000;
/// Steps that wait to be stored.
const PROGRESS_WAITING: usize = 16;

impl Deployer {
    /// Takes one queued inspection and runs it beside the others. Returns whether there was one.
    pub(super) async fn inspect_step(&self) -> crate::store::Result<bool> {
        if self.0.inspections.available_permits() == 0 {
            return Ok(false);
        }
        let Some(task) = self.0.db.inspect_claim(self.0.holder).await? else {
            return Ok(false);
        };
        let deployer = self.clone();
        self.0.tasks.spawn(async move {
            let Ok(_permit) = deployer.0.inspections.acquire().await else {
                return;
            };
            deployer.inspect(task).await;
            deployer.wake();
        });
        Ok(true)
    }

    async fn inspect(&self, task: InspectTask) {
        let found = match self.ask(&task).await {
            Ok(ask) => self.look_and_tell(&task, &ask).await,
            Err(refusal) => Err(refusal),
        };
        let end = found.map_err(|refusal| refusal.detail);
        if let Err(error) = self.0.db.inspect_end(&task, end).await {
            error.into_refusal();
        }
    }

    async fn look_and_tell(
        &self,
        task: &InspectTask,
        ask: &SourceAsk,
    ) -> Result<Inspection, Refusal> {
        let (steps, mut said) = tokio::sync::mpsc::channel::<String>(PROGRESS_WAITING);
        let progress = move |step: String| {
            // A step that finds no room is followed by a newer one.
            let _ = steps.try_send(step);
        };
        let looking = self.look(ask, &progress);
        tokio::pin!(looking);
        loop {
            tokio::select! {
                found = &mut looking => return found,
                Some(step) = said.recv() => {
                    if let Err(error) = self.0.db.inspect_progress(task, &step).await {
                        error.into_refusal();
                    }
                    self.0.changed.notify_waiters();
                }
            }
        }
    }

    /// Looks at a source in a room of its own, which is gone afterwards. `progress` hears what is being done.
    pub(super) async fn look(
        &self,
        ask: &SourceAsk,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Inspection, Refusal> {
        if let Source::Image { reference } = &ask.source {
            return Ok(of_image(
                reference,
                ask.command.clone(),
                ask.transport.clone(),
            ));
        }
        let room = self
            .0
            .guests_dir
            .join(format!("inspect-{}", Uuid::now_v7()));
        // One id for each place at the bench, so that two inspections never share one.
        let uid = INSPECT_IDS_FROM + self.0.inspect_ids.fetch_add(1, Ordering::Relaxed) % 100_000;
        let found = match self.0.sandbox.prepare_home(uid, &room).await {
            Ok(()) => {
                let looking = self.0.workshop.inspect(ask, &room, uid, progress);
                looking.await.map_err(Refusal::from)
            }
            Err(error) => Err(Refusal::invalid("source", error.to_string())),
        };
        remove_dir(&room).await;
        found
    }

    async fn ask(&self, task: &InspectTask) -> Result<SourceAsk, Refusal> {
        let form = &task.form;
        let source = form.source()?;
        let fetch_key = match form.fetch_key {
            Some(id) => Some(
                self.0
                    .db
                    .fetch_key_open(task.user_id, id, &source.to_string())
                    .await
                    .map_err(crate::store::Error::into_refusal)?,
            ),
            None => None,
        };
        Ok(SourceAsk {
            source,
            fetch_key,
            command: typed(form)?,
            transport: chosen_transport(&form.transport),
            administrator: task.administrator,
        })
    }
}

/// What was chosen instead of what the source says; none for anything else.
pub(super) fn chosen_transport(name: &str) -> Option<Transport> {
    match name {
        "stdio" => Some(Transport::Stdio),
        "http" => Some(Transport::Http {
            path: "/mcp".into(),
        }),
        _ => None,
    }
}

/// The command line that was typed. Errors: `Invalid` at `command`.
fn typed(form: &DraftForm) -> Result<Option<Vec<String>>, Refusal> {
    let line = form.command.trim();
    (!line.is_empty()).then(|| typed_command(line)).transpose()
}

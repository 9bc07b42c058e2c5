//! The writing end of the list of calls: in batches, bounded, beside the calls.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::Deployer;
use super::instance::Own;
use super::relay::Called;
use crate::model::calls::Outcome;
use crate::store::calls::NewCall;

/// Calls that wait for the database; more are left out.
const WAITING_CALLS: usize = 4_000;
/// Calls written in one statement.
const BATCH_CALLS: usize = 1_000;
/// Between two statements of one instance, unless there is a whole batch: a call that comes alone is written at once, and at full load
/// one statement writes many.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a deployment's relay tells of calls; of a caller's own instance also whether the far service takes their keys. The last clone's
/// end flushes.
pub(super) fn open(
    deployer: &Deployer,
    deployment_id: Uuid,
    own: Option<Own>,
) -> mpsc::Sender<Called> {
    let (calls, mut waiting) = mpsc::channel::<Called>(WAITING_CALLS);
    let writer = deployer.clone();
    deployer.0.writers.spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_CALLS);
        let mut keys = own.map(|own| Keys {
            own,
            are_refused: None,
        });
        let mut next = Instant::now();
        while waiting.recv_many(&mut batch, BATCH_CALLS).await > 0 {
            // Till then, the end, or a whole batch, whichever comes first.
            while let left @ 1.. = BATCH_CALLS - batch.len() {
                let more = waiting.recv_many(&mut batch, left);
                if !matches!(tokio::time::timeout_at(next, more).await, Ok(1..)) {
                    break;
                }
            }
            next = Instant::now() + PAUSE;
            if let Some(keys) = &mut keys {
                keys.told(&writer, deployment_id, &batch).await;
            }
            let calls: Vec<NewCall> = batch.drain(..).map(of).collect();
            if let Err(error) = writer.0.db.calls_append(deployment_id, &calls).await {
                error.into_refusal();
            }
        }
    });
    calls
}

/// A caller's keys, and whether the far service refused them when last they were used: written when it is another, and once for an
/// instance, which does not know what the one before it found.
struct Keys {
    own: Own,
    are_refused: Option<bool>,
}

impl Keys {
    async fn told(&mut self, writer: &Deployer, deployment_id: Uuid, calls: &[Called]) {
        // The last that says anything of it: a tool may fail for a hundred other reasons.
        let last = calls.iter().rev().find_map(|call| match call.outcome {
            _ if call.key_refused => Some(true),
            Outcome::Done => Some(false),
            _ => None,
        });
        let Some(are_refused) = last.filter(|last| self.are_refused != Some(*last)) else {
            return;
        };
        let Own {
            user_id, versions, ..
        } = &self.own;
        let db = &writer.0.db;
        match db
            .connections_refused(deployment_id, *user_id, versions, are_refused)
            .await
        {
            Ok(()) => {
                self.are_refused = Some(are_refused);
                writer.0.changed.notify_waiters();
            }
            Err(error) => {
                error.into_refusal();
            }
        }
    }
}

fn of(called: Called) -> NewCall {
    NewCall {
        token_id: called.client.token,
        tool: called.tool,
        outcome: called.outcome,
        took_ms: i32::try_from(called.took.as_millis()).unwrap_or(i32::MAX),
    }
}

//! The writing end of the list of calls: in batches, bounded, beside the calls.

use tokio::sync::mpsc;
use uuid::Uuid;

use super::Deployer;
use super::relay::Called;
use crate::store::calls::NewCall;

/// Calls that wait for the database; more are left out.
const WAITING_CALLS: usize = 4_000;
/// Calls written in one statement.
const BATCH_CALLS: usize = 1_000;

/// Where a deployment's relay tells of calls. The last clone's end flushes.
pub(super) fn open(deployer: &Deployer, deployment_id: Uuid) -> mpsc::Sender<Called> {
    let (calls, mut waiting) = mpsc::channel::<Called>(WAITING_CALLS);
    let writer = deployer.clone();
    deployer.0.tasks.spawn(async move {
        let mut batch = Vec::with_capacity(BATCH_CALLS);
        while waiting.recv_many(&mut batch, BATCH_CALLS).await > 0 {
            let calls: Vec<NewCall> = batch.drain(..).map(of).collect();
            if let Err(error) = writer.0.db.calls_append(deployment_id, &calls).await {
                error.into_refusal();
            }
        }
    });
    calls
}

fn of(called: Called) -> NewCall {
    NewCall {
        token_id: called.client.0,
        tool: called.tool,
        outcome: called.outcome.as_str(),
        took_ms: i32::try_from(called.took.as_millis()).unwrap_or(i32::MAX),
    }
}

//! What is looked at now and again, of all callers' instances: whether they are used, and whether they may still run.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::slots::{Slot, Whose};
use crate::deploy::Deployer;

/// How often that is.
const LOOK_EVERY: Duration = Duration::from_secs(3);

impl Deployer {
    /// Stops what nobody uses, and what may not run any more.
    pub(in crate::deploy) async fn look_after_callers(&self, cancel: &CancellationToken) {
        let idle = self.0.callers_limits.idle;
        while !cancel.is_cancelled() {
            let is_idle = |_: &Whose, slot: &Slot| {
                slot.uses.is_unused() && slot.uses.last().elapsed() >= idle && !slot.is_answering()
            };
            self.0.callers.retire(is_idle, false);
            if let Err(error) = self.ask_again().await {
                error.into_refusal();
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY.min(idle)) => {}
            }
        }
    }

    /// Asks what each instance would run with now, in one statement: a call would find out, and there may be none for a while, or one
    /// stream. What has lost a right or a key stops at once; what has others by now gives way.
    async fn ask_again(&self) -> crate::store::Result<()> {
        let all = self.0.callers.all();
        if all.is_empty() {
            return Ok(());
        }
        let whose: Vec<_> = all
            .iter()
            .map(|(whose, _)| (whose.deployment_id, whose.user_id))
            .collect();
        let keys = self.0.db.callers_keys(&whose).await?;
        // Of those very instances: what was started since was let in by an answer that is as new.
        let keys = keys.into_iter().map(|keys| keys.versions);
        let now: HashMap<(Whose, String), Option<String>> = all.into_iter().zip(keys).collect();
        let of = |whose: &Whose, slot: &Slot| now.get(&(*whose, slot.versions.clone()));
        let has_none = |whose: &Whose, slot: &Slot| matches!(of(whose, slot), Some(None));
        self.0.callers.retire(has_none, true);
        let has_others = |whose: &Whose, slot: &Slot| matches!(of(whose, slot), Some(Some(versions)) if *versions != slot.versions);
        self.0.callers.retire(has_others, false);
        Ok(())
    }
}

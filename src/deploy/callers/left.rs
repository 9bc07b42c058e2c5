//! What callers' instances kept, once nothing of theirs is connected any more.

use std::path::PathBuf;

use uuid::Uuid;

use super::slots::Whose;
use crate::deploy::Deployer;
use crate::deploy::targets::{names_in, remove_dir};

/// Directories that are asked about in one statement.
const ASKED_AT_ONCE: usize = 500;

impl Deployer {
    /// Removes the directories of callers who have cleared all that they had connected, or have left. One that is used now waits.
    pub(in crate::deploy) async fn sweep_callers(&self) {
        let kept = self.kept_by_callers().await;
        for some in kept.chunks(ASKED_AT_ONCE) {
            if let Err(error) = self.remove_left(some).await {
                error.into_refusal();
            }
        }
    }

    async fn remove_left(&self, kept: &[(Whose, PathBuf)]) -> crate::store::Result<()> {
        for (whose, dir) in self.not_connected(kept).await? {
            // From here on nothing is started in it; whoever connected and called before has an instance now, or a connection.
            let Some(_removing) = self.0.callers.removing(whose) else {
                continue;
            };
            let again = [(whose, dir.clone())];
            if !self.not_connected(&again).await?.is_empty() {
                // It lies in a directory of ours. What a guest linked to in it is not followed.
                remove_dir(&dir).await;
            }
        }
        Ok(())
    }

    async fn not_connected(
        &self,
        kept: &[(Whose, PathBuf)],
    ) -> crate::store::Result<Vec<(Whose, PathBuf)>> {
        let ids = |whose: &Whose| (whose.deployment_id, whose.user_id);
        let whose: Vec<(Uuid, Uuid)> = kept.iter().map(|(whose, _)| ids(whose)).collect();
        let connected = self.0.db.callers_connected(&whose).await?;
        let left = kept
            .iter()
            .filter(|(whose, _)| !connected.contains(&ids(whose)));
        Ok(left.cloned().collect())
    }

    /// All that lie here: whose, and where.
    async fn kept_by_callers(&self) -> Vec<(Whose, PathBuf)> {
        let mut kept = Vec::new();
        for deployment in names_in(&self.0.guests_dir).await {
            let Ok(deployment_id) = Uuid::parse_str(&deployment) else {
                continue;
            };
            let dir = self.callers_dir(deployment_id);
            for name in names_in(&dir).await {
                // `USER-OWNER`, both as ids.
                let user = name.get(..uuid::fmt::Hyphenated::LENGTH);
                if let Some(user_id) = user.and_then(|user| Uuid::parse_str(user).ok()) {
                    let whose = Whose {
                        deployment_id,
                        user_id,
                    };
                    kept.push((whose, dir.join(name)));
                }
            }
        }
        kept
    }
}

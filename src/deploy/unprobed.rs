//! Which releases are not asked whether they speak the stateless era: some servers end at a question that they do not know, and some
//! never answer it. Kept while Sealport runs; after that each is asked once more.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::instance::StartAsk;

/// More are forgotten, and asked once more.
const DEPLOYMENTS: usize = 10_000;

#[derive(Default)]
pub(super) struct Unprobed(Mutex<HashMap<Uuid, i32>>);

impl Unprobed {
    pub fn may_be_asked(&self, ask: &StartAsk) -> bool {
        let releases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        releases.get(&ask.deployment_id) != Some(&ask.release)
    }

    pub fn not_again(&self, ask: &StartAsk) {
        let mut releases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if releases.len() >= DEPLOYMENTS {
            releases.clear();
        }
        releases.insert(ask.deployment_id, ask.release);
    }
}

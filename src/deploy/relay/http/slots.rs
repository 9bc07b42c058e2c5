//! How many requests may wait at once, each for as long as its answer is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use uuid::Uuid;

use crate::deploy::relay::wire::{RpcError, SERVER_GONE};
use crate::deploy::relay::{ClientKey, Limits};

/// The requests that wait, of each user.
#[derive(Clone, Default)]
pub(super) struct Slots(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Slots {
    pub fn take(&self, client: ClientKey, limits: &Limits) -> Result<Slot, RpcError> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = counts.values().sum();
        let own = counts.get(&client.user).copied().unwrap_or_default();
        if own >= limits.pending_per_user || total >= limits.pending {
            let text = "Too many requests wait for this server; try again when some are answered.";
            return Err(RpcError::new(
                StatusCode::TOO_MANY_REQUESTS,
                SERVER_GONE,
                text,
            ));
        }
        counts.insert(client.user, own + 1);
        Ok(Slot {
            of: self.clone(),
            client,
        })
    }
}

/// One of them, until it is dropped.
pub(super) struct Slot {
    of: Slots,
    pub client: ClientKey,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = counts.get_mut(&self.client.user) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.client.user);
            }
        }
    }
}

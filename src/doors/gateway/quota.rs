//! How many calls a caller has in a minute, over all of their tokens and all deployments, on this server.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use uuid::Uuid;

/// Counted by user: there are no more of them than accounts.
#[derive(Clone)]
pub struct CallQuota(Option<Arc<DefaultKeyedRateLimiter<Uuid>>>);

impl CallQuota {
    /// 0: as many as there come.
    pub fn per_minute(calls: u32) -> Self {
        let quota = NonZeroU32::new(calls).map(Quota::per_minute);
        CallQuota(quota.map(|quota| Arc::new(RateLimiter::keyed(quota))))
    }

    /// Errors: how many seconds to wait.
    pub fn take(&self, user_id: Uuid) -> Result<(), u64> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter.check_key(&user_id).map_err(|not_until| {
            metrics::counter!("sealport_refusals_total", "action" => "gateway.quota").increment(1);
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            wait.as_secs() + 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_callers_flood_is_not_anothers() {
        let quota = CallQuota::per_minute(2);
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let taken: Vec<bool> = (0..3).map(|_| quota.take(one).is_ok()).collect();
        assert_eq!(taken, [true, true, false]);
        assert_eq!(quota.take(other), Ok(()));
        assert!((0..9_000).all(|_| CallQuota::per_minute(0).take(one).is_ok()));
    }
}

//! How much callers may ask of this server: a token so many requests within a minute, an address so many that are turned away. Kept in
//! memory, and bounded whatever comes.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use secrecy::SecretString;

use super::web::AppState;
use crate::model::actors::{Caller, Origin};
use crate::model::errors::{Refusal, RefusalKind};
use crate::store::tokens::PlainToken;

const WINDOW: Duration = Duration::from_secs(60);
/// Requests from one address that may be turned away within a window before it is not asked any more what it shows.
const TURNED_AWAY_MAX: u32 = 600;
/// Addresses that are counted one by one; the others share one count.
const ADDRESSES_MAX: usize = 10_000;
/// Tokens that are known to open something, and for how long at least.
const KNOWN_MAX: usize = 10_000;
const KNOWN_FOR: Duration = Duration::from_secs(600);

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

type Limiter =
    RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// What is counted of callers, on this server, by all doors together.
#[derive(Clone)]
pub struct Quotas(Arc<Counts>);

struct Counts {
    /// None: a token has as many as there come.
    tokens: Option<Limiter>,
    known: Mutex<Known>,
    turned_away: Mutex<TurnedAway>,
}

/// The hashes of tokens that opened something lately, in two generations. It lets nobody in: it only tells whom an address's flood of
/// others does not shut out, and whom a quota is kept for.
struct Known {
    now: HashSet<String>,
    before: HashSet<String>,
    since: Instant,
}

/// How many were turned away in this window, by address.
struct TurnedAway {
    counts: HashMap<IpAddr, u32>,
    since: Instant,
}

/// Whoever is let in to be asked what they may.
pub struct Admitted {
    pub token: SecretString,
    /// Looked up, unless the token is known: then whatever it is used for looks it up.
    pub caller: Option<Caller>,
    pub left: Option<Left>,
    hash: String,
}

/// What a token has left of its quota.
#[derive(Clone, Copy)]
pub struct Left {
    policy: NonZeroU32,
    requests: u32,
    reset_secs: u64,
}

pub enum Turned {
    /// No token, one of another form, or one that opens nothing.
    Unauthenticated {
        shown: bool,
        refusal: Option<Refusal>,
    },
    TooMany {
        detail: String,
        wait_secs: u64,
        left: Option<Left>,
    },
    /// It could not be looked up.
    Broken(Refusal),
}

impl Quotas {
    /// For a token; 0: as many as there come.
    pub fn per_minute(requests: u32) -> Self {
        Quotas(Arc::new(Counts {
            tokens: NonZeroU32::new(requests).map(|requests| {
                RateLimiter::keyed(Quota::per_minute(requests))
                    .with_middleware::<StateInformationMiddleware>()
            }),
            known: Mutex::new(Known {
                now: HashSet::new(),
                before: HashSet::new(),
                since: Instant::now(),
            }),
            turned_away: Mutex::new(TurnedAway {
                counts: HashMap::new(),
                since: Instant::now(),
            }),
        }))
    }

    /// Counts a request, and looks its token up if that is not known: nothing is kept of what opens nothing, and an address that shows
    /// too much of it costs the database no more.
    pub async fn admit(
        &self,
        state: &AppState,
        headers: &HeaderMap,
        from: &Origin,
    ) -> Result<Admitted, Turned> {
        let shown = bearer(headers);
        let parsed = shown.as_ref().and_then(PlainToken::parse);
        let (Some(token), Some(parsed)) = (shown, parsed) else {
            let shown = bearer(headers).is_some();
            let why = match shown {
                true => "malformed token",
                false => "no token",
            };
            return Err(self.turn_away(state, from, why).await);
        };
        // By its hash: nothing else that is kept in memory is a token.
        let hash = parsed.hashed().into_string();
        let mut caller = None;
        if !self.is_known(&hash) {
            self.check_address(from)?;
            let opened = state.db.api_token_open(&token, from).await;
            caller = Some(opened.map_err(|error| self.refused(from, error.into_refusal()))?);
            self.know(hash.clone());
        }
        Ok(Admitted {
            token,
            caller,
            left: self.take(&hash)?,
            hash,
        })
    }

    /// Puts on record that somebody was turned away before any token was looked up, and counts it.
    pub async fn turn_away(&self, state: &AppState, from: &Origin, why: &'static str) -> Turned {
        if let Err(too_many) = self.check_address(from) {
            return too_many;
        }
        self.charge(from);
        // On record where that can be; nothing is given out either way.
        if let Err(error) = state.db.api_turned_away(from, why).await {
            error.into_refusal();
        }
        Turned::Unauthenticated {
            shown: why != "no token",
            refusal: None,
        }
    }

    /// The token opened something before, and does not any more.
    pub fn forget(&self, admitted: &Admitted, from: &Origin) {
        let mut known = lock(&self.0.known);
        known.now.remove(&admitted.hash);
        known.before.remove(&admitted.hash);
        drop(known);
        self.charge(from);
    }

    fn refused(&self, from: &Origin, refusal: Refusal) -> Turned {
        if refusal.kind != RefusalKind::Unauthenticated {
            return Turned::Broken(refusal);
        }
        self.charge(from);
        Turned::Unauthenticated {
            shown: true,
            refusal: Some(refusal),
        }
    }

    /// Counts a request with this token. Errors: too many within a window.
    fn take(&self, hash: &String) -> Result<Option<Left>, Turned> {
        let Some(limiter) = &self.0.tokens else {
            return Ok(None);
        };
        match limiter.check_key(hash) {
            Ok(left) => Ok(Some(Left {
                policy: left.quota().burst_size(),
                requests: left.remaining_burst_capacity(),
                reset_secs: 0,
            })),
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                let wait_secs = wait.as_millis().div_ceil(1_000).max(1) as u64;
                let policy = not_until.quota().burst_size();
                metrics::counter!("sealport_refusals_total", "action" => "api.quota").increment(1);
                Err(Turned::TooMany {
                    detail: format!(
                        "This token made {policy} requests within a minute. Try again in {wait_secs} s, or ask for many values at once."
                    ),
                    wait_secs,
                    left: Some(Left {
                        policy,
                        requests: 0,
                        reset_secs: wait_secs,
                    }),
                })
            }
        }
    }

    fn is_known(&self, hash: &str) -> bool {
        let mut known = lock(&self.0.known);
        if known.now.contains(hash) {
            return true;
        }
        // Known for another generation.
        match known.before.take(hash) {
            Some(hash) => {
                known.now.insert(hash);
                true
            }
            None => false,
        }
    }

    fn know(&self, hash: String) {
        let mut known = lock(&self.0.known);
        if known.now.len() >= KNOWN_MAX || known.since.elapsed() > KNOWN_FOR {
            known.before = std::mem::take(&mut known.now);
            known.since = Instant::now();
            // Those that have their whole quota again are forgotten, once a generation.
            if let Some(limiter) = &self.0.tokens {
                limiter.retain_recent();
            }
        }
        known.now.insert(hash);
    }

    /// Errors: too many from this address were turned away in this window.
    fn check_address(&self, from: &Origin) -> Result<(), Turned> {
        let Some(address) = from.address else {
            return Ok(());
        };
        let turned_away = lock(&self.0.turned_away);
        let since = turned_away.since.elapsed();
        let count = turned_away.count(place(address));
        if since >= WINDOW || count < TURNED_AWAY_MAX {
            return Ok(());
        }
        let wait_secs = (WINDOW - since).as_secs().max(1);
        metrics::counter!("sealport_refusals_total", "action" => "api.flood").increment(1);
        Err(Turned::TooMany {
            detail: format!(
                "Too many requests from this address showed no token, or one that opens nothing. Try again in {wait_secs} s."
            ),
            wait_secs,
            left: None,
        })
    }

    fn charge(&self, from: &Origin) {
        let Some(address) = from.address else {
            return;
        };
        let mut turned_away = lock(&self.0.turned_away);
        if turned_away.since.elapsed() >= WINDOW {
            turned_away.counts.clear();
            turned_away.since = Instant::now();
        }
        let key = turned_away.key(place(address));
        let count = turned_away.counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }
}

impl TurnedAway {
    fn key(&self, place: IpAddr) -> IpAddr {
        match self.counts.len() < ADDRESSES_MAX || self.counts.contains_key(&place) {
            true => place,
            false => OTHERS,
        }
    }

    fn count(&self, place: IpAddr) -> u32 {
        self.counts.get(&self.key(place)).copied().unwrap_or(0)
    }
}

/// All addresses for which there is no room.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What one network has: an address, or 64 bits of one.
fn place(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// Counters that are poisoned count on: nothing here can be half-done.
fn lock<T>(counts: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Left {
    /// As draft-ietf-httpapi-ratelimit-headers-10 writes them.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Left {
            policy,
            requests,
            reset_secs,
        } = self;
        let policy = format!("\"token\";q={policy};w={}", WINDOW.as_secs());
        let now = format!("\"token\";r={requests};t={reset_secs}");
        if let (Ok(policy), Ok(now)) = (HeaderValue::try_from(policy), HeaderValue::try_from(now)) {
            headers.insert(RATE_LIMIT_POLICY, policy);
            headers.insert(RATE_LIMIT, now);
        }
    }
}

/// The token in `Authorization: Bearer …`, at every door.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| SecretString::from(token.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(address: &str) -> Origin {
        Origin {
            address: Some(address.parse().unwrap()),
            ..Origin::default()
        }
    }

    #[test]
    fn an_address_that_is_turned_away_too_often_is_not_asked_any_more() {
        let quotas = Quotas::per_minute(0);
        let (flood, other) = (at("2001:db8::1"), at("192.0.2.1"));
        for _ in 0..TURNED_AWAY_MAX {
            assert!(quotas.check_address(&flood).is_ok());
            quotas.charge(&flood);
        }
        // Its neighbours in one network are the same to us.
        for address in ["2001:db8::1", "2001:db8::2"] {
            let refused = quotas.check_address(&at(address));
            assert!(matches!(refused, Err(Turned::TooMany { wait_secs, .. }) if wait_secs <= 60));
        }
        assert!(quotas.check_address(&other).is_ok());
        assert!(quotas.check_address(&at("2001:db8:0:1::1")).is_ok());
        assert!(quotas.check_address(&Origin::default()).is_ok());
    }

    #[test]
    fn nothing_that_is_counted_grows_without_end() {
        let quotas = Quotas::per_minute(1);
        for number in 0..ADDRESSES_MAX as u32 + 500 {
            quotas.charge(&at(&std::net::Ipv4Addr::from(number).to_string()));
        }
        let counted = lock(&quotas.0.turned_away).counts.len();
        assert_eq!(counted, ADDRESSES_MAX + 1);
        // Addresses for which there was no room share one count.
        assert!(quotas.check_address(&at("192.0.2.1")).is_ok());
        for _ in 0..TURNED_AWAY_MAX {
            quotas.charge(&at("192.0.2.1"));
        }
        assert!(quotas.check_address(&at("198.51.100.1")).is_err());
        assert!(quotas.check_address(&at("0.0.0.1")).is_ok());

        for number in 0..KNOWN_MAX * 3 {
            quotas.know(number.to_string());
        }
        let known = lock(&quotas.0.known);
        assert_eq!(known.now.len() + known.before.len(), 2 * KNOWN_MAX);
        drop(known);
        assert!(quotas.is_known(&(KNOWN_MAX * 3 - 1).to_string()));
        assert!(!quotas.is_known("0"));
    }

    #[test]
    fn a_token_that_is_used_stays_known_and_has_one_quota() {
        let quotas = Quotas::per_minute(2);
        quotas.know("used".into());
        let before: Vec<bool> = (0..3)
            .map(|_| quotas.take(&"used".into()).is_ok())
            .collect();
        assert_eq!(before, [true, true, false]);
        for generation in 0..3 {
            for number in 0..KNOWN_MAX {
                quotas.know(format!("{generation} {number}"));
            }
            assert!(quotas.is_known("used"), "{generation}");
        }
        // What is used up is not forgotten with a generation.
        assert!(quotas.take(&"used".into()).is_err());
    }
}

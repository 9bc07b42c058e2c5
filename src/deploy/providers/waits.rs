//! How long a provider asks us to wait, and how long we wait of ourselves.

use std::time::Duration;

use http::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// Numbers above are a time since 1970, those below a wait: no provider asks for thirty years.
const LEAST_EPOCH_SECS: f64 = 1e9;
/// Numbers above are a time in milliseconds.
const LEAST_EPOCH_MILLIS: f64 = 1e12;

/// In the order in which they count: the first that can be read.
const HEADERS: [&str; 4] = [
    "retry-after",
    "ratelimit-reset",
    "x-ratelimit-reset",
    "x-rate-limit-reset",
];

/// What the answer's headers ask for.
pub(super) fn asked(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    HEADERS.iter().find_map(|name| {
        let text = headers.get(*name)?.to_str().ok()?;
        until(text.trim(), now)
    })
}

/// Seconds, a time as a number, an HTTP date, or a date in ISO form. What has passed is no wait.
fn until(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let now_secs = now.unix_timestamp_nanos() as f64 / 1e9;
    let secs = match text.parse::<f64>() {
        Ok(number) if number.is_nan() || number < 0.0 => return None,
        Ok(number) if number >= LEAST_EPOCH_MILLIS => number / 1e3 - now_secs,
        Ok(number) if number >= LEAST_EPOCH_SECS => number - now_secs,
        Ok(number) => number,
        Err(_) => {
            let at = OffsetDateTime::parse(text, &Rfc2822)
                .or_else(|_| OffsetDateTime::parse(text, &Rfc3339))
                .ok()?;
            (at - now).as_seconds_f64()
        }
    };
    // A number may be anything; what is longer than a day is a day to us.
    Duration::try_from_secs_f64(secs.clamp(0.0, 86_400.0)).ok()
}

/// Exponential with full jitter, so that many who failed together do not come back together.
pub(super) fn backoff(tries: u32) -> Duration {
    let most = FIRST_BACKOFF
        .saturating_mul(1 << tries.saturating_sub(1).min(16))
        .min(LONGEST_BACKOFF);
    most.mul_f64(rand::random::<f64>())
}

/// A little past what was asked for: the same reason.
pub(super) fn after(asked: Duration) -> Duration {
    asked + FIRST_BACKOFF.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2025-11-26 14:00:00 UTC);

    fn of(headers: &[(&'static str, &str)]) -> Option<u64> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        asked(&map, NOW).map(|wait| wait.as_secs())
    }

    #[test]
    fn every_form_in_which_a_wait_is_asked_for_is_read() {
        let epoch = (NOW.unix_timestamp() + 40).to_string();
        let millis = ((NOW.unix_timestamp() + 40) * 1000).to_string();
        for (header, wanted) in [
            (("retry-after", "7"), Some(7)),
            (("retry-after", "Wed, 26 Nov 2025 14:00:20 GMT"), Some(20)),
            // It has passed.
            (("retry-after", "Wed, 26 Nov 2025 13:00:20 GMT"), Some(0)),
            (("ratelimit-reset", "12"), Some(12)),
            (("ratelimit-reset", "1.5"), Some(1)),
            (("ratelimit-reset", epoch.as_str()), Some(40)),
            (("x-ratelimit-reset", epoch.as_str()), Some(40)),
            (("x-ratelimit-reset", millis.as_str()), Some(40)),
            (("x-ratelimit-reset", "2025-11-26T14:00:09Z"), Some(9)),
            (("retry-after", "1e300"), Some(86_400)),
            (("retry-after", "soon"), None),
            (("retry-after", "-3"), None),
            (("retry-after", "NaN"), None),
            (("x-unrelated", "3"), None),
        ] {
            assert_eq!(of(&[header]), wanted, "{header:?}");
        }
        assert_eq!(
            of(&[("ratelimit-reset", "30"), ("retry-after", "5")]),
            Some(5),
            "what says when to come again counts more than when a window ends"
        );
        assert_eq!(
            of(&[("ratelimit-reset", "30"), ("retry-after", "soon")]),
            Some(30)
        );
    }

    #[test]
    fn backing_off_grows_and_ends_growing() {
        for tries in 0..40 {
            assert!(backoff(tries) <= LONGEST_BACKOFF);
        }
        assert!(backoff(1) <= FIRST_BACKOFF);
        let several: Vec<Duration> = (0..20).map(|_| backoff(4)).collect();
        assert!(
            several.iter().any(|wait| *wait != several[0]),
            "no two that failed together come back together"
        );
    }
}

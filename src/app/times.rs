//! Moments, as a person reads them and as a machine does. Computed on the server, so no page waits for it.

use leptos::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A moment: how long ago or ahead, with the exact time behind it.
#[component]
pub fn When(at: OffsetDateTime) -> impl IntoView {
    let exact = at
        .replace_nanosecond(0)
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default();
    view! {
        <time datetime=exact title=absolute(at) class="whitespace-nowrap">
            {relative(at, OffsetDateTime::now_utc())}
        </time>
    }
}

/// As in "2026-11-23 08:50 UTC".
pub fn absolute(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(format_description!(
            "[year]-[month]-[day] [hour]:[minute] UTC"
        ))
        .unwrap_or_default()
}

/// The day alone, as date fields want it.
pub fn day(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(format_description!("[year]-[month]-[day]"))
        .unwrap_or_default()
}

/// As in "5 minutes ago", "in 3 days"; beyond two months the day itself.
pub fn relative(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let secs = (now - at).whole_seconds();
    let (ahead, secs) = (secs < 0, secs.unsigned_abs());
    let (count, unit) = match secs {
        0..45 => return if ahead { "in a moment" } else { "just now" }.to_owned(),
        45..3_570 => ((secs + 30) / 60, "minute"),
        3_570..84_600 => ((secs + 1_800) / 3_600, "hour"),
        84_600..5_184_000 => ((secs + 43_200) / 86_400, "day"),
        _ => return day(at),
    };
    let plural = if count == 1 { "" } else { "s" };
    if ahead {
        format!("in {count} {unit}{plural}")
    } else {
        format!("{count} {unit}{plural} ago")
    }
}

/// A span, as in "4.2 s" or "3 min 5 s".
pub fn span(from: OffsetDateTime, to: OffsetDateTime) -> String {
    let millis = (to - from).whole_milliseconds().max(0);
    match millis {
        0..10_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        10_000..60_000 => format!("{} s", millis / 1_000),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    #[test]
    fn moments_read_as_people_say_them() {
        let now = datetime!(2026-11-23 12:00 UTC);
        let says = |ago: Duration| relative(now - ago, now);
        assert_eq!(says(Duration::seconds(3)), "just now");
        assert_eq!(says(Duration::seconds(59)), "1 minute ago");
        assert_eq!(says(Duration::minutes(59)), "59 minutes ago");
        assert_eq!(says(Duration::minutes(60)), "1 hour ago");
        assert_eq!(says(Duration::hours(23)), "23 hours ago");
        assert_eq!(says(Duration::hours(24)), "1 day ago");
        assert_eq!(says(Duration::days(-3)), "in 3 days");
        assert_eq!(says(Duration::days(90)), "2026-08-25");
    }

    #[test]
    fn spans_have_units() {
        let from = datetime!(2026-11-23 12:00 UTC);
        assert_eq!(span(from, from + Duration::milliseconds(4_250)), "4.2 s");
        assert_eq!(span(from, from + Duration::seconds(42)), "42 s");
        assert_eq!(span(from, from + Duration::seconds(185)), "3 min 5 s");
        assert_eq!(span(from, from - Duration::seconds(1)), "0.0 s");
    }
}

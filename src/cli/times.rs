//! Moments as they are typed and printed: in UTC.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime};

const FORMS: &str = "write a moment as 2027-03-31T12:00:00Z, a day as 2027-03-31, or a time from now as 30d, 12h or 2w";
const FORMS_BEHIND: &str = "write a moment as 2027-03-31T12:00:00Z, a day as 2027-03-31, or a time before now as 7d, 12h or 2w";

/// A moment, the end of a day in UTC, or a span from now.
pub fn ahead(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, Duration::DAY, |span| {
        OffsetDateTime::now_utc().checked_add(span)
    })
}

/// The same for what lies behind: the beginning of a day, or a span before now.
pub fn behind(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, Duration::ZERO, |span| {
        OffsetDateTime::now_utc().checked_sub(span)
    })
    .map_err(|_| FORMS_BEHIND.to_owned())
}

/// As `ahead`, and `never` for no end.
pub fn end(text: &str) -> Result<End, String> {
    match text {
        "never" => Ok(End(None)),
        text => ahead(text)
            .map(|at| End(Some(at)))
            .map_err(|forms| format!("{forms}, or never")),
    }
}

/// When something ends, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End(pub Option<OffsetDateTime>);

fn moment(
    text: &str,
    into_day: Duration,
    from_now: impl Fn(Duration) -> Option<OffsetDateTime>,
) -> Result<OffsetDateTime, String> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        let begin = day.midnight().assume_utc();
        return begin.checked_add(into_day).ok_or_else(|| FORMS.to_owned());
    }
    span(text)
        .ok()
        .and_then(from_now)
        .ok_or_else(|| FORMS.to_owned())
}

/// As in 30d: a number of minutes, hours, days or weeks.
pub fn span(text: &str) -> Result<Duration, String> {
    let refuse = || "write a time as in 90m, 12h, 30d or 2w".to_owned();
    let (at, unit) = text.char_indices().last().ok_or_else(refuse)?;
    let seconds: i64 = match unit {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(refuse()),
    };
    let count: u32 = text[..at].parse().map_err(|_| refuse())?;
    i64::from(count)
        .checked_mul(seconds)
        .map(Duration::seconds)
        .ok_or_else(refuse)
}

pub fn written(moment: OffsetDateTime) -> String {
    let second = moment.replace_nanosecond(0).unwrap_or(moment);
    second
        .to_offset(time::UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_span_has_a_number_and_a_unit() {
        for (text, minutes) in [("90m", 90), ("12h", 720), ("30d", 43_200), ("2w", 20_160)] {
            assert_eq!(span(text), Ok(Duration::minutes(minutes)), "{text}");
        }
        for wrong in [
            "",
            "30",
            "d",
            "-1d",
            "1.5h",
            "3x",
            "30 d",
            "99999999999w",
            "3ä",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_typed_in_three_ways() {
        let at = |text: &str| ahead(text).map(written);
        assert_eq!(
            at("2027-03-31T12:00:00+02:00").unwrap(),
            "2027-03-31T10:00:00Z"
        );
        // The dashboard too lets a secret live to the end of its day.
        assert_eq!(at("2027-03-31").unwrap(), "2027-04-01T00:00:00Z");
        assert_eq!(
            written(behind("2027-03-31").unwrap()),
            "2027-03-31T00:00:00Z"
        );
        assert_eq!(end("never"), Ok(End(None)));
        assert!(end("2027-03-31").unwrap().0.is_some() && end("Never").is_err());
        let left = ahead("2w").unwrap() - OffsetDateTime::now_utc();
        assert!((Duration::days(13)..=Duration::days(14)).contains(&left));
        for bad in [
            "",
            "d",
            "-1d",
            "1y",
            "1.5d",
            "99999999999d",
            "4294967295w",
            "tomorrow",
            "2027-13-01",
            "7ä",
        ] {
            assert!(ahead(bad).is_err(), "{bad}");
        }
    }
}

//! What arrives in forms, parsed: the part of the pages that is on the server alone.

use leptos::prelude::expect_context;
use secrecy::{ExposeSecret, SecretString};

use super::wire::Typed;
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::secrets::RotationRule;
use crate::store::secrets::NewValue;

/// As many random bytes as a key of the strongest ciphers has.
const GENERATED_LEN_BYTES: usize = 32;

/// What the form asks to seal. Errors: `Invalid` at `value` when it holds nothing.
pub fn new_value(typed: Typed, generate: bool) -> Result<NewValue, Refusal> {
    if generate && !typed.is_empty() {
        Err(Refusal::invalid(
            "value",
            "A value was typed, and Generate unseen was pressed: both cannot be. Nothing was sealed. Type the value again and seal it, or leave the field empty and generate one.",
        ))
    } else if generate {
        Ok(NewValue::generated(GENERATED_LEN_BYTES))
    } else if typed.is_empty() {
        Err(Refusal::invalid(
            "value",
            "Type or paste the value, or press Generate unseen.",
        ))
    } else {
        Ok(NewValue::Typed(typed.into_value()))
    }
}

/// The end of a day as a form sends it; nothing for an empty field. Errors: `Invalid` at `expires_at`.
pub fn expiry(day: &str) -> Result<Option<time::OffsetDateTime>, Refusal> {
    let day = day.trim();
    if day.is_empty() {
        return Ok(None);
    }
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(day, format)
        .map(|day| Some(day.with_time(time::macros::time!(23:59:59)).assume_utc()))
        .map_err(|_| {
            Refusal::invalid(
                "expires_at",
                "Write the day as in 2027-03-31, or leave it empty.",
            )
        })
}

/// Leads a link's maker to where it is shown, once.
pub async fn show_link(caller: &Caller, kind: &str, link: SecretString) -> Result<(), Refusal> {
    let user_id = caller.user().map(|user| user.id).unwrap_or_default();
    let url = expect_context::<url::Url>()
        .join(&format!("/{kind}/{}", link.expose_secret()))
        .map_err(|_| Refusal::internal())?;
    let once = expect_context::<super::once::ShownOnce>();
    let shown = once.keep(user_id, SecretString::from(String::from(url)));
    leptos_axum::redirect(&format!("/people?shown={shown}#link"));
    Ok(())
}

/// The end as a form changed it; none where the day is the one that the form showed, for an end may lie within its day.
pub fn moved_expiry(
    day: &str,
    shown: &str,
) -> Result<Option<Option<time::OffsetDateTime>>, Refusal> {
    if day.trim() == shown.trim() {
        return Ok(None);
    }
    expiry(day).map(Some)
}

/// A number of days, or none for an empty field. Errors: `Invalid` at `after_days`.
pub fn rotation_rule(days: &str, regenerate: bool) -> Result<Option<RotationRule>, Refusal> {
    let days = days.trim();
    if days.is_empty() {
        return Ok(None);
    }
    // What is no number is as wrong as one out of bounds.
    RotationRule::new(days.parse().unwrap_or_default(), regenerate).map(Some)
}

/// A number, or none for an empty field; what is no number is out of every bound.
pub fn number(typed: &str) -> Option<i32> {
    let typed = typed.trim();
    (!typed.is_empty()).then(|| typed.parse().unwrap_or(-1))
}

/// What was typed, without the spaces around it and with one kind of line end.
pub fn trimmed(typed: &str) -> String {
    typed.trim().replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_day_ends_in_utc_and_nonsense_is_refused_at_its_field() {
        let end = expiry(" 2027-03-31 ").unwrap().unwrap();
        assert_eq!(end, time::macros::datetime!(2027-03-31 23:59:59 UTC));
        assert_eq!(expiry("").unwrap(), None);
        let refusal = expiry("31.3.2027").unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("expires_at"));
    }

    #[test]
    fn a_day_that_was_not_touched_moves_nothing() {
        assert_eq!(moved_expiry("2027-03-31", "2027-03-31").unwrap(), None);
        assert_eq!(moved_expiry("", "").unwrap(), None);
        assert_eq!(moved_expiry("", "2027-03-31").unwrap(), Some(None));
        assert!(moved_expiry("2027-04-01", "2027-03-31").unwrap().is_some());
        assert!(moved_expiry("x", "2027-03-31").is_err());
    }

    #[test]
    fn days_are_a_number_within_bounds_or_nothing() {
        assert_eq!(rotation_rule(" ", true).unwrap(), None);
        let rule = rotation_rule(" 90 ", true).unwrap().unwrap();
        assert_eq!((rule.after_days, rule.regenerate), (90, true));
        for bad in ["0", "-1", "x", "9999999999", "3651"] {
            let refusal = rotation_rule(bad, false).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("after_days"), "{bad}");
        }
        assert_eq!(
            (number(""), number("7"), number("x")),
            (None, Some(7), Some(-1))
        );
    }

    #[test]
    fn a_value_comes_from_one_place() {
        let typed = || Typed::from("a\r\nb".to_owned());
        assert!(matches!(
            new_value(typed(), false).unwrap(),
            NewValue::Typed(_)
        ));
        assert!(matches!(
            new_value(Typed::default(), true).unwrap(),
            NewValue::Generated { .. }
        ));
        for (value, generate) in [(Typed::default(), false), (typed(), true)] {
            let refusal = new_value(value, generate).err().unwrap();
            assert_eq!(refusal.field.as_deref(), Some("value"));
        }
    }
}

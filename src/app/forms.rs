//! What arrives in forms, parsed: the part of the pages that is on the server alone.

use leptos::prelude::expect_context;
use secrecy::{ExposeSecret, SecretString};

use super::wire::Typed;
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::store::secrets::NewValue;

/// As many random bytes as a key of the strongest ciphers has.
const GENERATED_LEN_BYTES: usize = 32;

/// What the form asks to seal. Errors: `Invalid` at `value` when it holds nothing.
pub fn new_value(typed: Typed, generate: bool) -> Result<NewValue, Refusal> {
    if generate {
        Ok(NewValue::Generated {
            bytes: GENERATED_LEN_BYTES,
        })
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
    fn a_value_comes_from_one_place() {
        let typed = || Typed::from("a\r\nb".to_owned());
        assert!(matches!(
            new_value(typed(), false).unwrap(),
            NewValue::Typed(_)
        ));
        assert!(matches!(
            new_value(typed(), true).unwrap(),
            NewValue::Generated { .. }
        ));
        assert!(new_value(Typed::default(), false).is_err());
    }
}

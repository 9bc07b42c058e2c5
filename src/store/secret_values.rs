//! Values and the rules for what stands beside them, before anything is sealed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Error, Result, keyring};
use crate::model::errors::Refusal;
use crate::model::secrets::{DESCRIPTION_LEN_CHARS, SHORTEST_MASKED_CHARS, VALUE_LEN_BYTES};

/// Random bytes of a generated value, as URL-safe base64 a third longer.
const GENERATED_MIN_BYTES: usize = 16;
const GENERATED_MAX_BYTES: usize = 4_096;

/// A value that was typed, or one that Sealport makes unseen.
#[derive(Clone)]
pub enum NewValue {
    Typed(SecretString),
    /// Random bytes, written as `encoding` says.
    Generated {
        bytes: usize,
        encoding: Encoding,
    },
}

impl NewValue {
    pub fn generated(bytes: usize) -> Self {
        NewValue::Generated {
            bytes,
            encoding: Encoding::default(),
        }
    }
}

/// How random bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// URL-safe base64 without padding.
    #[default]
    Base64Url,
    Hex,
}

impl Encoding {
    /// How a generated value is written. One of base64 is all hex digits once in more than 10^20 cases.
    pub(super) fn of(value: &SecretString) -> Encoding {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match value.expose_secret().bytes().all(is_hex) {
            true => Encoding::Hex,
            false => Encoding::Base64Url,
        }
    }
}

/// The value, and whether Sealport made it.
pub(super) fn resolve(value: NewValue) -> Result<(SecretString, bool), Error> {
    match value {
        NewValue::Typed(value) => {
            check_value(&value)?;
            Ok((value, false))
        }
        NewValue::Generated { bytes, encoding } => Ok((generate(bytes, encoding)?, true)),
    }
}

pub(super) fn check_value(value: &SecretString) -> Result<(), Refusal> {
    let text = value.expose_secret();
    if text.is_empty() {
        return Err(Refusal::invalid("value", "Give the secret a value."));
    }
    if text.len() > VALUE_LEN_BYTES {
        return Err(Refusal::invalid(
            "value",
            format!("A value has at most {} KiB.", VALUE_LEN_BYTES / 1024),
        ));
    }
    // An environment variable cannot carry one.
    if text.contains('\0') {
        return Err(Refusal::invalid(
            "value",
            "A value cannot hold a NUL character: environment variables cannot carry it. Store it as base64.",
        ));
    }
    Ok(())
}

fn generate(bytes: usize, encoding: Encoding) -> Result<SecretString> {
    if !(GENERATED_MIN_BYTES..=GENERATED_MAX_BYTES).contains(&bytes) {
        return Err(Refusal::invalid(
            "value",
            format!(
                "A generated value has {GENERATED_MIN_BYTES} to {GENERATED_MAX_BYTES} random bytes."
            ),
        )
        .into());
    }
    let mut random = Zeroizing::new(vec![0; bytes]);
    keyring::random_bytes(&mut random)
        .map_err(|error| Error::caused("no value could be made", error))?;
    Ok(SecretString::from(match encoding {
        Encoding::Base64Url => URL_SAFE_NO_PAD.encode(random.as_slice()),
        Encoding::Hex => hex::encode(random.as_slice()),
    }))
}

/// From how many random bytes a generated value of that length was made.
pub(super) fn generated_len_bytes(value_len_bytes: usize, encoding: Encoding) -> usize {
    let random = match encoding {
        Encoding::Base64Url => value_len_bytes * 3 / 4,
        Encoding::Hex => value_len_bytes / 2,
    };
    random.clamp(GENERATED_MIN_BYTES, GENERATED_MAX_BYTES)
}

/// Whether it is masked in what a server says. Servers trim what they read, so blanks around it do not count.
pub(super) fn is_maskable(value: &SecretString) -> bool {
    value.expose_secret().trim().chars().count() >= SHORTEST_MASKED_CHARS
}

pub(super) fn check_description(description: &str) -> Result<(), Refusal> {
    if description.chars().count() > DESCRIPTION_LEN_CHARS {
        return Err(Refusal::invalid(
            "description",
            format!("A description has at most {DESCRIPTION_LEN_CHARS} characters."),
        ));
    }
    if description
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(Refusal::invalid(
            "description",
            "A description is plain text, without control characters.",
        ));
    }
    Ok(())
}

pub(super) fn check_expiry(expires_at: Option<OffsetDateTime>) -> Result<(), Refusal> {
    if expires_at.is_some_and(|at| at <= OffsetDateTime::now_utc()) {
        return Err(Refusal::invalid(
            "expires_at",
            "That time is past. To stop the use of a secret now, switch it off.",
        ));
    }
    Ok(())
}

/// In constant time, over digests, so that neither place nor length of a difference shows.
pub(super) fn same(value: &SecretString, guess: &SecretString) -> bool {
    let digest = |text: &SecretString| Sha256::digest(text.expose_secret());
    digest(value).ct_eq(&digest(guess)).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn values_are_kept_as_they_are_or_refused() {
        for (text, fine) in [
            (String::new(), false),
            ("x".into(), true),
            (" spaces kept \r\n".into(), true),
            ("with\0nul".into(), false),
            ("x".repeat(VALUE_LEN_BYTES), true),
            ("x".repeat(VALUE_LEN_BYTES + 1), false),
        ] {
            let checked = check_value(&SecretString::from(text.clone()));
            assert_eq!(checked.is_ok(), fine, "{} bytes", text.len());
            if let Err(refusal) = checked {
                assert_eq!(refusal.field.as_deref(), Some("value"));
            }
        }
    }

    #[test]
    fn a_value_is_maskable_from_six_characters_on() {
        for (value, is) in [
            ("12345", false),
            ("123456", true),
            ("äöüßé", false),
            ("  12345\n", false),
            ("12 456", true),
        ] {
            assert_eq!(is_maskable(&SecretString::from(value)), is, "{value:?}");
        }
    }

    #[test]
    fn generated_values_differ_and_have_the_length_asked_for() {
        let one = generate(32, Encoding::Base64Url).unwrap();
        let other = generate(32, Encoding::Base64Url).unwrap();
        assert_eq!(one.expose_secret().len(), 43);
        assert!(!same(&one, &other));
        assert!(same(&one, &one.clone()));
        for bytes in [16, 31, 32, 33, 4_096] {
            for encoding in [Encoding::Base64Url, Encoding::Hex] {
                let value = generate(bytes, encoding).unwrap();
                assert_eq!(Encoding::of(&value), encoding);
                let len_bytes = value.expose_secret().len();
                assert_eq!(generated_len_bytes(len_bytes, encoding), bytes);
            }
        }
        for bytes in [8, 1 << 20] {
            assert!(generate(bytes, Encoding::Hex).is_err());
        }
    }
}

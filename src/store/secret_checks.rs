//! What can be told of a value by its kind, before it is sealed. Nothing here quotes a value.

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::pem::Pem;

use crate::model::errors::Refusal;
use crate::model::secrets::Kind;

/// A key for HMAC-SHA-256 has at least as many bytes as the hash (RFC 7518, section 3.2).
const JWT_SECRET_MIN_BYTES: usize = 32;

/// What was found: where a certificate ends, and what a person may want to know.
#[derive(Debug, Default)]
pub(super) struct Checked {
    end: Option<OffsetDateTime>,
    notes: Vec<String>,
}

impl Checked {
    /// Errors: `Invalid` at `value` for what cannot be of that kind, saying where, never what.
    pub(super) fn of(kind: Kind, value: &SecretString) -> Result<Checked, Refusal> {
        let text = value.expose_secret();
        let mut checked = Checked::default();
        match kind {
            Kind::ApiKey => checked.note_blanks(text),
            Kind::DatabaseUrl => {
                checked.note_blanks(text);
                check_database_url(text)?;
            }
            Kind::JwtSecret => {
                checked.note_blanks(text);
                if text.len() < JWT_SECRET_MIN_BYTES {
                    checked.notes.push(format!(
                        "It has fewer than {JWT_SECRET_MIN_BYTES} bytes, which is short for signing tokens: it can be guessed. \
                         A generated one is long enough."
                    ));
                }
            }
            Kind::Certificate => checked.read_certificate(text)?,
            Kind::Json => check_json(text)?,
            Kind::Custom => {}
        }
        Ok(checked)
    }

    /// The end that holds beside the one that a person gave: theirs, or the certificate's own if it is to come.
    pub(super) fn end_beside(&self, given: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
        let now = OffsetDateTime::now_utc();
        given.or(self.end.filter(|end| *end > now))
    }

    /// What to say, given the end that a person gave.
    pub(super) fn notes(self, given: Option<OffsetDateTime>) -> Vec<String> {
        let mut notes = self.notes;
        if let Some(end) = self.end {
            let on = day(end);
            if end <= OffsetDateTime::now_utc() {
                notes.push(format!(
                    "This certificate ended on {on}: others will refuse it."
                ));
            } else if given.is_none() {
                notes.push(format!("Its own end, {on}, was read and set."));
            } else if given.is_some_and(|given| given > end) {
                notes.push(format!("The certificate itself ends before that, on {on}."));
            }
        }
        notes
    }

    fn note_blanks(&mut self, text: &str) {
        if text.ends_with(['\n', '\r']) {
            self.notes.push(
                "It ends with a line break, which was kept. If it was only pasted along, replace the value without it.".into(),
            );
        } else if text.trim() != text {
            self.notes.push(
                "It begins or ends with blanks, which were kept. If they were only pasted along, replace the value without them."
                    .into(),
            );
        }
    }

    fn read_certificate(&mut self, text: &str) -> Result<(), Refusal> {
        let refuse = |detail: &str| Err(Refusal::invalid("value", detail));
        let mut blocks = 0;
        for (index, pem) in Pem::iter_from_buffer(text.as_bytes()).enumerate() {
            let number = index + 1;
            let Ok(pem) = pem else {
                // A key of another form may stand beside; what claims to be a certificate has to be one.
                if text.contains("BEGIN CERTIFICATE") {
                    return refuse(&format!(
                        "Block {number} of the PEM text does not read: is it whole, from BEGIN to END? \
                         If it is no certificate, make its kind custom."
                    ));
                }
                break;
            };
            blocks += 1;
            if pem.label != "CERTIFICATE" {
                continue;
            }
            let Ok(certificate) = pem.parse_x509() else {
                return refuse(&format!(
                    "Block {number} of the PEM text is no X.509 certificate."
                ));
            };
            let end = certificate.validity().not_after.to_datetime();
            // A chain holds no longer than the first of it that ends.
            self.end = Some(self.end.map_or(end, |sooner| sooner.min(end)));
        }
        if blocks == 0 && !text.contains("-----BEGIN ") {
            return refuse(
                "A certificate is PEM text: it has lines with BEGIN CERTIFICATE and END CERTIFICATE. \
                 For another form the kind is custom.",
            );
        }
        if self.end.is_none() {
            self.notes.push(
                "There is no certificate in it, so its end is not known. Give one by hand if it has one.".into(),
            );
        }
        Ok(())
    }
}

fn check_json(text: &str) -> Result<(), Refusal> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        // Its own words could quote what it met.
        Err(error) => Err(Refusal::invalid(
            "value",
            format!(
                "This is no JSON: it stops making sense at line {}, column {}. For other text the kind is custom.",
                error.line(),
                error.column()
            ),
        )),
    }
}

fn check_database_url(text: &str) -> Result<(), Refusal> {
    use url::ParseError;
    let part = match url::Url::parse(text.trim()) {
        Ok(url) if url.cannot_be_a_base() => {
            "A database URL begins with its scheme and two slashes, as in postgres://."
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) && url.path().len() < 2 => {
            "The host is missing: it stands after // or after the @."
        }
        Ok(_) => return Ok(()),
        Err(ParseError::RelativeUrlWithoutBase) => {
            "The scheme is missing: a database URL begins as in postgres://, mysql:// or redis://."
        }
        Err(ParseError::EmptyHost) => "The host is missing: it stands after // or after the @.",
        Err(ParseError::InvalidPort) => {
            "The port is no number. If the password holds / ? # or @, write them as %2F %3F %23 and %40."
        }
        Err(
            ParseError::IdnaError
            | ParseError::InvalidIpv4Address
            | ParseError::InvalidIpv6Address
            | ParseError::InvalidDomainCharacter,
        ) => {
            "The host does not read. If the password holds / ? # or @, write them as %2F %3F %23 and %40."
        }
        Err(_) => "It does not read as a URL.",
    };
    Err(Refusal::invalid(
        "value",
        format!("{part} For another form, such as host=… dbname=…, the kind is custom."),
    ))
}

fn day(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    /// Ends on 2126-11-02.
    const CERTIFICATE: &str = include_str!("../../tests/fixtures/certificate.pem");
    /// Stands in every value that is refused, and in no answer.
    const CANARY: &str = "c4n4ry";

    fn notes(kind: Kind, value: &str) -> Vec<String> {
        let notes = Checked::of(kind, &value.into()).unwrap().notes(None);
        assert!(!notes.join(" ").contains(CANARY), "{notes:?}");
        notes
    }

    fn refused(kind: Kind, value: &str) -> String {
        let refusal = Checked::of(kind, &value.into()).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("value"));
        assert!(!refusal.detail.contains(CANARY), "{}", refusal.detail);
        refusal.detail
    }

    #[test]
    fn what_was_pasted_along_is_pointed_out() {
        assert!(notes(Kind::ApiKey, "c4n4ry")[..].is_empty());
        assert!(notes(Kind::ApiKey, "c4n4ry\n")[0].contains("line break"));
        assert!(notes(Kind::ApiKey, " c4n4ry")[0].contains("blanks"));
        assert!(notes(Kind::Custom, " c4n4ry\n").is_empty());
    }

    #[test]
    fn a_database_url_says_which_part_does_not_read() {
        for good in [
            "postgres://user:c4n4ry@db.example.org:5432/shop?sslmode=require",
            "redis://:c4n4ry@127.0.0.1:6379/0",
            "mongodb+srv://user:c4n4ry@cluster.example.net/",
            "postgresql:///shop?host=/var/run/postgresql",
            "sqlite:///data/c4n4ry.db",
        ] {
            assert!(notes(Kind::DatabaseUrl, good).is_empty(), "{good}");
        }
        for (bad, part) in [
            ("c4n4ry", "scheme is missing"),
            ("host=db password=c4n4ry", "scheme is missing"),
            ("postgres:c4n4ry", "two slashes"),
            ("postgres://user:c4n4ry@", "host is missing"),
            ("postgres://user:c4n4ry@db:port/shop", "port is no number"),
            ("postgres://user:c4n4ry#x@db/shop", "port is no number"),
            ("postgres://user:x@c4n4ry db/shop", "host does not read"),
            ("https://[::c4n4ry]/", "host does not read"),
        ] {
            let said = refused(Kind::DatabaseUrl, bad);
            assert!(said.contains(part), "{bad}: {said}");
        }
    }

    #[test]
    fn json_says_where_it_breaks() {
        assert!(notes(Kind::Json, "{\"a\": [1, \"c4n4ry\"]}").is_empty());
        let said = refused(Kind::Json, "{\"a\":\n  c4n4ry}");
        assert!(said.contains("line 2, column 3"), "{said}");
        assert!(refused(Kind::Json, "").contains("line"));
    }

    #[test]
    fn a_short_jwt_secret_is_pointed_out() {
        assert!(notes(Kind::JwtSecret, &"x".repeat(32)).is_empty());
        assert!(notes(Kind::JwtSecret, &"x".repeat(31))[0].contains("32 bytes"));
    }

    #[test]
    fn a_certificate_brings_its_end() {
        let checked = Checked::of(Kind::Certificate, &CERTIFICATE.into()).unwrap();
        let end = checked.end.unwrap();
        assert_eq!(day(end), "2126-11-02");
        assert_eq!(checked.end_beside(None), Some(end));
        let sooner = end - time::Duration::days(1);
        assert_eq!(checked.end_beside(Some(sooner)), Some(sooner));
        let later = end + time::Duration::days(1);
        assert!(checked.notes(Some(later))[0].contains("ends before that"));
        assert!(notes(Kind::Certificate, CERTIFICATE)[0].contains("2126-11-02"));
        // With a key beside it, as servers want them.
        let pair =
            format!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n{CERTIFICATE}");
        assert!(notes(Kind::Certificate, &pair)[0].contains("2126-11-02"));
        let key = "-----BEGIN PRIVATE KEY-----\nc4n4ry_\n-----END PRIVATE KEY-----\n";
        assert!(notes(Kind::Certificate, key)[0].contains("no certificate in it"));
    }

    #[test]
    fn what_is_no_certificate_says_so() {
        for (bad, says) in [
            ("c4n4ry", "PEM text"),
            (&CERTIFICATE[..CERTIFICATE.len() / 2], "is it whole"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "no X.509 certificate",
            ),
        ] {
            let said = refused(Kind::Certificate, bad);
            assert!(said.contains(says), "{said}");
        }
    }
}

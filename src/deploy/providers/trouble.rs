//! What can go wrong between us and a provider, as sentences that say what to do.

use std::fmt;

use zeroize::Zeroizing;

use crate::deploy::masks::Masks;
use crate::model::paths::EnvName;

/// Of what a provider said, so much is shown.
const SAYS_LEN_CHARS: usize = 300;

/// A request that did not do what it was for. Nothing of what was sent stands in it, but in [`Says`], which shows nothing
/// until it is masked.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// 401.
    #[error(
        "{provider} does not take this key: it was revoked or has expired, or was not copied whole. Make a new one at {provider} and \
         store it as a new version of the secret."
    )]
    Unauthorised { provider: &'static str },

    /// Of a provider that says the same to a key that is dead and to one that may not.
    #[error(
        "{provider} does not allow this to this key. Either the key is not valid (any more), or it does not reach this workspace, \
         project or environment; {provider} does not say which. Check the key, or use one with more access."
    )]
    NoAccess { provider: &'static str },

    /// Before anything was sent.
    #[error(
        "The value for {name} contains ${{{{, which {provider} replaces by another variable's value, so that the server would not get \
         what is stored here. Nothing was sent. Store a value without it."
    )]
    Reference {
        provider: &'static str,
        name: EnvName,
    },

    /// 402.
    #[error(
        "{provider} asks for payment details before it does this. Add them in the billing settings there, or choose a plan that is free."
    )]
    Payment { provider: &'static str },

    /// 404, or a name that is none.
    #[error("{provider} does not have this (any more), or does not let this key see it.")]
    NotFound { provider: &'static str },

    /// 429, and the wait is longer than we stay, or it was one after the other.
    #[error("{provider} takes no more such requests for now. Try again in {wait_secs} seconds.")]
    Limited {
        provider: &'static str,
        wait_secs: u64,
    },

    /// Any other status that is no success.
    #[error("{provider} refused it (status {status}){says}")]
    Refused {
        provider: &'static str,
        status: u16,
        says: Says,
    },

    /// 3xx. Nobody is followed with a key.
    #[error(
        "{provider} sent the request elsewhere (status {status}), where it does not follow. Look whether the address of {provider}'s API is right."
    )]
    Moved { provider: &'static str, status: u16 },

    /// A page of HTML came, as from something that stands in front of the API.
    #[error(
        "{provider} answered with something that is not data (status {status}), as when it is disturbed. Look at its status page, and try again."
    )]
    NotJson { provider: &'static str, status: u16 },

    /// JSON, but not of the form that is documented.
    #[error(
        "The answer of {provider} (status {status}) is not of the form that its documentation gives. A newer Sealport may know the new form."
    )]
    Unexpected { provider: &'static str, status: u16 },

    /// Nothing was sent, or it is safe to send it again.
    #[error(
        "{provider} is not reached: {why}. Try again, and look whether this machine reaches {host}."
    )]
    Unreachable {
        provider: &'static str,
        host: String,
        why: String,
    },

    /// It was sent once, and may have been done. Look before sending it again.
    #[error(
        "{provider} was asked to do this, but its answer did not come: it may be done or not. Look there before it is asked again."
    )]
    Lost { provider: &'static str },

    #[error(
        "{host} is not asked for {provider}: it is on a private network, or not behind https. An administrator can allow it by listing it \
         in SEALPORT_SOURCE_HOSTS."
    )]
    NotAllowed {
        provider: &'static str,
        host: String,
    },

    #[error("The answer of {provider} is longer than any that is read here.")]
    TooLarge { provider: &'static str },
}

impl Trouble {
    /// Whether what was asked may have been done all the same, for requests that are sent once: look there.
    pub fn may_be_done(&self) -> bool {
        match self {
            Trouble::Lost { .. } | Trouble::TooLarge { .. } => true,
            Trouble::Unexpected { status, .. }
            | Trouble::NotJson { status, .. }
            | Trouble::Refused { status, .. } => (200..300).contains(status) || *status >= 500,
            _ => false,
        }
    }

    /// Whether the same request may go well at another time, so that a job waits rather than fails.
    pub fn may_pass(&self) -> bool {
        match self {
            Trouble::Limited { .. } | Trouble::Unreachable { .. } | Trouble::Lost { .. } => true,
            Trouble::NotJson { status, .. } | Trouble::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// With what the provider said made fit to be shown. The masks are of every value that was sent.
    pub fn masked(mut self, masks: &Masks) -> Self {
        if let Trouble::Refused { says, .. } = &mut self {
            says.mask(masks);
        }
        self
    }
}

/// What a provider said of a request. It may echo what was sent, so it shows nothing until it is masked; and it is
/// shortened only then, for masks do not find a part of a value.
#[derive(Default)]
pub struct Says {
    said: Zeroizing<String>,
    shown: Option<String>,
}

impl Says {
    pub fn new(said: String) -> Self {
        Says {
            said: Zeroizing::new(said),
            shown: None,
        }
    }

    /// The text in one line, or nothing before it was masked.
    pub fn text(&self) -> &str {
        self.shown.as_deref().unwrap_or_default()
    }

    pub(super) fn mask(&mut self, masks: &Masks) {
        self.shown = Some(plain(&masks.text(&self.said)));
    }

    /// Takes out what is masked, and stays as unfit to be shown as before.
    pub(super) fn without(self, masks: &Masks) -> Self {
        Says::new(masks.text(&self.said).into_owned())
    }
}

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Says").field(&self.shown).finish()
    }
}

/// The rest of a sentence, with its end.
impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            "" => f.write_str("."),
            text => write!(f, ": {text}"),
        }
    }
}

/// One line of so many characters, without what changes how a terminal or a page reads.
fn plain(text: &str) -> String {
    let mut line = String::new();
    let mut chars = 0;
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        let c = if c.is_control() || c.is_whitespace() {
            ' '
        } else {
            c
        };
        if turns || (c == ' ' && (line.is_empty() || line.ends_with(' '))) {
            continue;
        }
        if chars == SAYS_LEN_CHARS {
            line.push('…');
            return line;
        }
        line.push(c);
        chars += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::deploy::masks::MASK;
    use secrecy::SecretString;

    const CANARY: &str = "canary-4f1c2b7e9a";

    fn refused(says: &str) -> Trouble {
        Trouble::Refused {
            provider: "Render",
            status: 400,
            says: Says::new(says.to_owned()),
        }
    }

    #[test]
    fn what_was_said_shows_only_when_masked() {
        let trouble = refused(&format!(
            "envVars[0].value {CANARY} is\n\tinvalid\u{1b}[31m"
        ));
        for text in [trouble.to_string(), format!("{trouble:?}")] {
            assert!(
                !text.contains("envVars") && !text.contains(CANARY),
                "{text}"
            );
        }
        assert_eq!(trouble.to_string(), "Render refused it (status 400).");
        let masks = Masks::new([&SecretString::from(CANARY)]);
        assert_eq!(
            trouble.masked(&masks).to_string(),
            format!("Render refused it (status 400): envVars[0].value {MASK} is invalid [31m")
        );
    }

    /// Cut first, the beginning of a value would stand there unmasked.
    #[test]
    fn it_is_shortened_only_after_masking() {
        let long = CANARY.repeat(40);
        let masks = Masks::new([&SecretString::from(long.clone())]);
        let trouble = refused(&format!("{}{long}", "x".repeat(SAYS_LEN_CHARS - 10)));
        let text = trouble.masked(&masks).to_string();
        assert!(!text.contains("canary"), "{text}");
        let trouble = refused(&"y".repeat(1000)).masked(&Masks::none());
        let text = trouble.to_string();
        assert_eq!(text.chars().filter(|c| *c == 'y').count(), SAYS_LEN_CHARS);
        assert!(text.ends_with('…'));
    }

    /// A value of several lines is found as it is, not after its lines are joined.
    #[test]
    fn values_of_several_lines_are_masked() {
        let value = "-----BEGIN-----\nMIIcanary0123\nabcdefgh\n-----END-----";
        let masks = Masks::new([&SecretString::from(value)]);
        let text = refused(&format!("bad: {value}!"))
            .masked(&masks)
            .to_string();
        assert!(!text.contains("canary") && text.contains(MASK), "{text}");
    }

    #[test]
    fn what_turns_the_reading_around_is_out() {
        assert_eq!(plain("  a\u{202e}b\r\n\u{7}c\u{feff} "), "ab c");
        assert_eq!(plain("\u{1b}\u{0}"), "");
    }

    #[test]
    fn it_is_known_what_may_be_done() {
        let provider = "Render";
        assert!(Trouble::Lost { provider }.may_be_done());
        assert!(
            Trouble::NotJson {
                provider,
                status: 200
            }
            .may_be_done()
        );
        assert!(
            Trouble::NotJson {
                provider,
                status: 502
            }
            .may_be_done()
        );
        assert!(
            !Trouble::NotJson {
                provider,
                status: 403
            }
            .may_be_done()
        );
        assert!(!refused("").may_be_done());
        assert!(!Trouble::Unauthorised { provider }.may_be_done());
    }
}

//! Which variables a source wants: what its manifests say, and what its code seems to read.

use std::collections::BTreeMap;

use crate::model::paths::EnvName;
use crate::model::sources::WantedVariable;

use super::text;

/// Variables that are shown for one source.
pub(super) const VARIABLES_MAX: usize = 60;
/// The union of what every manifest asks for; what is said first stays, later ones fill gaps.
#[derive(Default)]
pub(super) struct Wanted {
    found: BTreeMap<String, (usize, WantedVariable)>,
}

impl Wanted {
    /// Names that cannot be bound, and those that say nothing about this server, are left out.
    pub fn add(&mut self, mut variable: WantedVariable) {
        if EnvName::parse(&variable.name).is_err() || is_noise(&variable.name) {
            return;
        }
        variable.description = text::line(&variable.description, text::SENTENCE_LEN);
        variable.default = variable
            .default
            .map(|default| text::line(&default, text::DEFAULT_LEN))
            .filter(|default| !default.is_empty());
        let next = self.found.len();
        match self.found.get_mut(&variable.name) {
            None => {
                // Suggestions may be cut; what a manifest declares comes before them.
                if next < VARIABLES_MAX * 4 {
                    self.found.insert(variable.name.clone(), (next, variable));
                }
            }
            Some((_, known)) => {
                if known.description.is_empty() {
                    known.description = variable.description;
                }
                if known.default.is_none() {
                    known.default = variable.default;
                }
                // Code that stops without it is better evidence than a manifest that forgot to say so;
                // a manifest that declares it optional is not overruled.
                if known.suggested {
                    known.required |= variable.required;
                    known.secret |= variable.secret;
                    known.suggested = variable.suggested;
                }
            }
        }
    }

    pub fn suggest(&mut self, name: &str, required: bool) {
        self.add(WantedVariable {
            name: name.to_owned(),
            description: String::new(),
            required,
            secret: is_secret_name(name),
            default: None,
            suggested: true,
        });
    }

    /// Declared ones first, then required, then secret; each in the order they were found.
    pub fn into_list(self) -> Vec<WantedVariable> {
        let mut list: Vec<_> = self.found.into_values().collect();
        list.sort_by_key(|(order, variable)| {
            (
                variable.suggested,
                !variable.required,
                !variable.secret,
                *order,
            )
        });
        list.truncate(VARIABLES_MAX);
        list.into_iter().map(|(_, variable)| variable).collect()
    }
}

/// Whether a variable of this name usually holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let words: Vec<&str> = upper.split('_').filter(|word| !word.is_empty()).collect();
    let Some(last) = words.last() else {
        return false;
    };
    // Addresses that carry a password of their own.
    const STORES: &str =
        "DATABASE DB POSTGRES POSTGRESQL PG MYSQL MONGO MONGODB REDIS AMQP RABBITMQ CONNECTION";
    if matches!(*last, "URL" | "URI" | "STRING") {
        return words.iter().any(|word| is_in(STORES, word)) || upper.contains("WEBHOOK_URL");
    }
    if upper.ends_with("ACCESS_KEY_ID") {
        return true;
    }
    // What a secret is like, or where it is: not the secret.
    const ABOUT: &str = "FILE PATH DIR LIMIT TTL EXPIRY EXPIRATION LENGTH ENDPOINT NAME TYPE MODE ENABLED ENABLE \
        DISABLED PASSTHROUGH PREFIX HEADER HEADERS ALGORITHM REGION VERSION USER USERNAME EMAIL \
        COUNT MAX ID TIMEOUT AUDIENCE ISSUER HOST PORT SCOPE SCOPES SIZE";
    if is_in(ABOUT, last) || words.contains(&"PUBLIC") {
        return false;
    }
    const SECRET: &str = "TOKEN KEY APIKEY SECRET SECRETS PASSWORD PASSWD PWD PASS PASSPHRASE CREDENTIAL CREDENTIALS \
        PAT DSN COOKIE COOKIES JWT BEARER PRIVATEKEY KEYS APITOKEN ACCESSTOKEN";
    let secret = |word: &&str| {
        is_in(SECRET, word)
            || ["PASSWORD", "TOKEN", "SECRET", "APIKEY"]
                .iter()
                .any(|end| word.ends_with(end))
    };
    words.iter().any(secret) && !words.iter().any(|word| matches!(*word, "MAX" | "MIN"))
}

fn is_in(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// Whether plain text that someone typed for a variable is probably a secret that should be stored as one.
/// A guess from the name and the shape of the text; nothing is looked up or sent.
pub fn looks_like_secret(name: &str, text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || is_placeholder(text) {
        return false;
    }
    if has_secret_shape(text) {
        return true;
    }
    // A switch or a number under a secret-sounding name is a setting, such as USE_TOKEN=true.
    let is_setting = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "none" | "null" | "auto"
    ) || (text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()));
    is_secret_name(name) && !is_setting
}

/// `<your token>`, `${input:key}`, `xxxx`: what examples show instead of a value.
pub(super) fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    (text.starts_with('<') && text.ends_with('>'))
        || (text.starts_with("${") && text.ends_with('}'))
        || (text.starts_with('{') && text.ends_with('}') && !text.contains(':'))
        || lower.starts_with("your")
        || lower.starts_with("my_")
        || lower.starts_with("my-")
        || lower.contains("your_")
        || lower.contains("your-")
        || lower.contains("changeme")
        || lower.contains("change_me")
        || lower.contains("replace_")
        || lower.contains("placeholder")
        || lower.ends_with("_here")
        || lower.ends_with("-here")
        || lower.ends_with("...")
        || lower
            .bytes()
            .all(|b| b == b'x' || b == b'*' || b == b'-' || b == b'.')
}

fn has_secret_shape(text: &str) -> bool {
    const PREFIXES: &str = "sk- sk_live_ sk_test_ rk_live_ ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- xoxb- \
        xoxp- xoxa- xoxs- xapp- AKIA ASIA AIza ya29. npm_ pypi- hf_ SG. dop_v1_ shpat_ fc- tvly- \
        lin_api_ ntn_ secret_ sp_ key- pat- whsec_";
    if PREFIXES
        .split(' ')
        .chain(["Bearer ", "Basic "])
        .any(|prefix| text.starts_with(prefix) && text.len() >= prefix.len() + 12)
    {
        return true;
    }
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return true;
    }
    if text.contains("\"private_key\"") || text.contains("\"client_secret\"") {
        return true;
    }
    // A JSON web token: three dotted parts, the first a JSON object.
    if text.starts_with("eyJ") && text.split('.').count() == 3 && text.len() > 40 {
        return true;
    }
    if text.contains("://") {
        return url_carries_secret(text);
    }
    is_random_looking(text)
}

/// A user's password in an address, or a parameter that is named like a secret.
pub(super) fn url_carries_secret(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else {
        return false;
    };
    if url
        .password()
        .is_some_and(|password| !password.is_empty() && !is_placeholder(password))
    {
        return true;
    }
    url.query_pairs().any(|(name, value)| {
        (is_secret_name(&name) || matches!(name.as_ref(), "sig" | "signature" | "auth"))
            && value.len() >= 8
            && !is_placeholder(&value)
    })
}

/// One word of 20 or more characters, letters and digits mixed, with more variety than names have.
fn is_random_looking(text: &str) -> bool {
    let word = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'_' | b'-' | b'=' | b'.'));
    if !word || text.len() < 20 || text.len() > 4096 || is_uuid(text) {
        return false;
    }
    // Host names, paths and versions are made of short readable parts.
    let longest = text
        .split(['/', '.', '-', '_', '='])
        .map(str::len)
        .max()
        .unwrap_or(0);
    if longest < 16 {
        return false;
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    if digits < 2 || letters < 2 {
        return false;
    }
    bits_per_character(text) >= 3.3
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.contains('-')
}

fn bits_per_character(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let len = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / len;
            -share * share.log2()
        })
        .sum()
}

/// Variables that a runtime, a test suite or a terminal reads, not this server's settings.
fn is_noise(name: &str) -> bool {
    const NAMES: &str = "DEBUG HOST HOSTNAME USER LOGNAME PWD OLDPWD TMPDIR TEMP TMP LANG LC_ALL TERM CI NO_COLOR \
        FORCE_COLOR COLORTERM COLUMNS LINES EDITOR VISUAL PAGER APPDATA LOCALAPPDATA PROGRAMDATA \
        PROGRAMFILES USERPROFILE SYSTEMROOT WINDIR COMSPEC PATHEXT HTTP_PROXY HTTPS_PROXY NO_PROXY \
        ALL_PROXY NO_DEPRECATION TRACE_DEPRECATION DEBUG_FD DEBUG_MIME INIT_CWD BABEL_ENV DISPLAY \
        TZ EXAMPLE XYZ VAR BROWSER SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GITHUB_ACTIONS \
        VIRTUAL_ENV";
    const PREFIXES: &str = "XDG_ VITEST JEST_ NODE_ WS_NO_ READABLE_STREAM TERM_ TS_NODE_ UNDICI_ AWS_LAMBDA_ CARGO_ \
        GRACEFUL_FS TEST_GRACEFUL _";
    is_in(NAMES, name)
        || PREFIXES.split(' ').any(|prefix| name.starts_with(prefix))
        || name.len() < 3
}

/// `.env.example`: names with their comments; the values only where they are defaults worth showing.
pub(super) fn from_env_example(content: &str, wanted: &mut Wanted) {
    let mut comment = String::new();
    for line in content.lines().take(1_000) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix('#') {
            // A line that is switched off is still an example: # NAME=value.
            match assignment(rest.trim()) {
                Some((name, _)) => add_example(name, "", &comment, wanted),
                None => comment = rest.trim().to_owned(),
            }
            continue;
        }
        if let Some((name, value)) = assignment(line) {
            add_example(name, value, &comment, wanted);
        }
        comment.clear();
    }
}

fn add_example(name: &str, value: &str, comment: &str, wanted: &mut Wanted) {
    let value = value.trim().trim_matches(['"', '\'']);
    let value = value.split(" #").next().unwrap_or_default().trim();
    let secret = is_secret_name(name);
    let shown = !secret && !value.is_empty() && !is_placeholder(value) && !has_secret_shape(value);
    wanted.add(WantedVariable {
        name: name.to_owned(),
        description: comment.to_owned(),
        required: false,
        secret,
        default: shown.then(|| value.to_owned()),
        suggested: true,
    });
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    is_suggestible(name).then_some((name, value))
}

/// Upper case with at least three characters: what people name their settings.
pub(super) fn is_suggestible(name: &str) -> bool {
    name.len() >= 3
        && name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_names_about_them() {
        for name in [
            "GITLAB_PERSONAL_ACCESS_TOKEN",
            "BRAVE_API_KEY",
            "SLACK_BOT_TOKEN",
            "FIRECRAWL_API_KEY",
            "NOTION_TOKEN",
            "DATABASE_URL",
            "MONGODB_URI",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "DB_PASSWORD",
            "PGPASSWORD_PASS",
            "SENTRY_DSN",
            "STRIPE_SECRET",
            "apiKey_KEY",
            "SLACK_WEBHOOK_URL",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "GITLAB_API_URL",
            "SLACK_TEAM_ID",
            "BRAVE_API_KEY_FILE",
            "MAX_TOKENS",
            "TOKEN_LIMIT",
            "ENABLE_TOKEN_PASSTHROUGH",
            "PUBLIC_KEY",
            "KEYBOARD",
            "MONKEY",
            "LOG_LEVEL",
            "OPENAI_BASE_URL",
            "",
            "___",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn plain_text_that_looks_like_a_key_is_noticed() {
        for (name, text) in [
            ("X", "ghp_0123456789abcdefghij0123456789abcdef"),
            ("X", "glpat-abcdefghij0123456789"),
            ("X", "postgresql://me:hunter2hunter2@db.example/app"),
            ("X", "https://hooks.example/?token=abcdef0123456789"),
            ("X", "-----BEGIN RSA PRIVATE KEY-----\nMIIE"),
            (
                "X",
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            ),
            (
                "X",
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            ),
            ("SERVICE_PASSWORD", "correct horse"),
            ("API_KEY", "short"),
        ] {
            assert!(looks_like_secret(name, text), "{name}={text}");
        }
        for (name, text) in [
            ("GITLAB_API_URL", "https://gitlab.com/api/v4"),
            ("GITLAB_API_URL", "http://127.0.0.1:8080/api"),
            ("LOG_LEVEL", "info"),
            ("X", "en_US.UTF-8"),
            ("X", "/srv/data/models/some-long-name/2024"),
            ("X", "6f1ed002-ab57-4b5e-8c6c-0a2b5f2b8a6d"),
            ("X", "a plain sentence with many words and 12 numbers"),
            ("X", "claude-sonnet-4-20250514"),
            ("X", "my-service.internal.example.com"),
            ("API_KEY", "<your key>"),
            ("API_KEY", ""),
            ("USE_TOKEN", "true"),
        ] {
            assert!(!looks_like_secret(name, text), "{name}={text}");
        }
    }

    #[test]
    fn env_examples_give_comments_and_no_values_of_secrets() {
        let mut wanted = Wanted::default();
        from_env_example(
            "# The key of the service\nMY_API_KEY=abcdef0123456789abcdef\n\nBASE_URL=https://api.example # where\n# OPTIONAL_MODE=fast\nlower=x\n",
            &mut wanted,
        );
        let list = wanted.into_list();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].name, "MY_API_KEY");
        assert_eq!(list[0].description, "The key of the service");
        assert_eq!(list[0].default, None);
        assert_eq!(list[1].default.as_deref(), Some("https://api.example"));
        assert_eq!(list[2].name, "OPTIONAL_MODE");
    }

    #[test]
    fn a_declaration_is_not_overruled_by_a_guess() {
        let mut wanted = Wanted::default();
        wanted.add(WantedVariable {
            name: "THE_KEY".into(),
            description: "said\u{1b}[31m".into(),
            required: false,
            secret: false,
            default: Some("x\n\u{7}y".into()),
            suggested: false,
        });
        wanted.suggest("THE_KEY", true);
        let list = wanted.into_list();
        assert_eq!(
            (list[0].required, list[0].secret, list[0].suggested),
            (false, false, false)
        );
        assert_eq!(list[0].description, "said");
        assert_eq!(list[0].default.as_deref(), Some("x y"));
    }
}

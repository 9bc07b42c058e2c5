//! Names with a grammar: secret paths, handles, deployment names, env names. Parsed once, at the door.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::errors::Refusal;

/// The longest path, in bytes.
pub const PATH_LEN_BYTES: usize = 255;
/// How the name of a secret with a damaged path begins.
const STAND_IN: &str = "damaged-";
/// The longest handle or deployment name, in bytes.
pub const HANDLE_LEN_BYTES: usize = 39;
/// The longest folder, in bytes: a slash and a name stand behind it.
pub const FOLDER_LEN_BYTES: usize = 250;
/// The most tags of one secret.
pub const TAGS_MAX: usize = 20;
/// What a path with folders starts with.
pub const SCOPES: [&str; 3] = ["meta", "project", "service"];
/// The most segments of a path.
const PATH_SEGMENTS_MAX: usize = 8;
/// The longest env name, in bytes.
pub const ENV_NAME_LEN_BYTES: usize = 255;

/// Gives a validated string type its serde form, `Display` and `as_str`.
macro_rules! parsed_string {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Refusal;
            fn try_from(raw: String) -> Result<Self, Refusal> {
                $name::parse(&raw)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// Where a secret lives: `OPENAI_API_KEY`, or `meta|project|service/<name>/…` with 3 to 8 segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretPath(String);
parsed_string!(SecretPath);

impl SecretPath {
    /// Errors: `Invalid` at the field `path`, naming the rule that was broken.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let refuse = |detail: String| Err(Refusal::invalid("path", detail));
        if raw.is_empty() {
            return refuse("Give the secret a name, such as OPENAI_API_KEY.".into());
        }
        if raw.len() > PATH_LEN_BYTES {
            return refuse(format!("A path has at most {PATH_LEN_BYTES} characters."));
        }
        let segments: Vec<&str> = raw.split('/').collect();
        if let Some(bad) = segments.iter().find(|segment| !is_segment(segment)) {
            return refuse(if bad.is_empty() {
                "A path has no empty segment: remove the extra slash.".into()
            } else {
                "Each segment starts with a letter, digit or underscore and goes on with letters, digits, '.', '_' or '-'.".into()
            });
        }
        if segments.len() > 1 {
            if !SCOPES.contains(&segments[0]) {
                return refuse(
                    "A path with folders starts with meta/, project/ or service/, as in project/shop/STRIPE_KEY.".into(),
                );
            }
            if !(3..=PATH_SEGMENTS_MAX).contains(&segments.len()) {
                return refuse(format!(
                    "A path under {}/ has 3 to 8 segments, as in {}/shop/STRIPE_KEY.",
                    segments[0], segments[0]
                ));
            }
        }
        Ok(SecretPath(raw.to_owned()))
    }

    /// Stands where a stored path is damaged: names the secret by its id.
    pub fn stand_in(id: uuid::Uuid) -> Self {
        SecretPath(format!("{STAND_IN}{id}"))
    }

    /// The secret that it stands in for, when it does.
    pub fn stands_for(&self) -> Option<uuid::Uuid> {
        self.0.strip_prefix(STAND_IN)?.parse().ok()
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What stands before the name, with its slash; empty for a bare name.
    pub fn folder(&self) -> &str {
        &self.0[..self.0.len() - self.name().len()]
    }
}

/// A path as machines name it: `path` for the actor's own, `handle:path` for another owner's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPath {
    pub owner: Option<Handle>,
    pub path: SecretPath,
}

impl KeyPath {
    /// Errors: `Invalid` at the field `path`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let (owner, path) = match raw.split_once(':') {
            Some((owner, path)) => {
                let owner = Handle::parse(owner).map_err(|refusal| refusal.at("path"))?;
                (Some(owner), path)
            }
            None => (None, raw),
        };
        let path = SecretPath::parse(path)?;
        Ok(KeyPath { owner, path })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}:{}", self.path),
            None => write!(f, "{}", self.path),
        }
    }
}

impl TryFrom<String> for KeyPath {
    type Error = Refusal;
    fn try_from(raw: String) -> Result<Self, Refusal> {
        KeyPath::parse(&raw)
    }
}

impl From<KeyPath> for String {
    fn from(key: KeyPath) -> String {
        key.to_string()
    }
}

fn is_segment(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A folder of paths: `meta`, `project` or `service`, alone or with up to six segments below; no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Folder(String);
parsed_string!(Folder);

impl Folder {
    /// Errors: `Invalid` at the field `under`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let raw = raw.strip_suffix('/').unwrap_or(raw);
        let segments: Vec<&str> = raw.split('/').collect();
        let is_one = SCOPES.contains(&segments[0])
            && segments.len() < PATH_SEGMENTS_MAX
            && raw.len() <= FOLDER_LEN_BYTES
            && segments.iter().all(|segment| is_segment(segment));
        if is_one {
            Ok(Folder(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "under",
                "A folder begins with meta, project or service, as in project/shop.",
            ))
        }
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether the path stands under it. Whole segments: `project/shop` is no part of `project/shopping/KEY`.
    pub fn covers(&self, path: &SecretPath) -> bool {
        path.as_str()
            .strip_prefix(self.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// The folders around it, outermost first, then itself.
    pub fn line(&self) -> Vec<Folder> {
        let ends = self.0.match_indices('/').map(|(at, _)| at);
        ends.chain([self.0.len()])
            .map(|end| Folder(self.0[..end].to_owned()))
            .collect()
    }
}

/// A word by which secrets are found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);
parsed_string!(Tag);

impl Tag {
    /// Errors: `Invalid` at the field `tags`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let mut bytes = raw.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest = bytes.all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        });
        if first && rest && raw.len() <= HANDLE_LEN_BYTES {
            Ok(Tag(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "tags",
                "A tag has at most 39 small letters, digits, '.', '_' and '-', and starts with a letter or digit.",
            ))
        }
    }

    /// Several, apart by blanks or commas; each once, in their order. Errors: `Invalid` at `tags`.
    pub fn parse_all(raw: &str) -> Result<Vec<Tag>, Refusal> {
        let words = raw.split(|c: char| c == ',' || c.is_whitespace());
        let tags: std::collections::BTreeSet<Tag> = words
            .filter(|word| !word.is_empty())
            .map(Tag::parse)
            .collect::<Result<_, _>>()?;
        if tags.len() > TAGS_MAX {
            return Err(Refusal::invalid(
                "tags",
                format!("A secret has at most {TAGS_MAX} tags."),
            ));
        }
        Ok(tags.into_iter().collect())
    }
}

/// The permanent name of an owner: a user or a team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(String);
parsed_string!(Handle);

impl Handle {
    /// Errors: `Invalid` at the field `handle`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        if is_handle(raw) {
            Ok(Handle(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "handle",
                "A handle starts with a small letter and has at most 39 small letters, digits and hyphens.",
            ))
        }
    }

    /// A handle made of the part of an e-mail address before the `@`.
    pub fn suggest(email: &str) -> Handle {
        let local = email.split('@').next().unwrap_or_default();
        let mut name: String = local
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "u-");
        }
        name.truncate(HANDLE_LEN_BYTES);
        Handle(name)
    }
}

/// The name of a deployment: unique in the installation, part of its gateway URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentName(String);
parsed_string!(DeploymentName);

impl DeploymentName {
    /// Errors: `Invalid` at the field `name`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        if is_handle(raw) {
            Ok(DeploymentName(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "name",
                "A deployment's name starts with a small letter and has at most 39 small letters, digits and hyphens.",
            ))
        }
    }
}

fn is_handle(raw: &str) -> bool {
    let mut bytes = raw.bytes();
    raw.len() <= HANDLE_LEN_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The variable a secret becomes in a server's environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvName(String);
parsed_string!(EnvName);

/// Names that would change how a program is loaded or run, not what it knows.
const REFUSED_ENV_NAMES: [&str; 20] = [
    "PATH",
    "HOME",
    "PORT",
    "SHELL",
    "ENV",
    "BASH_ENV",
    "IFS",
    "NODE_ENV",
    "NODE_OPTIONS",
    "NODE_PATH",
    "RUBYOPT",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "DOTNET_STARTUP_HOOKS",
    "GLIBC_TUNABLES",
];
const REFUSED_ENV_PREFIXES: [&str; 9] = [
    "LD_",
    "DYLD_",
    "PYTHON",
    "PERL5",
    "GIT_",
    "NPM_CONFIG_",
    "PIP_",
    "UV_",
    "SEALPORT_",
];

/// Names by which programs on a person's own machine, where all the tools are, are made to run what stands in them, to load it,
/// or to send what they send elsewhere. A server is deployed with what it wants; none of these is refused to it.
const SWAYING_ENV_NAMES: [&str; 4] = [
    // Shells and what they start.
    "PS0 PS1 PS2 PS3 FPATH CDPATH INPUTRC ZDOTDIR GLOBIGNORE TMPDIR HISTFILE EDITOR VISUAL FCEDIT PAGER BROWSER TERMINAL LESS \
     LESSOPEN LESSCLOSE LESSKEYIN SSH_AUTH_SOCK SVN_SSH RSYNC_RSH CVS_RSH HGRCPATH TAR_OPTIONS EXINIT VIMINIT VIM EMACSLOADPATH \
     TERMINFO TERMINFO_DIRS TERMCAP",
    // What the C library and other libraries load, and where they look a host up.
    "GCONV_PATH LOCPATH NLSPATH HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_HOST_CONF OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES \
     GTK_MODULES GTK_PATH GIO_MODULE_DIR QT_PLUGIN_PATH",
    // Languages and their builds.
    "RUBYLIB GEM_HOME GEM_PATH BUNDLE_GEMFILE PERLLIB CLASSPATH JAVA_HOME JAVA_OPTS MAVEN_OPTS MAVEN_ARGS GRADLE_OPTS SBT_OPTS \
     LUA_INIT LUA_PATH LUA_CPATH PHPRC PHP_INI_SCAN_DIR R_PROFILE R_ENVIRON ERL_FLAGS ERL_AFLAGS ELIXIR_ERL_OPTIONS TCLLIBPATH \
     GUILE_LOAD_PATH MAKEFLAGS MAKEFILES CC CXX GCC_EXEC_PREFIX COMPILER_PATH GOFLAGS GOPROXY RUSTFLAGS RUSTC_WRAPPER CARGO_HOME",
    // Whom programs trust, and where they look for what they are to do.
    "SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE NODE_EXTRA_CA_CERTS NODE_TLS_REJECT_UNAUTHORIZED CURL_HOME WGETRC KUBECONFIG \
     DOCKER_HOST DOCKER_CONFIG GNUPGHOME",
];
const SWAYING_ENV_PREFIXES: [&str; 8] = [
    "BASH_",
    "XDG_",
    "DOTNET_",
    "CORECLR_",
    "COMPLUS_",
    "CARGO_BUILD_",
    "CARGO_TARGET_",
    "TF_CLI_",
];
const SWAYING_ENV_ENDS: [&str; 6] = [
    "_PROXY",
    "_ASKPASS",
    "_EDITOR",
    "_PAGER",
    "_CA_BUNDLE",
    "_CONFIG_FILE",
];

impl EnvName {
    /// Whether it is a name of which a person's own programs make more than a value. The names that are refused everywhere are none of
    /// these: they cannot be parsed.
    pub fn sways_programs(&self) -> bool {
        let upper = self.0.to_ascii_uppercase();
        let mut names = SWAYING_ENV_NAMES.iter().flat_map(|names| names.split(' '));
        names.any(|name| name == upper)
            || SWAYING_ENV_PREFIXES
                .iter()
                .any(|begin| upper.starts_with(begin))
            || SWAYING_ENV_ENDS.iter().any(|end| upper.ends_with(end))
    }

    /// Errors: `Invalid` at the field `env`, for the grammar and for the names refused everywhere.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let name = EnvName::stored(raw)?;
        // npm reads its settings in any case, and no server needs `path` beside `PATH`.
        let upper = raw.to_ascii_uppercase();
        if REFUSED_ENV_NAMES.contains(&upper.as_str())
            || REFUSED_ENV_PREFIXES
                .iter()
                .any(|prefix| upper.starts_with(prefix))
        {
            return Err(Refusal::invalid(
                "env",
                format!(
                    "{upper} decides how programs run, so it cannot be bound. Choose another name."
                ),
            ));
        }
        Ok(name)
    }

    /// One that was bound once, perhaps before its name was refused: it still shows, and a start says what is wrong with it.
    /// Errors: `Invalid` at the field `env`, for the grammar alone.
    pub fn stored(raw: &str) -> Result<Self, Refusal> {
        let mut bytes = raw.bytes();
        let well_formed = raw.len() <= ENV_NAME_LEN_BYTES
            && bytes
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if well_formed {
            Ok(EnvName(raw.to_owned()))
        } else {
            Err(Refusal::invalid(
                "env",
                "A variable's name has letters, digits and underscores and does not start with a digit.",
            ))
        }
    }

    /// The last segment, upper-cased, `-` and `.` as `_`. Errors: as `parse`.
    pub fn default_for(path: &SecretPath) -> Result<Self, Refusal> {
        EnvName::parse(&path.name().to_ascii_uppercase().replace(['-', '.'], "_"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_have_the_grammar_of_what_stands_in_them() {
        for good in [
            "meta",
            "project/shop",
            "service/a/b/c/d/e/f",
            "project/shop/",
        ] {
            assert!(Folder::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "shop",
            "Meta",
            "project//x",
            "project/..",
            "project/%",
            "service/a/b/c/d/e/f/g",
        ] {
            let refusal = Folder::parse(bad).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("under"), "{bad}");
        }
        let line = Folder::parse("project/shop/eu").unwrap().line();
        let line: Vec<&str> = line.iter().map(Folder::as_str).collect();
        assert_eq!(line, ["project", "project/shop", "project/shop/eu"]);
    }

    #[test]
    fn a_path_can_name_its_owner() {
        let own = KeyPath::parse("project/shop/KEY").unwrap();
        assert_eq!((own.owner, own.path.as_str()), (None, "project/shop/KEY"));
        let of = KeyPath::parse("acme:KEY").unwrap();
        let owner = of.owner.unwrap();
        assert_eq!((owner.as_str(), of.path.as_str()), ("acme", "KEY"));
        for bad in ["", ":KEY", "acme:", "Acme:KEY", "a:b:KEY", "acme: KEY"] {
            let refusal = KeyPath::parse(bad).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("path"), "{bad}");
        }
    }

    #[test]
    fn names_that_sway_programs_are_told_from_names_of_values() {
        for swaying in [
            "PS1",
            "EDITOR",
            "https_proxy",
            "ALL_PROXY",
            "SSH_ASKPASS",
            "LESSOPEN",
            "GCONV_PATH",
            "RUBYLIB",
            "DOTNET_gcServer",
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
        ] {
            assert!(
                EnvName::parse(swaying).unwrap().sways_programs(),
                "{swaying}"
            );
        }
        for plain in [
            "STRIPE_KEY",
            "DATABASE_URL",
            "PROXY_KEY",
            "NODE",
            "PS",
            "AWS_SECRET_ACCESS_KEY",
            "CARGO_REGISTRY_TOKEN",
        ] {
            assert!(!EnvName::parse(plain).unwrap().sways_programs(), "{plain}");
        }
        for refused in [
            "SHELLOPTS",
            "BASHOPTS",
            "ps4",
            "PROMPT_COMMAND",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "JAVA_TOOL_OPTIONS",
            "DOTNET_STARTUP_HOOKS",
            "GLIBC_TUNABLES",
            "GIT_SSH_COMMAND",
            "PERL5LIB",
        ] {
            assert!(EnvName::parse(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn tags_are_few_short_and_plain() {
        let tags = Tag::parse_all(" prod, eu-1\n2026.q4 prod,, ").unwrap();
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["2026.q4", "eu-1", "prod"]);
        assert!(Tag::parse_all("").unwrap().is_empty());
        let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("t{n}")).collect();
        for bad in ["Prod", "-x", "ä", "a/b", &"x".repeat(40), &many.join(" ")] {
            let refusal = Tag::parse_all(bad).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some("tags"), "{bad}");
        }
        assert_eq!(
            Tag::parse_all(&many[1..].join(",")).unwrap().len(),
            TAGS_MAX
        );
    }
}

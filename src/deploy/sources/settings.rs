//! What of this machine's registry, proxy and certificate settings an install needs. Never a credential:
//! those come with a source's own fetch key.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use url::Url;

const NPM_REGISTRY: &str = "https://registry.npmjs.org/";
const PYPI_INDEX: &str = "https://pypi.org/simple/";
/// Settings files are a few lines.
const FILE_LEN_BYTES: u64 = 256 * 1024;

/// Read once at start. The same for every install on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallSettings {
    /// Set in every guest that fetches or installs.
    pub(super) env: BTreeMap<String, String>,
    /// Certificate files that `env` names; guests see them under the same path.
    pub(super) read_only: Vec<(PathBuf, PathBuf)>,
    /// Where a package of a scope, or without one, comes from; for its fetch key.
    npm_registries: BTreeMap<String, String>,
    pypi_index: String,
}

impl InstallSettings {
    /// From the environment, the user's and the machine's `npmrc` and `pip.conf`. What cannot be read is passed over.
    pub fn read() -> Self {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = env.get("HOME").map(PathBuf::from).unwrap_or_default();
        let read = |path: PathBuf| -> Option<String> {
            let found = std::fs::metadata(&path).ok()?;
            (found.is_file() && found.len() <= FILE_LEN_BYTES)
                .then(|| std::fs::read_to_string(&path).ok())?
        };
        let npmrc: Vec<String> = [
            PathBuf::from("/etc/npmrc"),
            "/usr/etc/npmrc".into(),
            "/usr/local/etc/npmrc".into(),
            home.join(".npmrc"),
        ]
        .into_iter()
        .filter_map(read)
        .collect();
        let mut pip = vec![
            PathBuf::from("/etc/pip.conf"),
            home.join(".pip/pip.conf"),
            home.join(".config/pip/pip.conf"),
        ];
        pip.extend(env.get("PIP_CONFIG_FILE").map(PathBuf::from));
        let pip: Vec<String> = pip.into_iter().filter_map(read).collect();
        InstallSettings::from_parts(&env, &npmrc, &pip)
    }

    /// From an environment and the contents of `npmrc` and `pip.conf` files. Later files win over earlier ones, the
    /// environment over files.
    pub fn from_parts(env: &BTreeMap<String, String>, npmrc: &[String], pip: &[String]) -> Self {
        let mut settings = InstallSettings {
            env: BTreeMap::new(),
            read_only: Vec::new(),
            npm_registries: BTreeMap::new(),
            pypi_index: PYPI_INDEX.into(),
        };
        let lines = npmrc.iter().flat_map(|content| content.lines());
        for (key, value) in lines.filter_map(assignment) {
            settings.add_npm(key, value);
        }
        for content in pip {
            settings.add_pip_file(content);
        }
        for (name, value) in env {
            settings.add_variable(name, value);
        }
        // A lock file that names no registry still holds when the registry moves.
        settings.set("npm_config_omit_lockfile_registry_resolved", "true");
        settings
    }

    /// The registry that an npm package comes from.
    pub(super) fn npm_registry(&self, package: &str) -> &str {
        let scope = package.split_once('/').map_or("", |(scope, _)| scope);
        self.npm_registries
            .get(scope)
            .or_else(|| self.npm_registries.get(""))
            .map_or(NPM_REGISTRY, String::as_str)
    }

    pub(super) fn pypi_index(&self) -> &str {
        &self.pypi_index
    }

    fn add_npm(&mut self, key: &str, value: &str) {
        let value = value.trim_matches(['"', '\'']);
        // `${NAME}` is npm's own substitution; what it stands for may be a credential.
        if value.contains("${") {
            return;
        }
        match key {
            "registry" => self.add_registry("", value),
            "cafile" => self.add_certificates("npm_config_cafile", value),
            "proxy" | "https-proxy" | "http-proxy" => {
                if let Some(url) = without_credentials(value) {
                    self.set(&format!("npm_config_{}", key.replace('-', "_")), &url);
                }
            }
            "noproxy" | "fetch-timeout" | "fetch-retries" | "maxsockets" => {
                self.set(&format!("npm_config_{}", key.replace('-', "_")), value);
            }
            // Headers of a Node.js that native modules are built with; guests see /usr.
            "nodedir" if value == "/usr" || value.starts_with("/usr/") => {
                self.set("npm_config_nodedir", value);
            }
            _ => {
                if let Some(scope) = key
                    .strip_suffix(":registry")
                    .filter(|scope| scope.starts_with('@'))
                {
                    self.add_registry(scope, value);
                }
            }
        }
    }

    fn add_registry(&mut self, scope: &str, value: &str) {
        let Some(mut url) = without_credentials(value) else {
            return;
        };
        if !url.ends_with('/') {
            url.push('/');
        }
        let name = match scope {
            "" => "npm_config_registry".to_owned(),
            scope => format!("npm_config_{scope}:registry"),
        };
        self.set(&name, &url);
        self.npm_registries.insert(scope.to_owned(), url);
    }

    fn add_pip_file(&mut self, content: &str) {
        let mut inside = false;
        for line in content.lines() {
            let line = line.trim();
            if line.starts_with('[') {
                inside = matches!(line, "[global]" | "[install]");
            } else if inside && let Some((key, value)) = assignment(line) {
                self.add_variable(
                    &format!("PIP_{}", key.to_ascii_uppercase().replace('-', "_")),
                    value,
                );
            }
        }
    }

    fn add_variable(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "HTTP_PROXY" | "HTTPS_PROXY" | "ALL_PROXY" | "PIP_PROXY" => {
                if let Some(url) = without_credentials(value) {
                    self.set(name, &url);
                }
            }
            "NO_PROXY"
            | "PIP_TRUSTED_HOST"
            | "PIP_DEFAULT_TIMEOUT"
            | "PIP_TIMEOUT"
            | "PIP_RETRIES"
            | "UV_HTTP_TIMEOUT"
            | "UV_NATIVE_TLS"
            | "UV_INDEX_STRATEGY" => {
                self.set(name, value);
            }
            "NODE_EXTRA_CA_CERTS"
            | "SSL_CERT_FILE"
            | "REQUESTS_CA_BUNDLE"
            | "CURL_CA_BUNDLE"
            | "GIT_SSL_CAINFO"
            | "PIP_CERT" => {
                self.add_certificates(name, value);
            }
            "PIP_INDEX_URL" => {
                if let Some(url) = without_credentials(value) {
                    self.pypi_index.clone_from(&url);
                    self.set(name, &url);
                }
            }
            "PIP_EXTRA_INDEX_URL"
            | "PIP_FIND_LINKS"
            | "UV_INDEX_URL"
            | "UV_DEFAULT_INDEX"
            | "UV_EXTRA_INDEX_URL" => {
                // Several, separated by spaces; directories of the host are not seen by guests.
                let urls: Vec<_> = value
                    .split_whitespace()
                    .filter_map(without_credentials)
                    .collect();
                if !urls.is_empty() {
                    self.set(name, &urls.join(" "));
                }
            }
            _ => {
                if let Some(key) = upper.strip_prefix("NPM_CONFIG_") {
                    self.add_npm(&key.to_ascii_lowercase().replace('_', "-"), value);
                }
            }
        }
    }

    fn add_certificates(&mut self, name: &str, value: &str) {
        let Ok(path) = std::fs::canonicalize(value) else {
            return;
        };
        if !path.is_file() || !readable_by_all(&path) {
            tracing::warn!(
                setting = name,
                "the certificate file is not readable by everyone, so installs go without it"
            );
            return;
        }
        if path.starts_with("/srv") || path.starts_with("/data") {
            tracing::warn!(
                setting = name,
                "the certificate file lies where servers have their own files, so installs go without it"
            );
            return;
        }
        let Some(text) = path.to_str() else {
            return;
        };
        self.set(name, text);
        // Guests have /usr anyway.
        if !path.starts_with("/usr") && !self.read_only.iter().any(|(known, _)| *known == path) {
            self.read_only.push((path.clone(), path));
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.trim()))
}

/// An http or https address without user and password; none for anything else.
fn without_credentials(value: &str) -> Option<String> {
    let mut url = Url::parse(value).ok()?;
    if !matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") || url.host().is_none() {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    Some(url.into())
}

/// Guests run as another user, so every directory on the way must be open too.
fn readable_by_all(path: &Path) -> bool {
    let has = |path: &Path, bits: u32| {
        std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits == bits)
    };
    has(path, 0o004)
        && path
            .ancestors()
            .skip(1)
            .all(|directory| has(directory, 0o001))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn from(env: &[(&str, &str)], npmrc: &str, pip: &str) -> InstallSettings {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        InstallSettings::from_parts(&env, &[npmrc.to_owned()], &[pip.to_owned()])
    }

    #[test]
    fn settings_pass_and_credentials_do_not() {
        let settings = from(
            &[
                ("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128"),
                (
                    "PIP_EXTRA_INDEX_URL",
                    "https://u:hunter2@a.example/simple /opt/wheels",
                ),
                ("NPM_CONFIG_REGISTRY", "https://u:hunter2@npm.example/r"),
                ("NODE_ENV", "production"),
                ("AWS_SECRET_ACCESS_KEY", "hunter2"),
                ("NPM_CONFIG__AUTH", "hunter2"),
                ("NPM_TOKEN", "hunter2"),
            ],
            "//npm.example/:_authToken=hunter2\n_auth=hunter2\nregistry=https://old.example/\n@acme:registry=https://acme.example/npm\nemail=hunter2\nproxy=${HUNTER2}\n; registry=x\n",
            "[global]\nindex-url = https://hunter2@pypi.example/simple\n[other]\ncert = /x\n",
        );
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            !shown.contains("NODE_ENV") && !shown.contains("/opt/wheels"),
            "{shown}"
        );
        assert_eq!(
            settings.env["npm_config_registry"],
            "https://npm.example/r/"
        );
        assert_eq!(
            settings.env["npm_config_@acme:registry"],
            "https://acme.example/npm/"
        );
        assert_eq!(settings.env["HTTPS_PROXY"], "http://proxy.example:3128/");
        assert_eq!(
            settings.env["PIP_EXTRA_INDEX_URL"],
            "https://a.example/simple"
        );
        assert_eq!(
            settings.npm_registry("@acme/x"),
            "https://acme.example/npm/"
        );
        assert_eq!(settings.npm_registry("x"), "https://npm.example/r/");
        assert_eq!(settings.pypi_index(), "https://pypi.example/simple");
    }

    #[test]
    fn certificates_are_bound_where_everyone_may_read_them() {
        let place = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let (open, closed) = (
            place.path().join("open.pem"),
            place.path().join("closed.pem"),
        );
        for (path, mode) in [(&open, 0o644), (&closed, 0o600)] {
            std::fs::write(path, "x").unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let settings = from(
            &[
                ("GIT_SSL_CAINFO", open.to_str().unwrap()),
                ("SSL_CERT_FILE", closed.to_str().unwrap()),
                ("PIP_CERT", "/nowhere.pem"),
            ],
            &format!("cafile={}", open.display()),
            "",
        );
        assert_eq!(settings.read_only.len(), 1);
        assert!(
            settings.env.contains_key("GIT_SSL_CAINFO")
                && settings.env.contains_key("npm_config_cafile")
        );
        assert!(
            !settings.env.contains_key("SSL_CERT_FILE") && !settings.env.contains_key("PIP_CERT")
        );
    }
}

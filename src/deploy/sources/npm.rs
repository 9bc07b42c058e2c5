//! npm packages: looked at as their tarball, installed with a lock.

use secrecy::SecretString;

use crate::model::sources::Source;

use super::detect::{Detected, Kind};
use super::failure::SourceFailure;
use super::job::{Call, Job, broken};
use super::look;
use super::settings::InstallSettings;
use super::text;
use super::tree::Tree;

/// Fetches the package's tarball and looks into it. Nothing of it runs.
pub(super) async fn inspect(
    job: &Job<'_>,
    package: &str,
    version: Option<&str>,
    key: Option<&SecretString>,
    typed: Option<&[String]>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(Source, Detected), SourceFailure> {
    progress(format!("Asking the npm registry for {package}"));
    let home = job.tree()?;
    for directory in ["look", "look/package"] {
        home.make_directory(directory, job.owner())
            .map_err(|error| broken(&error))?;
    }
    let wanted = match version {
        Some(version) => format!("{package}@{version}"),
        None => package.to_owned(),
    };
    let call = Call::new(
        "/srv/look",
        &[
            &job.program("npm", "npm")?,
            "pack",
            "--ignore-scripts",
            "--loglevel=error",
            "--",
        ],
    )
    .word(wanted)
    .online();
    let call = with_key(call, job.settings, package, key, &no_git(job)?);
    job.must(call, |said| explain(said, package, version))
        .await?;
    let archive = only_file(&home, "look", ".tgz")
        .ok_or_else(|| SourceFailure::unavailable("npm fetched no archive of the package."))?;

    progress("Looking into the package".into());
    job.must(job.unpack(&archive)?, |_| {
        "The package's archive cannot be unpacked.".into()
    })
    .await?;
    let tree = home
        .sub("look/package")
        .ok_or_else(|| SourceFailure::wrong("The package's archive is empty."))?;
    let found = look(tree, Kind::NpmPackage, typed).await?;
    if !found.name.eq_ignore_ascii_case(package) {
        return Err(SourceFailure::wrong(format!(
            "The package's own name is {}, not {package}.",
            match found.name.as_str() {
                "" => "missing or not allowed",
                name => name,
            }
        )));
    }
    let resolved = Source::parse(&format!("npm:{package}@{}", found.version)).map_err(|_| {
        SourceFailure::wrong("The package's version is not one that can be pinned.")
    })?;
    Ok((resolved, found))
}

/// The one file directly in `directory` with this ending.
pub(super) fn only_file(home: &Tree, directory: &str, ending: &str) -> Option<String> {
    let entries = home.sub(directory)?.walk(100_000, &|_, _| false).ok()?;
    let mut names = entries
        .into_iter()
        .filter(|entry| {
            entry.kind == rustix::fs::FileType::RegularFile
                && entry.path.ends_with(ending)
                && !entry.path.starts_with('-')
        })
        .map(|entry| entry.path);
    let first = names.next()?;
    names.next().is_none().then_some(first)
}

/// A program that does nothing but fail, in git's place.
pub(super) fn no_git(job: &Job<'_>) -> Result<String, SourceFailure> {
    job.program("false", "coreutils")
}

/// The key goes to the package's own registry only, and only in this guest's environment.
pub(super) fn with_key<'a>(
    call: Call<'a>,
    settings: &InstallSettings,
    package: &str,
    key: Option<&SecretString>,
    no_git: &str,
) -> Call<'a> {
    let Some(key) = key else {
        return call;
    };
    let registry = settings.npm_registry(package);
    match registry.strip_prefix("https:") {
        // npm's own notation for a credential of one registry: //host/path/:_authToken.
        // A package of the tree that is fetched by git could run code of its own beside the key. npm before 11.10 does
        // not know the first of these; the environment wins over the `.npmrc` of such a package, which could name a
        // git of its own.
        Some(place) => call
            .env("npm_config_allow_git", "none")
            .env("npm_config_git", no_git)
            .secret(&format!("npm_config_{place}:_authToken"), key.clone()),
        None => call,
    }
}

/// The content of the `package.json` that an npm source is installed by.
pub(super) fn manifest_for(package: &str, version: &str) -> String {
    let mut dependencies = serde_json::Map::new();
    dependencies.insert(package.to_owned(), version.into());
    serde_json::json!({ "name": "deployed", "private": true, "dependencies": dependencies })
        .to_string()
}

/// What npm's error codes mean here.
pub(super) fn explain(said: &str, package: &str, version: Option<&str>) -> String {
    let has = |code: &str| said.contains(code);
    if has("E404") {
        format!(
            "The npm registry has no package {package}, or it is private: then choose a fetch key."
        )
    } else if has("ETARGET") {
        format!(
            "The npm registry has {package}, but not version {}.",
            version.unwrap_or("latest")
        )
    } else if has("E401") || has("E403") || has("ENEEDAUTH") {
        format!("The npm registry refused {package}: choose a fetch key that may read it.")
    } else if has("ENOTFOUND")
        || has("EAI_AGAIN")
        || has("ECONNREFUSED")
        || has("ETIMEDOUT")
        || has("ENETUNREACH")
    {
        "The npm registry could not be reached from the sandbox. Try again; an operator can look at the proxy settings.".into()
    } else if has("SELF_SIGNED_CERT") || has("UNABLE_TO_") || has("CERT_") {
        "The npm registry's certificate is not trusted. An operator can name the certificate file in NODE_EXTRA_CA_CERTS.".into()
    } else if has("EINTEGRITY") {
        "What the registry sent differs from what was locked at the first install. Someone changed the package: do not use it.".into()
    } else {
        format!(
            "npm could not fetch or install {}.",
            text::line(package, 200)
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_key_goes_to_its_registry_and_not_over_http() {
        let key = SecretString::from("hunter2");
        let npmrc = |content: &str| {
            InstallSettings::from_parts(&Default::default(), &[content.to_owned()], &[])
        };
        let env = |settings: &InstallSettings, package: &str| {
            let call = Call::new("/srv", &["npm"]);
            with_key(call, settings, package, Some(&key), "/usr/bin/false")
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
                .collect::<Vec<_>>()
        };
        let plain = npmrc("");
        assert_eq!(
            env(&plain, "x"),
            [
                ("npm_config_allow_git".to_owned(), "none".to_owned()),
                ("npm_config_git".to_owned(), "/usr/bin/false".to_owned()),
                (
                    "npm_config_//registry.npmjs.org/:_authToken".to_owned(),
                    "hunter2".to_owned()
                )
            ]
        );
        let scoped = npmrc("@acme:registry=https://npm.acme.example:8443/r");
        assert_eq!(
            env(&scoped, "@acme/x")[2].0,
            "npm_config_//npm.acme.example:8443/r/:_authToken"
        );
        let open = npmrc("registry=http://npm.example/");
        assert!(env(&open, "x").is_empty());
    }
}

//! PyPI packages: looked at as their wheel or source archive, installed into an environment of their own.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::model::sources::Source;

use super::detect::{Detected, Kind, PythonFacts};
use super::failure::SourceFailure;
use super::job::{Call, Job, broken};
use super::look;
use super::npm::only_file;
use super::settings::InstallSettings;
use super::text;
use super::tree::Tree;

/// The environment's interpreter, as the guest sees it.
pub(super) const PYTHON: &str = "/srv/venv/bin/python";

/// Fetches the package without what it depends on, and looks into it.
pub(super) async fn inspect(
    job: &Job<'_>,
    package: &str,
    version: Option<&str>,
    key: Option<&SecretString>,
    typed: Option<&[String]>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(Source, Detected), SourceFailure> {
    progress(format!("Asking the Python index for {package}"));
    make_environment(job).await?;
    let home = job.tree()?;
    for directory in ["look", "look/package"] {
        home.make_directory(directory, job.owner())
            .map_err(|error| broken(&error))?;
    }
    let mut call = Call::new(
        "/srv/look",
        &[
            PYTHON,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            "/srv/look",
        ],
    );
    if key.is_some() {
        // A source archive runs its own code when it is looked at; not beside a key.
        call = call.word("--only-binary=:all:");
    }
    let call = call.word(requirement(package, version)).online();
    job.must(with_key(call, job.settings, key)?, |said| {
        explain(said, package, version)
    })
    .await?;

    progress("Looking into the package".into());
    let (archive, extract) = match only_file(&home, "look", ".whl") {
        Some(wheel) => (
            wheel.clone(),
            Call::new("/srv/look", &[PYTHON, "-m", "zipfile", "-e"])
                .word(wheel)
                .word("package"),
        ),
        None => {
            let archive = only_file(&home, "look", ".tar.gz").ok_or_else(|| {
                SourceFailure::wrong(
                    "The Python index gave an archive that is neither a wheel nor a .tar.gz.",
                )
            })?;
            (archive.clone(), job.unpack(&archive)?)
        }
    };
    job.must(extract, |_| {
        "The package's archive cannot be unpacked.".into()
    })
    .await?;
    let tree = home
        .sub("look/package")
        .ok_or_else(|| SourceFailure::wrong("The package's archive is empty."))?;
    let facts = facts(&tree).ok_or_else(|| {
        SourceFailure::wrong(format!(
            "{} says nothing about itself.",
            text::line(&archive, 100)
        ))
    })?;
    let found = look(tree, Kind::PypiPackage(facts), typed).await?;
    let resolved = Source::parse(&format!("pypi:{package}=={}", found.version)).map_err(|_| {
        SourceFailure::wrong("The package's version is not one that can be pinned.")
    })?;
    Ok((resolved, found))
}

/// The environment that a server's packages go into, made anew.
pub(super) async fn make_environment(job: &Job<'_>) -> Result<(), SourceFailure> {
    Tree::remove(job.home, "venv").map_err(|error| broken(&error))?;
    let call = Call::new(
        "/srv",
        &[
            &job.program("python3", "python3")?,
            "-m",
            "venv",
            "/srv/venv",
        ],
    );
    let done = job.run(call).await?;
    match done.success {
        true => Ok(()),
        false => Err(SourceFailure::unavailable(
            "This machine's Python cannot make virtual environments. Its operator can install the package python3-venv.",
        )
        .with_output(done.last)),
    }
}

pub(super) fn requirement(package: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("{package}=={version}"),
        None => package.to_owned(),
    }
}

/// The key becomes part of the index's address, in this guest's environment only.
/// Errors: the index is not asked over https.
pub(super) fn with_key<'a>(
    call: Call<'a>,
    settings: &InstallSettings,
    key: Option<&SecretString>,
) -> Result<Call<'a>, SourceFailure> {
    let Some(key) = key else {
        return Ok(call);
    };
    let unusable = || {
        SourceFailure::wrong(
            "A fetch key is only sent over https, and this machine's Python index is not.",
        )
    };
    let mut url = Url::parse(settings.pypi_index()).map_err(|_| unusable())?;
    if url.scheme() != "https" {
        return Err(unusable());
    }
    // `user:password`, or a token alone, which the index knows under this name.
    let (user, password) = match key.expose_secret().split_once(':') {
        Some((user, password)) => (user, password),
        None => ("__token__", key.expose_secret()),
    };
    url.set_username(user).map_err(|()| unusable())?;
    url.set_password(Some(password)).map_err(|()| unusable())?;
    Ok(call.secret("PIP_INDEX_URL", SecretString::from(String::from(url))))
}

/// What pip's last lines mean here.
pub(super) fn explain(said: &str, package: &str, version: Option<&str>) -> String {
    let has = |words: &str| said.contains(words);
    let shown = requirement(package, version);
    if has("Requires-Python") || has("requires a different Python") {
        format!("{shown} wants another version of Python than this machine has.")
    } else if has("401") || has("403") {
        format!("The Python index refused {shown}: choose a fetch key that may read it.")
    } else if has("CERTIFICATE_VERIFY_FAILED") {
        "The Python index's certificate is not trusted. An operator can name the certificate file in PIP_CERT.".into()
    } else if has("NewConnectionError")
        || has("Name or service not known")
        || has("name resolution")
        || has("ConnectTimeout")
        || has("Network is unreachable")
    {
        "The Python index could not be reached from the sandbox. Try again; an operator can look at the proxy settings.".into()
    } else if has("No matching distribution") || has("Could not find a version") {
        match version {
            Some(version) => format!(
                "The Python index has no {package} in version {version} for this machine's Python."
            ),
            None => format!(
                "The Python index has no package {package} for this machine's Python, or it is private: then choose a fetch key."
            ),
        }
    } else {
        format!("pip could not fetch or install {shown}.")
    }
}

fn facts(tree: &Tree) -> Option<PythonFacts> {
    let entries = tree
        .walk(100_000, &|path, _| {
            path.ends_with(".egg-info") || path == "src"
        })
        .ok()?;
    let folder = |ending: &str| {
        entries
            .iter()
            .find(|entry| {
                entry.path.ends_with(ending) && entry.kind == rustix::fs::FileType::Directory
            })
            .map(|entry| entry.path.clone())
    };
    let read = |path: String| tree.manifest(&path).ok().flatten();
    if let Some(info) = folder(".dist-info") {
        return Some(PythonFacts {
            metadata: read(format!("{info}/METADATA"))?,
            entry_points: read(format!("{info}/entry_points.txt")).unwrap_or_default(),
        });
    }
    // A source archive: its scripts stand in egg-info, or only in pyproject.toml.
    let metadata = read("PKG-INFO".into())?;
    let entry_points = folder(".egg-info")
        .and_then(|info| read(format!("{info}/entry_points.txt")))
        .or_else(|| {
            let project =
                super::python::PythonProject::parse_pyproject(&read("pyproject.toml".into())?)
                    .ok()?;
            let lines = project
                .scripts
                .iter()
                .map(|name| format!("{name} = pyproject:script\n"));
            Some(format!("[console_scripts]\n{}", lines.collect::<String>()))
        })
        .unwrap_or_default();
    Some(PythonFacts {
        metadata,
        entry_points,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_the_index_in_the_environment_only() {
        let settings = InstallSettings::from_parts(
            &Default::default(),
            &[],
            &["[global]\nindex-url = https://py.example/simple/".to_owned()],
        );
        let key = SecretString::from("me:p@ss/word");
        let call = with_key(Call::new("/srv", &["pip"]), &settings, Some(&key)).unwrap();
        assert_eq!(call.argv, ["pip"]);
        assert_eq!(call.env[0].0, "PIP_INDEX_URL");
        assert_eq!(
            call.env[0].1.expose_secret(),
            "https://me:p%40ss%2Fword@py.example/simple/"
        );
        let open = InstallSettings::from_parts(
            &Default::default(),
            &[],
            &["[global]\nindex-url = http://py.example/simple/".to_owned()],
        );
        assert!(with_key(Call::new("/srv", &["pip"]), &open, Some(&key)).is_err());
    }

    #[test]
    fn pip_is_explained() {
        assert!(
            explain("ERROR: No matching distribution found for x", "x", None)
                .contains("no package x")
        );
        assert!(
            explain(
                "ERROR: No matching distribution found for x==9",
                "x",
                Some("9")
            )
            .contains("version 9")
        );
        assert!(explain("anything", "x", None).contains("could not fetch"));
    }
}

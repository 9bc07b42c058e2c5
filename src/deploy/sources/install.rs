//! From a pinned source to a directory that runs: fetched first, installed without the fetch key, locked for next time.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::deploy::sandbox::DATA;
use crate::model::deployments::StepName;
use crate::model::sources::{Runtime, Source, StartPlan};

use super::command;
use super::failure::SourceFailure;
use super::job::{Call, Job, broken};
use super::package_json::{PackageJson, is_program_name};
use super::python::PythonProject;
use super::tree::Tree;
use super::{Workshop, dir, git, npm, pypi};

/// A lock file, in bytes.
const LOCK_LEN_BYTES: u64 = 16 * 1024 * 1024;
/// Where locks of the deployment are kept between installs.
const LOCKS: &str = "lock";

/// What runs, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The program, by its full path or as it is found in a guest's PATH, and its arguments. Never a value.
    pub argv: Vec<String>,
    pub cwd: String,
}

pub(super) struct Install<'a> {
    pub job: &'a Job<'a>,
    pub workshop: &'a Workshop,
    pub source: &'a Source,
    pub start: &'a StartPlan,
    pub key: Option<&'a SecretString>,
}

impl Install<'_> {
    pub async fn run(
        &self,
        step: &(dyn Fn(StepName) + Send + Sync),
    ) -> Result<Installed, SourceFailure> {
        // What is wrong with the plan is said before anything is fetched.
        let installed = self.installed()?;
        step(StepName::Fetch);
        for old in ["app", "venv"] {
            self.job.remove(old).await?;
        }
        let home = self.job.tree()?;
        home.make_directory("app", self.job.owner())
            .map_err(|error| broken(&error))?;
        match self.source {
            Source::Npm { package, version } => {
                self.fetch_npm(&home, package, version.as_deref()).await?;
                step(StepName::Install);
                self.job
                    .must(
                        Call::new(
                            "/srv/app",
                            &[
                                &self.job.program("npm", "npm")?,
                                "rebuild",
                                "--foreground-scripts",
                            ],
                        )
                        .online(),
                        |said| npm::explain(said, package, version.as_deref()),
                    )
                    .await?;
                self.keep(&home, "app/package-lock.json", "package-lock.json")?;
            }
            Source::Pypi { package, version } => {
                self.install_pypi(&home, package, version.as_deref(), step)
                    .await?;
            }
            Source::Git {
                url,
                reference,
                folder,
            } => {
                let commit = git::fetch(
                    self.job,
                    &self.workshop.hosts,
                    url,
                    reference.as_deref(),
                    self.key,
                    "app",
                )
                .await?;
                self.job.say(&format!("Fetched commit {commit}.")).await;
                step(StepName::Install);
                self.install_tree(&home, folder.as_deref()).await?;
            }
            Source::Dir { path } => {
                let from = dir::resolve(path, &self.workshop.dir_roots)?;
                let (to, owner) = (self.job.tree()?, self.job.owner());
                let left_out =
                    tokio::task::spawn_blocking(move || dir::copy(&from, &to, "app", owner))
                        .await
                        .map_err(|_| SourceFailure::unavailable("The copy was cut off."))??;
                for note in left_out.notes() {
                    self.job.say(&note).await;
                }
                step(StepName::Install);
                self.install_tree(&home, None).await?;
            }
            Source::Image { .. } => return Err(super::images_run_elsewhere()),
        }
        self.check_program(&home)?;
        Ok(installed)
    }

    /// Everything comes from the registry with no script run, so that the key meets no foreign code.
    async fn fetch_npm(
        &self,
        home: &Tree,
        package: &str,
        version: Option<&str>,
    ) -> Result<(), SourceFailure> {
        let version = version.ok_or_else(not_pinned)?;
        let manifest = npm::manifest_for(package, version);
        home.write_new(
            "app/package.json",
            &mut manifest.as_bytes(),
            false,
            self.job.owner(),
        )
        .map_err(|error| broken(&error))?;
        let npm = self.job.program("npm", "npm")?;
        let no_git = npm::no_git(self.job)?;
        let keyed = |call| npm::with_key(call, self.job.settings, package, self.key, &no_git);
        if self.bring(home, "package-lock.json", "app/package-lock.json")? {
            let call = Call::new("/srv/app", &[&npm, "ci", "--ignore-scripts"]).online();
            let done = self.job.run(keyed(call)).await?;
            if done.success {
                return Ok(());
            }
            // Another content under the same version is what the lock is there to notice.
            if done.said().contains("EINTEGRITY") {
                return Err(SourceFailure::wrong(npm::explain(
                    &done.said(),
                    package,
                    Some(version),
                ))
                .with_output(done.last));
            }
            self.job
                .say("The lock of the last install does not serve any more; resolving anew.")
                .await;
            self.job.remove_in_app("package-lock.json").await?;
        }
        let call = Call::new("/srv/app", &[&npm, "install", "--ignore-scripts"]).online();
        self.job
            .must(keyed(call), |said| {
                npm::explain(said, package, Some(version))
            })
            .await?;
        Ok(())
    }

    async fn install_pypi(
        &self,
        home: &Tree,
        package: &str,
        version: Option<&str>,
        step: &(dyn Fn(StepName) + Send + Sync),
    ) -> Result<(), SourceFailure> {
        if version.is_none() {
            return Err(not_pinned());
        }
        let explain = |said: &str| pypi::explain(said, package, version);
        let requirement = pypi::requirement(package, version);
        pypi::make_environment(self.job).await?;
        let locked = self.bring(home, "constraints.txt", "app/constraints.txt")?;
        let pip = |words: &[&str]| {
            let mut call = Call::new("/srv/app", &[pypi::PYTHON, "-m", "pip"]).online();
            call.argv
                .extend(words.iter().map(|word| (*word).to_owned()));
            match locked {
                true => call.word("--constraint").word("constraints.txt"),
                false => call,
            }
        };
        // Wheels are only unpacked, so they can be fetched beside a key; source archives would run their own code.
        let mut install = pip(&["install"]);
        if self.key.is_some() {
            let fetch = pip(&[
                "download",
                "--only-binary=:all:",
                "--dest",
                "/srv/.build/wheels",
            ])
            .word(&requirement);
            self.job
                .must(pypi::with_key(fetch, self.job.settings, self.key)?, explain)
                .await?;
            install = pip(&[
                "install",
                "--no-index",
                "--find-links",
                "/srv/.build/wheels",
            ]);
        }
        step(StepName::Install);
        self.job.must(install.word(&requirement), explain).await?;
        self.keep_python(home).await
    }

    async fn install_tree(&self, home: &Tree, folder: Option<&str>) -> Result<(), SourceFailure> {
        let inside = self.tree_path();
        let tree = home.sub(&inside).ok_or_else(|| no_folder(folder))?;
        match self.start.runtime {
            Runtime::Node => self.install_node_tree(home, &tree, &inside).await,
            Runtime::Python => self.install_python_tree(home, &tree, &inside).await,
        }
    }

    async fn install_node_tree(
        &self,
        home: &Tree,
        tree: &Tree,
        inside: &str,
    ) -> Result<(), SourceFailure> {
        let cwd = format!("/srv/{inside}");
        let Some(content) = tree
            .manifest("package.json")
            .map_err(|error| SourceFailure::wrong(error.to_string()))?
        else {
            // A single file that depends on nothing.
            return Ok(());
        };
        let package = PackageJson::parse(&content).map_err(SourceFailure::wrong)?;
        let npm = self.job.program("npm", "npm")?;
        let explain =
            |what: &'static str| move |_: &str| format!("{what} failed. The log has the reason.");
        if let Some((manager, install)) = other_manager(tree, &package) {
            let mut call = Call::new(&cwd, &[&npm, "exec", "--yes", "--package"]).online();
            call.argv.push(manager);
            call.argv.push("--".into());
            call.argv.extend(install.into_iter().map(str::to_owned));
            self.job
                .must(call, explain("Installing what it depends on"))
                .await?;
        } else {
            // A folder that is a workspace is locked at the root.
            let own_lock = tree.is_file("package-lock.json") || tree.is_file("npm-shrinkwrap.json");
            let locked = own_lock
                || (inside != "app" && home.is_file("app/package-lock.json"))
                || self.bring(
                    home,
                    "package-lock.json",
                    &format!("{inside}/package-lock.json"),
                )?;
            let done = match locked {
                true => {
                    self.job
                        .run(Call::new(&cwd, &[&npm, "ci"]).online())
                        .await?
                        .success
                }
                false => false,
            };
            if !done {
                if locked {
                    self.job
                        .say("The lock file does not fit package.json; resolving anew.")
                        .await;
                }
                self.job
                    .must(
                        Call::new(&cwd, &[&npm, "install"]).online(),
                        explain("Installing what it depends on"),
                    )
                    .await?;
            }
            if !own_lock {
                self.keep(
                    home,
                    &format!("{inside}/package-lock.json"),
                    "package-lock.json",
                )?;
            }
        }
        if package.script("build").is_some() {
            self.job
                .must(
                    Call::new(&cwd, &[&npm, "run", "build"]).online(),
                    explain("Its build"),
                )
                .await?;
        }
        Ok(())
    }

    async fn install_python_tree(
        &self,
        home: &Tree,
        tree: &Tree,
        inside: &str,
    ) -> Result<(), SourceFailure> {
        let cwd = format!("/srv/{inside}");
        pypi::make_environment(self.job).await?;
        let project = match tree
            .manifest("pyproject.toml")
            .map_err(|error| SourceFailure::wrong(error.to_string()))?
        {
            Some(content) => {
                Some(PythonProject::parse_pyproject(&content).map_err(SourceFailure::wrong)?)
            }
            None => None,
        };
        let mut words: Vec<String> = Vec::new();
        if tree.is_file("requirements.txt") {
            words.extend(["--requirement".into(), "requirements.txt".into()]);
        }
        match &project {
            Some(project) if project.buildable => words.push(".".into()),
            Some(project) => words.extend(project.dependencies.iter().cloned()),
            None if tree.is_file("setup.py") => words.push(".".into()),
            None => {}
        }
        if words.is_empty() {
            return Ok(());
        }
        let mut call = Call::new(&cwd, &[pypi::PYTHON, "-m", "pip", "install"]).online();
        if self.bring(home, "constraints.txt", ".build/constraints.txt")? {
            call = call
                .word("--constraint")
                .word("/srv/.build/constraints.txt");
        }
        call.argv.extend(words);
        self.job
            .must(call, |_| {
                "Installing what it depends on failed. The log has the reason.".into()
            })
            .await?;
        self.keep_python(home).await
    }

    /// What was resolved, as constraints for the next install.
    async fn keep_python(&self, home: &Tree) -> Result<(), SourceFailure> {
        let done = self
            .job
            .must(
                Call::new("/srv", &[pypi::PYTHON, "-m", "pip", "freeze"]),
                |_| "pip could not say what it installed.".into(),
            )
            .await?;
        let constraints: String = done
            .answer
            .lines()
            .filter(|line| is_pinned(line))
            .map(|line| format!("{line}\n"))
            .collect();
        self.keep_content(home, &mut constraints.as_bytes(), "constraints.txt")
    }

    /// Puts the lock of this very source where the installer looks. False when there is none.
    fn bring(&self, home: &Tree, name: &str, to: &str) -> Result<bool, SourceFailure> {
        let Ok(Some((file, len_bytes))) = home.file(&self.lock(name)) else {
            return Ok(false);
        };
        if len_bytes > LOCK_LEN_BYTES {
            return Ok(false);
        }
        let mut content = std::io::Read::take(file, LOCK_LEN_BYTES);
        match home.write_new(to, &mut content, false, self.job.owner()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(broken(&error)),
        }
    }

    fn keep(&self, home: &Tree, from: &str, name: &str) -> Result<(), SourceFailure> {
        // Some installs lock nothing, such as a project without dependencies.
        let Ok(Some((file, len_bytes))) = home.file(from) else {
            return Ok(());
        };
        if len_bytes > LOCK_LEN_BYTES {
            return Ok(());
        }
        self.keep_content(home, &mut std::io::Read::take(file, LOCK_LEN_BYTES), name)
    }

    fn keep_content(
        &self,
        home: &Tree,
        content: &mut dyn std::io::Read,
        name: &str,
    ) -> Result<(), SourceFailure> {
        // Only the newest source's lock is kept.
        Tree::remove(self.job.home, LOCKS).map_err(|error| broken(&error))?;
        home.make_directory(LOCKS, self.job.owner())
            .map_err(|error| broken(&error))?;
        home.write_new(&self.lock(name), content, false, self.job.owner())
            .map_err(|error| broken(&error))?;
        Ok(())
    }

    fn lock(&self, name: &str) -> String {
        let source = Sha256::digest(self.source.to_string().as_bytes());
        format!("{LOCKS}/{}-{name}", hex::encode(&source[..8]))
    }

    /// Where the tree stands, relative to the home.
    fn tree_path(&self) -> String {
        match self.source {
            Source::Git {
                folder: Some(folder),
                ..
            } => format!("app/{}", folder.trim_end_matches('/')),
            _ => "app".into(),
        }
    }

    /// The command as it will be started. The plan was shown to a person and came back: it is checked again.
    fn installed(&self) -> Result<Installed, SourceFailure> {
        command::check(&self.start.command).map_err(SourceFailure::wrong)?;
        let base = format!("/srv/{}", self.tree_path());
        let cwd = match self.source {
            // A package's own directory is made anew at each install; what a server writes should stay.
            Source::Npm { .. } | Source::Pypi { .. } => DATA.to_owned(),
            _ => base.clone(),
        };
        let unusable = || {
            SourceFailure::wrong(
                "The command names no file of the source. Type it again, as in node dist/index.js.",
            )
        };
        let mut words = self.start.command.clone();
        let argv = match self.start.runtime {
            Runtime::Node => {
                let at = command::file_position(&words).ok_or_else(unusable)?;
                let file = command::relative_file(&words[at]).ok_or_else(unusable)?;
                words[at] = format!("{base}/{file}");
                self.job.program("node", "nodejs")?;
                // By its name: what is installed outlives a version's folder.
                let mut argv = vec!["node".to_owned()];
                argv.append(&mut words);
                argv
            }
            Runtime::Python => {
                match words[0].as_str() {
                    "-m" => {}
                    file if file.ends_with(".py") => {
                        let file = command::relative_file(file).ok_or_else(unusable)?;
                        words[0] = format!("{base}/{file}");
                    }
                    script if is_program_name(script) => {
                        words[0] = format!("/srv/venv/bin/{script}")
                    }
                    _ => return Err(unusable()),
                }
                let mut argv = vec![pypi::PYTHON.to_owned()];
                argv.append(&mut words);
                argv
            }
        };
        Ok(Installed { argv, cwd })
    }

    /// Errors: what should run is not there after installing.
    fn check_program(&self, home: &Tree) -> Result<(), SourceFailure> {
        let words = &self.start.command;
        let file = match self.start.runtime {
            Runtime::Node => command::file_position(words)
                .and_then(|at| command::relative_file(&words[at]))
                // Node finds `dist/index` as `dist/index.js`.
                .filter(|file| {
                    file.rsplit('/')
                        .next()
                        .is_some_and(|name| name.contains('.'))
                })
                .map(|file| format!("{}/{file}", self.tree_path())),
            Runtime::Python => match words[0].as_str() {
                "-m" => None,
                file if file.ends_with(".py") => Some(format!("{}/{file}", self.tree_path())),
                script => Some(format!("venv/bin/{script}")),
            },
        };
        match file {
            Some(file) if !home.leads_to_file(&file) => Err(SourceFailure::wrong(format!(
                "After installing there is no {}. If the source builds it, look at its build script; else type the command.",
                file.strip_prefix("app/").unwrap_or(&file)
            ))),
            _ => Ok(()),
        }
    }
}

fn not_pinned() -> SourceFailure {
    SourceFailure::wrong("The version is not pinned. Inspect the source again.")
}

pub(super) fn no_folder(folder: Option<&str>) -> SourceFailure {
    SourceFailure::wrong(format!(
        "The repository has no folder {}.",
        folder.unwrap_or_default()
    ))
}

/// Another package manager that the project asks for: its package with version, and its install command.
fn other_manager(tree: &Tree, package: &PackageJson) -> Option<(String, Vec<&'static str>)> {
    let asked = package.package_manager.as_deref().unwrap_or_default();
    let (name, version) = asked.split_once('@').unwrap_or((asked, ""));
    // `9.1.0+sha512.…`: the hash is for another tool.
    let version = version.split('+').next().unwrap_or_default();
    let plain = !version.is_empty()
        && version.len() <= 40
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let with = |name: &str, fallback: &str| match plain {
        true => format!("{name}@{version}"),
        false => format!("{name}@{fallback}"),
    };
    match name {
        "pnpm" => Some((with("pnpm", "10"), vec!["pnpm", "install"])),
        "yarn" => Some((with("yarn", "1"), vec!["yarn", "install"])),
        "" if tree.is_file("pnpm-lock.yaml") => Some(("pnpm@10".into(), vec!["pnpm", "install"])),
        "" if tree.is_file("yarn.lock") && !tree.is_file("package-lock.json") => {
            Some(("yarn@1".into(), vec!["yarn", "install"]))
        }
        _ => None,
    }
}

/// `name==version`; what was installed from a directory or an address cannot be a constraint.
fn is_pinned(line: &str) -> bool {
    line.split_once("==").is_some_and(|(name, version)| {
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
        };
        plain(name) && plain(version)
    })
}

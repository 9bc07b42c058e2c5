//! Node.js and Python that lie apart from the host's programs, as version managers put them.
//!
//! Guests see /usr and its kin. Where the PATH that Sealport was started with leads to another
//! Node.js or Python, guests get that one's own folder too, read-only, and nothing around it.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::walls::{DATA, HOME};

/// Where guests find programs, in this order.
pub(super) const FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// How long a program may take to say where it lies.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A path, in bytes.
const ANSWER_MAX_BYTES: u64 = 4096;

/// What is looked for.
struct Sought {
    name: &'static str,
    /// Its name for people.
    title: &'static str,
    /// How it says where it really lies. The file in PATH can be a link or a version manager's
    /// stand-in, which guests could not use.
    question: [&'static str; 2],
    /// What it has to be able to do in a guest: an install needs more of Python than that it starts.
    trial: &'static [&'static str],
}

const SOUGHT: [Sought; 2] = [
    Sought {
        name: "node",
        title: "Node.js",
        question: ["-p", "process.execPath"],
        trial: &["--version"],
    },
    Sought {
        name: "python3",
        title: "Python",
        question: [
            "-c",
            "import os, sys; print(os.path.join(sys.base_prefix, 'bin', 'python3'))",
        ],
        trial: &["-c", "import ensurepip, ssl, venv"],
    },
];

/// One that guests may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    /// Its program, such as `node`.
    pub name: &'static str,
    /// What guests see of the host for it.
    pub prefix: PathBuf,
    /// The folder of its programs, for their PATH.
    pub bin: PathBuf,
    /// Its arguments where it is tried out in a guest.
    pub trial: &'static [&'static str],
}

impl Tool {
    /// The command that tries it out.
    pub fn trial(&self) -> Vec<String> {
        let program = self.bin.join(self.name).to_string_lossy().into_owned();
        let arguments = self.trial.iter().map(|word| (*word).to_owned());
        std::iter::once(program).chain(arguments).collect()
    }
}

/// One that is there, and why guests cannot have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub name: &'static str,
    pub why: String,
}

/// Which of the two a program comes with.
pub(super) fn provider(program: &str) -> Option<&'static str> {
    match program {
        "node" | "npm" | "npx" => Some("node"),
        "python3" | "pip" => Some("python3"),
        _ => None,
    }
}

/// What PATH leads to before it leads to what guests see anyway.
pub(super) async fn find(
    path: &OsStr,
    private: &[PathBuf],
    root: bool,
) -> Vec<Result<Tool, Unusable>> {
    let mut found = Vec::new();
    for sought in &SOUGHT {
        let (name, title) = (sought.name, sought.title);
        let Some(first) = std::env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
        else {
            continue;
        };
        if is_seen(&first) {
            continue;
        }
        let unusable = |why: String| Unusable {
            name,
            why: format!("The {title} at {} cannot be used: {why}", first.display()),
        };
        let tool = match ask(&first, &sought.question, path).await {
            Some(program) if is_seen(&program) => continue,
            Some(program) => choose(sought, &program, &homes(), private, root).and_then(complete),
            None => Err("it does not say where it lies.".into()),
        };
        found.push(tool.map_err(unusable));
    }
    found
}

/// Whether guests have this very program in their PATH.
fn is_seen(program: &Path) -> bool {
    let in_path = program
        .parent()
        .is_some_and(|folder| FOLDERS.iter().any(|seen| Path::new(seen) == folder));
    in_path && std::fs::canonicalize(program).is_ok_and(|real| real.starts_with("/usr"))
}

/// Asks a program where it lies. It gets none of our variables but what version managers read.
async fn ask(program: &Path, question: &[&str], path: &OsStr) -> Option<PathBuf> {
    let mut command = Command::new(program);
    command.args(question).env_clear().env("PATH", path);
    for name in [
        "HOME",
        "PYENV_ROOT",
        "ASDF_DATA_DIR",
        "ASDF_DIR",
        "VOLTA_HOME",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let answer = async {
        let mut said = String::new();
        let stdout = child.stdout.take()?;
        stdout
            .take(ANSWER_MAX_BYTES)
            .read_to_string(&mut said)
            .await
            .ok()?;
        child.wait().await.ok()?.success().then_some(said)
    };
    let said = tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()??;
    let said = Path::new(said.trim_end_matches('\n'));
    // The folder without links, the name as it is: `python3` may lead to `python3.12`.
    let bin = std::fs::canonicalize(said.parent()?).ok()?;
    let program = bin.join(said.file_name()?);
    program.is_file().then_some(program)
}

/// The folder that guests need of a program that lies at `program`, if it holds programs only.
/// Errors: why they do not get it.
fn choose(
    sought: &Sought,
    program: &Path,
    homes: &[PathBuf],
    private: &[PathBuf],
    root: bool,
) -> Result<Tool, String> {
    let bin = program.parent().unwrap_or(Path::new("/")).to_owned();
    let mut prefix = match bin.file_name() {
        Some(last) if last == "bin" => bin.parent().unwrap_or(&bin).to_owned(),
        _ => bin.clone(),
    };
    // Homebrew's programs use each other's libraries.
    if let Some(brew) = bin.ancestors().find(|above| above.ends_with("Cellar")) {
        prefix = brew.parent().unwrap_or(brew).to_owned();
    }
    let shown = prefix.display();
    let elsewhere =
        "Install it in a folder of its own, such as below /opt, or with this machine's packages.";
    let wide = prefix.components().count() < 3
        || homes
            .iter()
            .any(|home| home.starts_with(&prefix) || prefix == home.join(".local"));
    if wide {
        return Err(format!(
            "with it servers would see all of {shown}. {elsewhere}"
        ));
    }
    if [HOME, DATA].iter().any(|own| prefix.starts_with(own)) {
        return Err(format!(
            "servers have their own files at {}. {elsewhere}",
            prefix.display()
        ));
    }
    let ours = private
        .iter()
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .any(|path| path.starts_with(&prefix) || prefix.starts_with(&path));
    if ours {
        return Err(format!(
            "{shown} and Sealport's own data lie within each other. {elsewhere}"
        ));
    }
    let closed = prefix
        .ancestors()
        .find(|folder| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 == 0));
    match closed {
        Some(closed) if root => Err(format!(
            "Sealport runs as root and its servers as users of their own, who cannot enter {}. \
             Install it for all users, such as below /opt or with this machine's packages.",
            closed.display()
        )),
        _ => Ok(Tool {
            name: sought.name,
            prefix,
            bin,
            trial: sought.trial,
        }),
    }
}

/// A folder is given whole, so it has to be an install and no project of somebody's.
fn complete(tool: Tool) -> Result<Tool, String> {
    let libraries = std::fs::read_dir(tool.prefix.join("lib"))
        .into_iter()
        .flatten();
    let is_install = tool.prefix.join("Cellar").is_dir()
        || libraries.flatten().any(|entry| {
            let name = entry.file_name();
            name == "node_modules" || name.to_string_lossy().starts_with("python3")
        });
    match is_install && !tool.prefix.join(".git").exists() {
        true => Ok(tool),
        false => Err(format!(
            "{} is no install of its own: it has no lib/node_modules or lib/python3, or is a repository.",
            tool.prefix.display()
        )),
    }
}

/// Where people keep their own things.
fn homes() -> Vec<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = users.lines().filter_map(|line| line.split(':').nth(5));
    let own = std::env::var_os("HOME").map(PathBuf::from);
    listed
        .map(PathBuf::from)
        .chain(own)
        // Users of services have `/`, `/bin` and the like.
        .filter(|home| home.components().count() > 1)
        .map(|home| std::fs::canonicalize(&home).unwrap_or(home))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn chosen(program: &str) -> Result<(PathBuf, PathBuf), String> {
        let homes = ["/home/anna", "/root", "/usr/games"].map(PathBuf::from);
        choose(&SOUGHT[0], Path::new(program), &homes, &[], false)
            .map(|tool| (tool.prefix, tool.bin))
    }

    #[test]
    fn a_program_brings_its_own_folder_and_no_more() {
        for (program, prefix) in [
            (
                "/home/anna/.nvm/versions/node/v22.1.0/bin/node",
                "/home/anna/.nvm/versions/node/v22.1.0",
            ),
            ("/opt/node/bin/node", "/opt/node"),
            ("/opt/node/node", "/opt/node"),
            (
                "/home/linuxbrew/.linuxbrew/Cellar/node@22/22.1.0/bin/node",
                "/home/linuxbrew/.linuxbrew",
            ),
        ] {
            let bin = Path::new(program).parent().unwrap().to_owned();
            assert_eq!(chosen(program), Ok((prefix.into(), bin)));
        }
        for program in [
            "/bin/node",
            "/node",
            "/opt/bin/node",
            "/home/anna/bin/node",
            "/home/anna/node",
            "/home/bin/node",
            "/home/anna/.local/bin/node",
        ] {
            let refused = chosen(program).unwrap_err();
            assert!(refused.contains("would see all of"), "{program}: {refused}");
        }
        for program in ["/srv/node/bin/node", "/data/node/bin/node"] {
            let refused = chosen(program).unwrap_err();
            assert!(refused.contains("their own files"), "{program}: {refused}");
        }
    }
}

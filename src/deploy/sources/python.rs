//! What Python projects and packages say about themselves: `pyproject.toml`, `METADATA`, `entry_points.txt`.

use super::package_json::{choose, is_program_name};
use super::text;

#[derive(Debug, Default)]
pub(super) struct PythonProject {
    pub name: String,
    pub version: String,
    pub description: String,
    /// Names of console scripts.
    pub scripts: Vec<String>,
    /// What it depends on, as pip takes it; only read when it cannot be built.
    pub dependencies: Vec<String>,
    /// It says how it is built, so pip can install it.
    pub buildable: bool,
}

impl PythonProject {
    /// Errors: a sentence, for text that is no TOML.
    pub fn parse_pyproject(content: &str) -> Result<Self, String> {
        let table: toml::Table = content
            .parse()
            .map_err(|_| "pyproject.toml is not readable as TOML.".to_owned())?;
        let project = table.get("project").and_then(toml::Value::as_table);
        let poetry = table
            .get("tool")
            .and_then(|tool| tool.get("poetry"))
            .and_then(toml::Value::as_table);
        let string = |field: &str| {
            project
                .and_then(|project| project.get(field))
                .or_else(|| poetry.and_then(|poetry| poetry.get(field)))
                .and_then(toml::Value::as_str)
                .unwrap_or_default()
        };
        let scripts: Vec<String> = [project, poetry]
            .into_iter()
            .flatten()
            .filter_map(|table| table.get("scripts")?.as_table())
            .flat_map(|scripts| scripts.keys())
            .filter(|name| is_program_name(name))
            .take(200)
            .cloned()
            .collect();
        let dependencies = project
            .and_then(|project| project.get("dependencies"))
            .and_then(toml::Value::as_array)
            .map(|list| {
                list.iter()
                    .filter_map(toml::Value::as_str)
                    .filter(|requirement| is_requirement(requirement))
                    .take(500)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        Ok(PythonProject {
            name: text::line(string("name"), text::TITLE_LEN),
            version: text::line(string("version"), text::TITLE_LEN),
            description: text::line(string("description"), text::SENTENCE_LEN),
            buildable: table.contains_key("build-system") || !scripts.is_empty(),
            scripts,
            dependencies,
        })
    }

    /// A wheel's `METADATA` or a source archive's `PKG-INFO`, and its `entry_points.txt`.
    pub fn parse_metadata(metadata: &str, entry_points: &str) -> Self {
        let header = |name: &str| {
            metadata
                .lines()
                .take_while(|line| !line.trim().is_empty())
                .find_map(|line| {
                    let (field, value) = line.split_once(':')?;
                    field.eq_ignore_ascii_case(name).then(|| value.trim())
                })
                .unwrap_or_default()
        };
        PythonProject {
            name: text::line(header("Name"), text::TITLE_LEN),
            version: text::line(header("Version"), text::TITLE_LEN),
            description: text::line(header("Summary"), text::SENTENCE_LEN),
            scripts: console_scripts(entry_points),
            dependencies: Vec::new(),
            buildable: true,
        }
    }

    /// The script that starts the server. Errors: the names to choose from.
    pub fn chosen_script(&self) -> Result<&str, Vec<&str>> {
        choose(
            self.scripts
                .iter()
                .map(|name| (name.as_str(), name.as_str())),
            &self.name,
        )
    }
}

fn console_scripts(entry_points: &str) -> Vec<String> {
    let mut inside = false;
    let mut scripts = Vec::new();
    for line in entry_points.lines().take(2_000) {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[console_scripts]";
        } else if inside
            && let Some((name, target)) = line.split_once('=')
            && is_program_name(name.trim())
            && target.contains(':')
        {
            scripts.push(name.trim().to_owned());
        }
    }
    scripts.truncate(200);
    scripts
}

/// A requirement that names a package: no option, no path, no control character.
fn is_requirement(requirement: &str) -> bool {
    requirement.len() <= 500
        && requirement.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !requirement.chars().any(char::is_control)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn pyproject() {
        let project = PythonProject::parse_pyproject(
            "[project]\nname = \"mcp-server-time\"\nversion = \"1\"\ndescription = \"Time\"\ndependencies = [\"mcp>=1\", \"-r /etc/passwd\", \"--index-url x\"]\n[project.scripts]\nmcp-server-time = \"m:main\"\n\"../x\" = \"m:main\"\n[build-system]\nrequires = []\n",
        )
        .unwrap();
        assert_eq!(project.chosen_script(), Ok("mcp-server-time"));
        assert_eq!(project.dependencies, ["mcp>=1"]);
        assert!(project.buildable);
        let poetry = PythonProject::parse_pyproject(
            "[tool.poetry]\nname = \"p\"\n[tool.poetry.scripts]\np = \"p:main\"",
        )
        .unwrap();
        assert_eq!(poetry.chosen_script(), Ok("p"));
        let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(PythonProject::parse_pyproject(&deep).is_err());
        assert!(PythonProject::parse_pyproject("[project").is_err());
        assert!(PythonProject::parse_pyproject("project = 1").is_ok());
    }

    #[test]
    fn metadata() {
        let package = PythonProject::parse_metadata(
            "Metadata-Version: 2.5\nName: mcp-server-time\nVersion: 2026.10.19\nSummary: Time\u{1b}[31m!\n\nName: not-this\n",
            "[console_scripts]\nmcp-server-time = mcp_server_time:main\n\n[other]\nx = y:z\n",
        );
        assert_eq!(
            (package.name.as_str(), package.version.as_str()),
            ("mcp-server-time", "2026.10.19")
        );
        assert_eq!(package.description, "Time!");
        assert_eq!(package.scripts, ["mcp-server-time"]);
    }
}

//! `package.json`: what an npm package or a Node.js project says about itself.

use serde_json::{Map, Value};

use super::command::relative_file;
use super::text;
use crate::deploy::json;

/// Programs and scripts that are read.
const ENTRIES_MAX: usize = 200;

#[derive(Debug, Default)]
pub(super) struct PackageJson {
    pub name: String,
    pub version: String,
    pub description: String,
    /// Program names and their files, relative to the package, `./` removed.
    pub bins: Vec<(String, String)>,
    pub main: Option<String>,
    scripts: Vec<(String, String)>,
    /// `pnpm@9.1.0`, as it stands there.
    pub package_manager: Option<String>,
    /// Names of what it depends on, development included.
    pub dependencies: Vec<String>,
}

impl PackageJson {
    /// Errors: a sentence, for text that is no JSON object.
    pub fn parse(content: &str) -> Result<Self, String> {
        let value: Value = json::tree(content.as_bytes())
            .map_err(|_| "package.json is not readable as JSON.".to_owned())?;
        let Value::Object(object) = value else {
            return Err("package.json is not a JSON object.".into());
        };
        let name = string(&object, "name")
            .filter(|name| is_npm_name(name))
            .unwrap_or_default();
        let bins = match object.get("bin") {
            Some(Value::String(file)) => relative_file(file)
                .map(|file| vec![(unscoped(name).to_owned(), file)])
                .unwrap_or_default(),
            Some(Value::Object(bins)) => bins
                .iter()
                .take(ENTRIES_MAX)
                .filter(|(name, _)| is_program_name(name))
                .filter_map(|(name, file)| Some((name.clone(), relative_file(file.as_str()?)?)))
                .collect(),
            _ => Vec::new(),
        };
        let scripts = match object.get("scripts") {
            Some(Value::Object(scripts)) => scripts
                .iter()
                .take(ENTRIES_MAX)
                .filter_map(|(name, line)| Some((name.clone(), line.as_str()?.to_owned())))
                .collect(),
            _ => Vec::new(),
        };
        let dependencies = ["dependencies", "devDependencies"]
            .iter()
            .filter_map(|field| object.get(*field)?.as_object())
            .flat_map(|names| names.keys().take(2_000).cloned())
            .collect();
        Ok(PackageJson {
            name: name.to_owned(),
            version: text::line(
                string(&object, "version").unwrap_or_default(),
                text::TITLE_LEN,
            ),
            description: text::line(
                string(&object, "description").unwrap_or_default(),
                text::SENTENCE_LEN,
            ),
            bins,
            main: string(&object, "main").and_then(relative_file),
            scripts,
            package_manager: string(&object, "packageManager").map(str::to_owned),
            dependencies,
        })
    }

    pub fn script(&self, name: &str) -> Option<&str> {
        self.scripts
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, line)| line.as_str())
    }

    pub fn bin(&self, name: &str) -> Option<&str> {
        self.bins
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, file)| file.as_str())
    }

    /// The program that starts the server: the only one, the one named like the package, or the only one
    /// that says MCP. Errors: the names to choose from; an empty list when there is none.
    pub fn chosen_bin(&self) -> Result<&str, Vec<&str>> {
        choose(
            self.bins
                .iter()
                .map(|(name, file)| (name.as_str(), file.as_str())),
            unscoped(&self.name),
        )
    }
}

/// Shared with Python's console scripts: the same rule for the same question.
pub(super) fn choose<'a>(
    programs: impl Iterator<Item = (&'a str, &'a str)>,
    package: &str,
) -> Result<&'a str, Vec<&'a str>> {
    let programs: Vec<_> = programs.collect();
    let same = |a: &str, b: &str| {
        a.replace(['_', '.'], "-")
            .eq_ignore_ascii_case(&b.replace(['_', '.'], "-"))
    };
    let targets: Vec<_> = programs.iter().map(|(_, target)| *target).collect();
    if let Some((_, target)) = programs.iter().find(|(name, _)| same(name, package)) {
        return Ok(target);
    }
    // Several names for one file are one program.
    if let Some(first) = targets.first()
        && targets.iter().all(|target| target == first)
    {
        return Ok(first);
    }
    let mcp: Vec<_> = programs
        .iter()
        .filter(|(name, _)| name.contains("mcp"))
        .collect();
    match mcp.as_slice() {
        [(_, target)] => Ok(target),
        _ => Err(programs.into_iter().map(|(name, _)| name).collect()),
    }
}

pub(super) fn unscoped(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn string<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str()
}

/// `name` or `@scope/name`, as the registry allows; it becomes part of a path.
fn is_npm_name(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-~".contains(c))
    };
    name.len() <= 214
        && match name.strip_prefix('@') {
            Some(scoped) => scoped
                .split_once('/')
                .is_some_and(|(scope, name)| plain(scope) && plain(name)),
            None => plain(name),
        }
}

pub(super) fn is_program_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with(['.', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_chosen() {
        let one = PackageJson::parse(r#"{"name":"@x/y","bin":{"mcp-server-y":"./dist/index.js"}}"#)
            .unwrap();
        assert_eq!(one.chosen_bin(), Ok("dist/index.js"));
        let string = PackageJson::parse(r#"{"name":"@x/y","bin":"cli.js"}"#).unwrap();
        assert_eq!(string.chosen_bin(), Ok("cli.js"));
        assert_eq!(string.bin("y"), Some("cli.js"));
        let named = PackageJson::parse(r#"{"name":"@x/y","bin":{"z":"z.js","y":"y.js"}}"#).unwrap();
        assert_eq!(named.chosen_bin(), Ok("y.js"));
        let several = PackageJson::parse(r#"{"name":"q","bin":{"z":"z.js","y":"y.js"}}"#).unwrap();
        assert_eq!(several.chosen_bin(), Err(vec!["z", "y"]));
        let mcp = PackageJson::parse(r#"{"name":"q","bin":{"z":"z.js","q-mcp":"y.js"}}"#).unwrap();
        assert_eq!(mcp.chosen_bin(), Ok("y.js"));
    }

    #[test]
    fn hostile_manifests_say_little() {
        let hostile = PackageJson::parse(
            r#"{"name":"x/../../y","version":"1\u001b[31m","description":"<script>alert(1)</script>\u0007\n\u202Ehidden",
                "bin":{"a\nb":"x.js","../c":"x.js","ok":"../../../etc/passwd","ok2":"/etc/passwd","-e":"x.js"},
                "main":"../index.js","scripts":["no"],"dependencies":"no"}"#,
        )
        .unwrap();
        assert_eq!(hostile.name, "");
        assert_eq!(hostile.version, "1");
        assert_eq!(hostile.description, "<script>alert(1)</script> hidden");
        assert!(hostile.bins.is_empty());
        assert_eq!(hostile.main, None);
        assert_eq!(hostile.chosen_bin(), Err(vec![]));

        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(PackageJson::parse(&deep).is_err());
        let deep = format!(
            "{{\"a\":{}1{}}}",
            "{\"a\":".repeat(100_000),
            "}".repeat(100_000)
        );
        assert!(PackageJson::parse(&deep).is_err());
        assert!(PackageJson::parse("[]").is_err());
        assert!(PackageJson::parse("").is_err());
        assert!(PackageJson::parse("{\"name\":1,\"bin\":[1],\"main\":{}}").is_ok());
    }
}

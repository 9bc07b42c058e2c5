//! What code seems to want: variables that it reads, and how it speaks. Guesses, shown as such.

use super::tree::{Entry, Tree};
use super::variables::{Wanted, is_suggestible};

/// Source code read for suggestions, in bytes: of one file, and in all.
const FILE_LEN_BYTES: u64 = 2 * 1024 * 1024;
const SCAN_LEN_BYTES: u64 = 4 * 1024 * 1024;
/// Files and directories looked at for suggestions.
const SCAN_ENTRIES: usize = 20_000;
/// Reads of the environment that are looked at in one file.
const OCCURRENCES_MAX: usize = 2_000;

/// What the code below seems to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CodeFacts {
    /// Its messages ask for an address or a key as an argument.
    pub wants_argument: bool,
    /// It speaks Streamable HTTP, and nothing in it speaks over standard input and output.
    pub only_http: bool,
}

/// Reads the code below, bounded, and suggests the variables that it seems to want.
pub(super) fn scan(tree: &Tree, wanted: &mut Wanted) -> CodeFacts {
    let enter = |_: &str, name: &str| {
        const ELSEWHERE: &str = "node_modules .git .venv venv __pycache__ test tests __tests__ testUtils \
            examples docs .github site-packages vendor fixtures";
        !ELSEWHERE.split(' ').any(|known| known == name) && !name.ends_with(".dist-info")
    };
    let entries = tree.walk(SCAN_ENTRIES, &enter).unwrap_or_default();
    let mut left = SCAN_LEN_BYTES;
    let (mut facts, mut speaks_http, mut speaks_stdio) = (CodeFacts::default(), false, false);
    // Small files first: a bundle of somebody else's code must not eat the whole budget.
    let mut files: Vec<&Entry> = entries
        .iter()
        .filter(|entry| {
            entry.kind == rustix::fs::FileType::RegularFile && language(&entry.path).is_some()
        })
        .collect();
    files.sort_by_key(|entry| entry.len_bytes);
    for entry in files {
        let max = FILE_LEN_BYTES.min(left);
        if max == 0 {
            break;
        }
        let Some(code) = tree.excerpt(&entry.path, max) else {
            continue;
        };
        left -= (code.len() as u64).min(left);
        match language(&entry.path) {
            Some(Language::JavaScript) => from_javascript(&code, wanted),
            Some(Language::Python) => from_python(&code, wanted),
            Some(Language::Readme) => {
                from_readme(&code, wanted);
                continue;
            }
            None => continue,
        }
        facts.wants_argument |= asks_for_argument(&code);
        speaks_http |= starts_http(&code);
        // Any mention: a server that can do both is started the simpler way.
        speaks_stdio |= code.contains("stdio") || code.contains("Stdio");
    }
    facts.only_http = speaks_http && !speaks_stdio;
    facts
}

fn starts_http(code: &str) -> bool {
    [
        "new StreamableHTTPServerTransport",
        "transport=\"streamable-http\"",
        "transport='streamable-http'",
        "transport=\"http\"",
        "StreamableHTTPSessionManager(",
        "streamable_http_app(",
    ]
    .iter()
    .any(|phrase| code.contains(phrase))
}

enum Language {
    JavaScript,
    Python,
    Readme,
}

fn language(path: &str) -> Option<Language> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let lower = name.to_ascii_lowercase();
    if lower == "readme.md" && !path.contains('/') {
        return Some(Language::Readme);
    }
    if lower.contains(".test.")
        || lower.contains(".spec.")
        || lower.starts_with("test_")
        || lower.ends_with(".d.ts")
    {
        return None;
    }
    match lower.rsplit_once('.')?.1 {
        "js" | "mjs" | "cjs" | "ts" | "mts" | "cts" | "jsx" | "tsx" => Some(Language::JavaScript),
        "py" => Some(Language::Python),
        _ => None,
    }
}

/// `process.env.NAME`, `process.env["NAME"]`, `const { NAME } = process.env`.
pub(super) fn from_javascript(code: &str, wanted: &mut Wanted) {
    const READ: &str = "process.env";
    // Bounded, and each occurrence looks at its surroundings only: a hostile file must not cost its square.
    for (at, _) in code.match_indices(READ).take(OCCURRENCES_MAX) {
        let start = floor(code, at.saturating_sub(2_000));
        let code = &code[start..floor(code, (at + 20_000).min(code.len()))];
        let at = at - start;
        let rest = &code[at + READ.len()..];
        if let Some(name) = member(rest) {
            if is_suggestible(name) {
                // The whole expression, closing quote and bracket included.
                let bracket = rest.trim_start_matches("?.").starts_with('[');
                let name_end = at + READ.len() + rest.find(name).unwrap_or(0) + name.len();
                let end = floor(
                    code,
                    (name_end + if bracket { 2 } else { 0 }).min(code.len()),
                );
                let required = stops_without(code, at, &code[at..end]);
                wanted.suggest(name, required);
            }
        } else if let Some(names) = destructured(&code[..at]) {
            for name in names.split(',').take(60) {
                let name = name.split([':', '=']).next().unwrap_or_default().trim();
                if is_suggestible(name) {
                    wanted.suggest(name, false);
                }
            }
        }
    }
}

fn member(rest: &str) -> Option<&str> {
    let rest = rest
        .strip_prefix("?.")
        .or_else(|| rest.strip_prefix('.'))
        .unwrap_or(rest);
    match rest.strip_prefix('[') {
        Some(rest) => quoted(rest),
        None => {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            (end > 0).then(|| &rest[..end])
        }
    }
}

fn quoted(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    let quote = rest
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let rest = &rest[1..];
    let end = rest.find(quote)?;
    (end <= 100).then(|| &rest[..end])
}

fn destructured(before: &str) -> Option<&str> {
    let before = before
        .trim_end()
        .strip_suffix('=')?
        .trim_end()
        .strip_suffix('}')?;
    let open = before.rfind('{')?;
    (before.len() - open <= 4_000).then(|| &before[open + 1..])
}

/// Whether the code ends, or throws, when the variable that is read at `at` is missing:
/// `const key = process.env.KEY; … if (!key) { … process.exit(1) }`. Any `&&` means that something else may do instead.
fn stops_without(code: &str, at: usize, expression: &str) -> bool {
    let mut names = vec![expression];
    let line_start = code[..at].rfind('\n').map_or(0, |i| i + 1);
    let statement = code[line_start..at].trim();
    // Only a plain assignment: `const key = other ?? process.env.KEY` has another way.
    if let Some(left) = statement.strip_suffix('=') {
        let name = left
            .trim_end()
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
            .next()
            .unwrap_or_default();
        let after = &code[at + expression.len()..];
        if !name.is_empty() && after.trim_start_matches(' ').starts_with([';', '\n', '\r']) {
            names.push(name);
        }
    }
    names.into_iter().any(|name| {
        let test = format!("!{name}");
        code.match_indices(&test).take(20).any(|(i, _)| {
            let after_name = code[i + test.len()..].chars().next();
            if after_name.is_some_and(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.' | '[' | '(')
            }) {
                return false;
            }
            let before = &code[floor(code, i.saturating_sub(160))..i];
            let Some(open) = before.rfind("if") else {
                return false;
            };
            let condition_start = &before[open + 2..];
            let rest = &code[i..floor(code, (i + 600).min(code.len()))];
            let Some(close) = rest.find(')') else {
                return false;
            };
            let condition = format!("{condition_start}{}", &rest[..close]);
            if !condition_start.trim_start().starts_with('(')
                || condition.contains("&&")
                || condition.contains(';')
            {
                return false;
            }
            let body = &rest[close + 1..];
            let end = match body.trim_start().starts_with('{') {
                true => body.find('}').unwrap_or(body.len()),
                false => body.find([';', '\n']).unwrap_or(body.len()),
            };
            let body = &body[..end];
            // A function that throws may be one tool of many; only at the start of the file does it end the server.
            let outermost = before[..open].is_empty() || before[..open].ends_with('\n');
            body.contains("process.exit(") || (outermost && body.contains("throw "))
        })
    })
}

fn floor(code: &str, mut at: usize) -> usize {
    while !code.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `os.environ["NAME"]` (which fails without), `os.environ.get("NAME")`, `os.getenv("NAME")`, `envvar="NAME"`.
pub(super) fn from_python(code: &str, wanted: &mut Wanted) {
    for (pattern, fails) in [
        ("environ[", true),
        ("environ.get(", false),
        ("getenv(", false),
        ("envvar=", false),
    ] {
        for (at, _) in code.match_indices(pattern).take(OCCURRENCES_MAX) {
            let rest = &code[at + pattern.len()..];
            let Some(name) = quoted(rest).filter(|name| is_suggestible(name)) else {
                continue;
            };
            // `os.environ["NAME"] = …` sets it.
            let sets = fails
                && rest
                    .find(']')
                    .map(|i| rest[i + 1..].trim_start())
                    .is_some_and(|after| after.starts_with('=') && !after.starts_with("=="));
            if !sets {
                wanted.suggest(name, fails);
            }
        }
    }
}

/// The `"env": { "NAME": … }` blocks of the client configurations that README files show.
pub(super) fn from_readme(content: &str, wanted: &mut Wanted) {
    for (at, _) in content.match_indices("\"env\"") {
        let Some(block) = content[at + 5..].trim_start().strip_prefix(':') else {
            continue;
        };
        let Some(block) = block.trim_start().strip_prefix('{') else {
            continue;
        };
        let end = floor(block, block.len().min(4_000));
        for line in block[..end].split(['\n', ',']) {
            if line.trim_start().starts_with('}') {
                break;
            }
            let Some(name) = quoted(line) else {
                continue;
            };
            if is_suggestible(name) && line.contains(':') {
                wanted.suggest(name, false);
            }
            // A value such as "${input:x}" has a brace of its own: only one outside quotes ends the block.
            if line
                .split('"')
                .step_by(2)
                .any(|outside| outside.contains('}'))
            {
                break;
            }
        }
    }
}

/// A message such as "Please provide a database URL as a command-line argument".
fn asks_for_argument(code: &str) -> bool {
    [
        "command-line argument",
        "command line argument",
        "as an argument",
    ]
    .iter()
    .flat_map(|phrase| code.match_indices(phrase).take(20))
    .any(|(at, _)| {
        let start = code[..at]
            .rfind('\n')
            .map_or(0, |i| i + 1)
            .max(floor(code, at.saturating_sub(160)));
        let sentence = code[start..at].to_ascii_lowercase();
        (sentence.contains("provide")
            || sentence.contains("pass")
            || sentence.contains("require")
            || sentence.contains("must"))
            && [
                "database url",
                "connection string",
                "connection url",
                "api key",
                "token",
                "password",
                "credential",
            ]
            .iter()
            .any(|what| sentence.contains(what))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn names(wanted: Wanted) -> Vec<(String, bool, bool)> {
        wanted
            .into_list()
            .into_iter()
            .map(|v| (v.name, v.secret, v.required))
            .collect()
    }

    fn javascript(code: &str) -> Vec<(String, bool, bool)> {
        let mut wanted = Wanted::default();
        from_javascript(code, &mut wanted);
        names(wanted)
    }

    #[test]
    fn javascript_that_stops_without_a_variable_requires_it() {
        let code = "
const GITLAB_PERSONAL_ACCESS_TOKEN = process.env.GITLAB_PERSONAL_ACCESS_TOKEN;
const GITLAB_API_URL = process.env.GITLAB_API_URL || 'https://gitlab.com/api/v4';
if (!GITLAB_PERSONAL_ACCESS_TOKEN) {
    console.error(\"GITLAB_PERSONAL_ACCESS_TOKEN environment variable is not set\");
    process.exit(1);
}";
        assert_eq!(
            javascript(code),
            [
                ("GITLAB_PERSONAL_ACCESS_TOKEN".into(), true, true),
                ("GITLAB_API_URL".into(), false, false)
            ]
        );
        let code = "
    const botToken = process.env.SLACK_BOT_TOKEN;
    const teamId = process.env['SLACK_TEAM_ID'];
    if (!botToken || !teamId) {
        process.exit(1);
    }";
        assert_eq!(
            javascript(code),
            [
                ("SLACK_BOT_TOKEN".into(), true, true),
                ("SLACK_TEAM_ID".into(), false, true)
            ]
        );
    }

    #[test]
    fn javascript_that_goes_on_without_does_not_require_it() {
        for code in [
            "const API_KEY = process.env.TAVILY_API_KEY;\nconst IS_KEYLESS = !API_KEY;\nprocess.exit(1)",
            "if (!http && !process.env.TAVILY_API_KEY) { throw new Error() }",
            "const k = other ?? process.env.TAVILY_API_KEY;\nif (!k) throw new Error();",
            "const k = process.env.TAVILY_API_KEY || 'x';\nif (!k) { process.exit(1) }",
            "function tool() {\n  const k = process.env.TAVILY_API_KEY;\n  if (!k) {\n    throw new Error();\n  }\n}",
            "const { TAVILY_API_KEY } = process.env;",
            "const { a, TAVILY_API_KEY = 'x', NODE_ENV } = process.env;",
        ] {
            assert_eq!(
                javascript(code),
                [("TAVILY_API_KEY".into(), true, false)],
                "{code}"
            );
        }
    }

    #[test]
    fn noise_and_names_that_decide_how_programs_run_are_left_out() {
        assert_eq!(
            javascript(
                "process.env.NODE_ENV process.env.PORT process.env.DEBUG process.env.npm_config_x process.env[key] process.env.LD_PRELOAD process.env"
            ),
            []
        );
    }

    #[test]
    fn python_reads() {
        let mut wanted = Wanted::default();
        from_python(
            "os.environ[\"A_TOKEN\"]\nos.environ['SET_KEY'] = 'x'\nos.getenv('B_MODE', 'x')\nos.environ.get(\n    \"C_URL\")\n@click.option(envvar=\"D_PATH_X\")",
            &mut wanted,
        );
        assert_eq!(
            names(wanted),
            [
                ("A_TOKEN".into(), true, true),
                ("C_URL".into(), false, false),
                ("B_MODE".into(), false, false),
                ("D_PATH_X".into(), false, false)
            ]
        );
    }

    #[test]
    fn readme_blocks() {
        let mut wanted = Wanted::default();
        from_readme(
            "```json\n{\"env\": {\n \"API_TOKEN\": \"${input:token}\",\n \"API_URL\": \"x\"\n }\n},\n \"NOT_THIS\": \"x\"",
            &mut wanted,
        );
        assert_eq!(
            names(wanted),
            [
                ("API_TOKEN".into(), true, false),
                ("API_URL".into(), false, false)
            ]
        );
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let code: String = (0..10_000)
            .map(|n| format!("process.env.FLOOD_{n};\n"))
            .collect();
        assert_eq!(
            javascript(&code).len(),
            super::super::variables::VARIABLES_MAX
        );
    }

    #[test]
    fn a_secret_as_an_argument_is_noticed() {
        assert!(asks_for_argument(
            "console.error(\"Please provide a database URL as a command-line argument\");"
        ));
        assert!(!asks_for_argument(
            "// The token count is not a command-line argument"
        ));
    }
}

//! Commands as people and manifests write them, without a shell.

use crate::model::errors::Refusal;
use crate::model::sources::Runtime;

/// Words of one command, and characters of one word.
const WORDS_MAX: usize = 100;
const WORD_LEN: usize = 2_000;

/// What a command line starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// `node [flags] FILE [arguments]`, `python FILE`, `python -m MODULE`: the words after the runtime.
    Runtime(Runtime, Vec<String>),
    /// A package run by `npx`, `uvx` and the like, and the arguments after its name.
    Package(Runtime, String, Vec<String>),
    /// `npm start`, `npm run NAME`: a script of package.json.
    Script(String, Vec<String>),
    /// A program of the package or the project itself.
    Named(String, Vec<String>),
}

/// A command line that someone typed, as the program and its arguments.
/// Errors: `Invalid` at the field `command`, when it needs a shell or is no program that Sealport starts.
pub fn typed(line: &str) -> Result<Vec<String>, Refusal> {
    split(line)
        .and_then(|words| program(&words).map(|_| words))
        .map_err(|sentence| Refusal::invalid("command", sentence))
}

/// Splits a line into words. Errors: a sentence, when it needs a shell.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    if let Some(what) = needs_shell(line) {
        return Err(format!(
            "The command needs a shell ({what}), and servers are started without one. Type the program and its arguments."
        ));
    }
    let words = shell_words::split(line)
        .map_err(|_| "The command has a quote that is not closed.".to_owned())?;
    check(&words)?;
    Ok(words)
}

/// Errors: a sentence, for words that no program could be started with.
pub(super) fn check(words: &[String]) -> Result<(), String> {
    if words.is_empty() || words[0].is_empty() {
        return Err("The command is empty.".into());
    }
    if words.len() > WORDS_MAX || words.iter().any(|word| word.chars().count() > WORD_LEN) {
        return Err(format!(
            "The command has more than {WORDS_MAX} words, or one longer than {WORD_LEN} characters."
        ));
    }
    if words.iter().any(|word| word.chars().any(char::is_control)) {
        return Err("The command has a line break or another control character.".into());
    }
    Ok(())
}

/// What of a line only a shell would understand.
fn needs_shell(line: &str) -> Option<char> {
    #[derive(PartialEq)]
    enum Quote {
        None,
        Single,
        Double,
    }
    let mut quote = Quote::None;
    let mut chars = line.trim().chars();
    let mut word_start = true;
    let mut first_word = true;
    while let Some(c) = chars.next() {
        match (&quote, c) {
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::Single, _) => {}
            (_, '\\') => {
                chars.next();
            }
            (_, '$' | '`') => return Some(c),
            (Quote::Double, _) => {}
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (
                Quote::None,
                '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '{' | '}' | '\n',
            ) => {
                return Some(c);
            }
            (Quote::None, '~' | '#') if word_start => return Some(c),
            // NAME=value before a program sets a variable.
            (Quote::None, '=') if first_word => return Some('='),
            _ => {}
        }
        if c.is_whitespace() && quote == Quote::None {
            first_word = false;
            word_start = true;
        } else {
            word_start = false;
        }
    }
    None
}

/// Errors: a sentence, for programs that Sealport does not start.
pub(super) fn program(words: &[String]) -> Result<Program, String> {
    check(words)?;
    let mut words = words.iter().map(String::as_str).peekable();
    let first = words.next().unwrap_or_default();
    let name = known_name(first);
    let collect =
        |words: &mut dyn Iterator<Item = &str>| words.map(str::to_owned).collect::<Vec<_>>();
    match name {
        "node" | "nodejs" => Ok(Program::Runtime(Runtime::Node, collect(&mut words))),
        _ if is_python(name) => Ok(Program::Runtime(Runtime::Python, collect(&mut words))),
        "npx" | "bunx" => package(Runtime::Node, &mut words),
        "uvx" => package(Runtime::Python, &mut words),
        "pipx" if words.peek() == Some(&"run") => {
            words.next();
            package(Runtime::Python, &mut words)
        }
        "npm" | "pnpm" | "yarn" | "bun" => {
            let verb = words.next().unwrap_or_default();
            match verb {
                "start" => {
                    let mut arguments = collect(&mut words);
                    arguments.retain(|word| word != "--");
                    Ok(Program::Script("start".into(), arguments))
                }
                "run" | "run-script" => {
                    let script = words.find(|word| !word.starts_with('-')).unwrap_or("start").to_owned();
                    let mut arguments = collect(&mut words);
                    if arguments.first().is_some_and(|word| word == "--") {
                        arguments.remove(0);
                    }
                    Ok(Program::Script(script, arguments))
                }
                "exec" | "dlx" | "x" => package(Runtime::Node, &mut words),
                _ => Err(format!(
                    "{name} {verb} is not a way to start a server. Type the program that it runs, as in node dist/index.js."
                )),
            }
        }
        "uv" => match words.next() {
            Some("run") => {
                let words: Vec<String> = collect(&mut words);
                if words.first().is_none_or(|word| word.starts_with('-')) {
                    return Err("Type what uv runs, as in python server.py or the name of its script.".into());
                }
                match program(&words)? {
                    Program::Named(name, arguments) if name.ends_with(".py") => {
                        let mut all = vec![name];
                        all.extend(arguments);
                        Ok(Program::Runtime(Runtime::Python, all))
                    }
                    other => Ok(other),
                }
            }
            Some("tool") => package(Runtime::Python, &mut words.skip_while(|word| *word == "run").peekable()),
            _ => Err("Type what uv runs, as in python server.py or the name of its script.".into()),
        },
        "sh" | "bash" | "dash" | "zsh" | "fish" | "cmd" | "powershell" | "pwsh" | "env" | "sudo" | "eval" | "exec" => {
            Err(format!(
                "Servers are started without a shell, so the command cannot begin with {name}. Type the program and its arguments."
            ))
        }
        "docker" | "podman" => Err("Containers are not started on this machine. Choose the npm package, the PyPI package or the repository.".into()),
        "deno" | "go" | "cargo" | "java" | "dotnet" | "ruby" | "php" => Err(format!(
            "Sealport starts Node.js and Python servers; {name} is not one of the two."
        )),
        _ => Ok(Program::Named(first.to_owned(), collect(&mut words))),
    }
}

/// The program's name; a path only where it is a usual place of programs.
fn known_name(word: &str) -> &str {
    for place in ["/usr/bin/", "/usr/local/bin/", "/bin/"] {
        if let Some(name) = word.strip_prefix(place) {
            return name;
        }
    }
    word
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python")
        .is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn package(runtime: Runtime, words: &mut dyn Iterator<Item = &str>) -> Result<Program, String> {
    let mut words =
        words.skip_while(|word| matches!(*word, "-y" | "--yes" | "-q" | "--quiet" | "--"));
    let name = words.next().unwrap_or_default();
    if name.is_empty() || name.starts_with('-') {
        return Err("Type the package's name right after the program that runs it.".into());
    }
    Ok(Program::Package(
        runtime,
        without_version(name).to_owned(),
        words.map(str::to_owned).collect(),
    ))
}

/// `@scope/name@1.2.3` and `name==1.2.3` without the version.
fn without_version(name: &str) -> &str {
    let end = name
        .char_indices()
        .skip(1)
        .find(|(i, c)| *c == '@' || name[*i..].starts_with("=="))
        .map_or(name.len(), |(i, _)| i);
    &name[..end]
}

/// A file below the project: relative, no `..`, no control characters, not hidden behind an option.
pub(super) fn relative_file(raw: &str) -> Option<String> {
    let path = raw.strip_prefix("./").unwrap_or(raw);
    let plain = !path.is_empty()
        && path.len() <= 500
        && !path.starts_with(['/', '-'])
        && !path
            .chars()
            .any(|c| c.is_control() || c == '\\' || c == ':')
        && path
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."));
    plain.then(|| path.to_owned())
}

/// The position of the file among the words after `node` or `python`; options before it are passed over.
pub(super) fn file_position(words: &[String]) -> Option<usize> {
    // These take the next word as their value.
    const WITH_VALUE: [&str; 6] = [
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "--env-file",
    ];
    let mut skip = false;
    words.iter().position(|word| {
        if skip {
            skip = false;
            return false;
        }
        skip = WITH_VALUE.contains(&word.as_str());
        !word.starts_with('-')
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn plain_commands_are_split() {
        assert_eq!(
            split("node dist/index.js --name 'two words' \"it's\"").unwrap(),
            ["node", "dist/index.js", "--name", "two words", "it's"]
        );
        assert_eq!(
            split("python -m x --a=b").unwrap(),
            ["python", "-m", "x", "--a=b"]
        );
        assert_eq!(split("node 'a$b;c'").unwrap(), ["node", "a$b;c"]);
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for line in [
            "npm run build && node dist/index.js",
            "node server.js --port $PORT",
            "node \"$(cat /etc/passwd)\"",
            "node `id`",
            "KEY=x node server.js",
            "node a.js | tee log",
            "node a.js > out",
            "node *.js",
            "node ~/x.js",
            "a; b",
            "node a.js &",
            "node 'open",
            "",
            "node a.js\nrm -rf x",
            "node {a,b}.js",
            "# nothing",
        ] {
            assert!(split(line).is_err(), "{line}");
        }
        assert!(split(&"x ".repeat(101)).is_err());
        assert!(check(&["node".into(), "a\nb".into()]).is_err());
    }

    #[test]
    fn programs_are_recognised() {
        let node = |rest: &str| Program::Runtime(Runtime::Node, words(rest));
        assert_eq!(
            program(&words("node dist/index.js x")).unwrap(),
            node("dist/index.js x")
        );
        assert_eq!(
            program(&words("/usr/local/bin/node a.js")).unwrap(),
            node("a.js")
        );
        assert_eq!(
            program(&words("python3.11 -m x")).unwrap(),
            Program::Runtime(Runtime::Python, words("-m x"))
        );
        assert_eq!(
            program(&words("npx -y @scope/name@1.2.3 --stdio")).unwrap(),
            Program::Package(Runtime::Node, "@scope/name".into(), words("--stdio"))
        );
        assert_eq!(
            program(&words("uvx mcp-server-time==1.0 --local-timezone UTC")).unwrap(),
            Program::Package(
                Runtime::Python,
                "mcp-server-time".into(),
                words("--local-timezone UTC")
            )
        );
        assert_eq!(
            program(&words("npm start")).unwrap(),
            Program::Script("start".into(), vec![])
        );
        assert_eq!(
            program(&words("pnpm run serve -- --http")).unwrap(),
            Program::Script("serve".into(), words("--http"))
        );
        assert_eq!(
            program(&words("uv run server.py")).unwrap(),
            Program::Runtime(Runtime::Python, words("server.py"))
        );
        assert_eq!(
            program(&words("uv run tool-x a")).unwrap(),
            Program::Named("tool-x".into(), words("a"))
        );
        for refused in [
            "bash -c x",
            "docker run x",
            "sudo node a.js",
            "npm install",
            "uv sync",
            "go run .",
            "npx -p x y",
        ] {
            assert!(program(&words(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn files_stay_below() {
        assert_eq!(relative_file("./dist/index.js").unwrap(), "dist/index.js");
        for hostile in [
            "../x.js",
            "/etc/passwd",
            "a/../../x",
            "a//b",
            "-e",
            "a\nb",
            "",
            ".",
            "a\\b",
            "file:x",
        ] {
            assert_eq!(relative_file(hostile), None, "{hostile}");
        }
        assert_eq!(
            file_position(&words("--enable-source-maps -r x a.js b")),
            Some(3)
        );
        assert_eq!(file_position(&words("--inspect")), None);
    }
}

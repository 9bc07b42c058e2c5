//! Reads Rust as words: enough to see which rooms and crates a file names, and behind which gate.

use std::fs;
use std::path::Path;

/// A file of src/.
pub struct Source {
    /// From the root of the repository, as in src/store/secrets.rs.
    pub path: String,
    /// The directory below src/, or the file itself.
    pub room: String,
    /// The whole file is compiled for the server only.
    gated: bool,
    words: Vec<Word>,
}

/// What keeps a line out of the browser's build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    None,
    /// The body of a server function.
    ServerFunction,
    /// `#[cfg(feature = "ssr")]`, or a test.
    Feature,
}

/// A name that stands in a file.
#[derive(Debug)]
pub struct Place {
    pub name: String,
    pub line: usize,
    pub gate: Gate,
}

#[derive(Clone, Debug)]
struct Word {
    text: String,
    line: usize,
    gate: Gate,
    /// Modules deep, those inside the file counted.
    depth: usize,
}

impl Source {
    pub fn read(root: &Path, file: &Path) -> Source {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        Source::parse(path, &fs::read_to_string(file).unwrap())
    }

    pub fn parse(path: &str, text: &str) -> Source {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let own_name = !["mod.rs", "lib.rs", "main.rs"].contains(parts.last().unwrap());
        // src/store/secrets.rs is crate::store::secrets: two modules deep.
        let depth = parts.len() - 1 + usize::from(own_name);
        let mut words = words(text);
        mark_gates(&mut words, depth);
        Source {
            path: path.to_owned(),
            room: parts[0].to_owned(),
            gated: false,
            words,
        }
    }

    /// Each room that is named: `crate::store`, each of `crate::{model, store}`, and by way of `super`.
    pub fn rooms_named(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut at = 0;
        while at < self.words.len() {
            let start = at;
            at += 1;
            let climbs = match self.text(start) {
                "crate" => {
                    // `pub(crate)` names nothing.
                    if self.text(at) != "::" {
                        continue;
                    }
                    self.words[start].depth
                }
                "super" if start == 0 || self.text(start - 1) != "::" => {
                    let mut climbs = 1;
                    while self.text(at) == "::" && self.text(at + 1) == "super" {
                        climbs += 1;
                        at += 2;
                    }
                    climbs
                }
                _ => continue,
            };
            if climbs == self.words[start].depth && self.text(at) == "::" {
                for name in self.first_names(at + 1) {
                    places.push(self.place(name));
                }
            }
        }
        places
    }

    /// Each place that names one of these crates or paths, as in `sqlx` or `std::fs`.
    pub fn paths_named(&self, names: &[&str]) -> Vec<Place> {
        let mut places = Vec::new();
        for at in 0..self.words.len() {
            // A segment further in, a field or a method of that name is something else.
            if at > 0 && ["::", "."].contains(&self.text(at - 1)) {
                continue;
            }
            for name in names {
                let (first, second) = name.split_once("::").unwrap_or((name, ""));
                if self.text(at) != first {
                    continue;
                }
                if second.is_empty() {
                    let used = ["::", "as", ";"].contains(&self.text(at + 1));
                    if used && (self.text(at + 1) == "::" || self.follows_use(at)) {
                        places.push(self.named(at, name));
                    }
                } else if self.text(at + 1) == "::" {
                    for found in self.first_names(at + 2) {
                        if self.text(found) == second {
                            places.push(self.named(found, name));
                        }
                    }
                }
            }
        }
        places
    }

    pub fn has_ssr_gate(&self) -> bool {
        (0..self.words.len()).any(|at| {
            self.text(at) == "feature" && self.text(at + 1) == "=" && self.text(at + 2) == "\"ssr\""
        })
    }

    /// The names that a path goes on with at `at`: one, or the first of each branch of `{…}`.
    fn first_names(&self, at: usize) -> Vec<usize> {
        if self.text(at) != "{" {
            return vec![at];
        }
        let mut names = Vec::new();
        let mut nesting = 0;
        for next in at..self.words.len() {
            match self.text(next) {
                "{" => nesting += 1,
                "}" => nesting -= 1,
                _ => {}
            }
            if nesting == 0 {
                break;
            }
            if nesting == 1 && ["{", ","].contains(&self.text(next)) {
                names.push(next + 1);
            }
        }
        names
    }

    fn follows_use(&self, at: usize) -> bool {
        at > 0 && ["use", "crate"].contains(&self.text(at - 1))
    }

    fn text(&self, at: usize) -> &str {
        self.words.get(at).map_or("", |word| word.text.as_str())
    }

    fn place(&self, at: usize) -> Place {
        let word = self.words.get(at);
        Place {
            name: self.text(at).to_owned(),
            line: word.map_or(0, |word| word.line),
            gate: match word {
                Some(word) if word.gate != Gate::None => word.gate,
                _ if self.gated => Gate::Feature,
                _ => Gate::None,
            },
        }
    }

    fn named(&self, at: usize, name: &str) -> Place {
        Place {
            name: name.to_owned(),
            ..self.place(at)
        }
    }

    /// The modules that stand behind a gate and have a file of their own.
    fn gated_modules(&self) -> Vec<String> {
        (0..self.words.len())
            .filter(|at| {
                self.text(*at) == "mod"
                    && self.text(at + 2) == ";"
                    && (self.gated || self.words[*at].gate == Gate::Feature)
            })
            .map(|at| self.text(at + 1).to_owned())
            .collect()
    }

    /// The directory that this file's modules stand in.
    fn module_dir(&self) -> String {
        let (dir, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        match file {
            "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
            _ => format!("{dir}/{}", file.trim_end_matches(".rs")),
        }
    }
}

/// A gate before `mod name;` covers the module's file, and those of its own modules.
pub fn mark_gated_files(sources: &mut [Source]) {
    loop {
        let gated: Vec<String> = sources
            .iter()
            .flat_map(|source| {
                let dir = source.module_dir();
                source
                    .gated_modules()
                    .into_iter()
                    .flat_map(move |name| {
                        [format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")]
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut changed = false;
        for source in sources.iter_mut() {
            if !source.gated && gated.contains(&source.path) {
                source.gated = true;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Splits Rust into words: names, numbers, `::`, single signs, and strings as one word each. Comments go.
fn words(text: &str) -> Vec<Word> {
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let rest = |offset: usize| chars.get(start + offset).copied().unwrap_or('\0');
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
        } else if c == '/' && rest(1) == '/' {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && rest(1) == '*' {
            at = after_comment(&chars, at);
        } else if let Some(end) = after_string(&chars, at) {
            at = end;
        } else if c == '\'' && rest(1) != '\\' && rest(2) != '\'' {
            // A lifetime: the sign alone, the name after it is a word like any other.
            at += 1;
        } else if c == '\'' {
            at += if rest(1) == '\\' { 3 } else { 2 };
            while at < chars.len() && chars[at - 1] != '\'' {
                at += 1;
            }
            at = at.max(start + 3);
        } else if c.is_alphanumeric() || c == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
        } else if c == ':' && rest(1) == ':' {
            at += 2;
        } else {
            at += 1;
        }
        let comment = c == '/' && (rest(1) == '/' || rest(1) == '*');
        if !c.is_whitespace() && !comment {
            words.push(Word {
                text: chars[start..at].iter().collect(),
                line,
                gate: Gate::None,
                depth: 0,
            });
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    words
}

fn after_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut nesting) = (start, 0);
    while at < chars.len() {
        let two: String = chars[at..chars.len().min(at + 2)].iter().collect();
        match two.as_str() {
            "/*" => nesting += 1,
            "*/" => nesting -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if nesting == 0 {
            break;
        }
    }
    at
}

/// The end of a string that starts here, with its prefix (`b`, `c`, `r`, `br##`); `None` if none does.
fn after_string(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    while matches!(chars.get(at), Some('b' | 'c' | 'r')) && at - start < 2 {
        at += 1;
    }
    let raw = at > start && chars[at - 1] == 'r';
    let mut hashes = 0;
    while raw && chars.get(at + hashes) == Some(&'#') {
        hashes += 1;
    }
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < chars.len() {
        match chars[at] {
            '\\' if !raw => at += 2,
            '"' if chars[at + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes =>
            {
                return Some(at + 1 + hashes);
            }
            _ => at += 1,
        }
    }
    Some(at)
}

/// Follows attributes to what they stand on, and braces to the depth of modules.
fn mark_gates(words: &mut [Word], depth: usize) {
    // What a brace opened: the gate inside it, and whether it is a module's.
    let mut open: Vec<(Gate, usize)> = vec![(Gate::None, depth)];
    // The gate of the item that attributes were read for, and how many brackets deep its head is.
    let mut item: Option<Gate> = None;
    let (mut brackets, mut module) = (0_usize, false);
    let mut at = 0;
    while at < words.len() {
        let (gate, depth) = *open.last().unwrap();
        if words[at].text == "#" && words.get(at + 1).is_some_and(|word| word.text == "[") {
            let end = attribute_end(words, at + 1);
            let attribute: Vec<&str> = words[at + 2..end]
                .iter()
                .map(|word| word.text.as_str())
                .collect();
            if let Some(new) = gate_of(&attribute) {
                item = Some(new);
            }
            for word in &mut words[at..=end] {
                (word.gate, word.depth) = (gate, depth);
            }
            at = end + 1;
            continue;
        }
        // A server function's head is compiled for the browser too; only its body is not.
        words[at].gate = match item {
            Some(Gate::Feature) => Gate::Feature,
            _ => gate,
        };
        words[at].depth = depth;
        match words[at].text.as_str() {
            "mod" => module = true,
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            "{" => {
                let inside = if brackets == 0 {
                    item.take().unwrap_or(gate)
                } else {
                    gate
                };
                let inside = if gate == Gate::None { inside } else { gate };
                open.push((inside, depth + usize::from(std::mem::take(&mut module))));
            }
            "}" if open.len() > 1 => {
                open.pop();
            }
            ";" if brackets == 0 => {
                item = None;
                module = false;
            }
            _ => {}
        }
        at += 1;
    }
}

fn attribute_end(words: &[Word], start: usize) -> usize {
    let mut nesting = 0;
    for (at, word) in words.iter().enumerate().skip(start) {
        match word.text.as_str() {
            "[" => nesting += 1,
            "]" => nesting -= 1,
            _ => {}
        }
        if nesting == 0 {
            return at;
        }
    }
    words.len() - 1
}

fn gate_of(attribute: &[&str]) -> Option<Gate> {
    match attribute {
        ["server", ..] => Some(Gate::ServerFunction),
        ["cfg", "(", "feature", "=", "\"ssr\"", ")"] => Some(Gate::Feature),
        ["cfg", "(", "test", ")"] => Some(Gate::Feature),
        _ => None,
    }
}

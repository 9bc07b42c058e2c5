//! Exact-match redaction: a bound value, in the forms in which programs print it, becomes one constant.
//!
//! Everything a server prints or answers passes through here before it is stored or sent. The
//! matcher is an Aho-Corasick automaton of our own, because a library's tells neither how much of a
//! value may have begun at the end of the input (which decides how long a stream is kept back) nor
//! can it be zeroed. All occurrences are masked, overlapping ones too: what remains of a text holds
//! no whole pattern.

mod forms;
mod pieces;
mod terminal;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

pub use terminal::TerminalMask;

/// What stands where a value was: always the same, so that it tells nothing about the value.
pub const MASK: &str = "[sealed]";

/// Values with fewer characters are not masked. A secret's page and the wizard warn of them.
pub use crate::model::secrets::SHORTEST_MASKED_CHARS;

/// What the masks of one deployment take at most, with all the values that one can have.
pub const MASKS_LEN_BYTES: usize = 192 << 20;

/// The values of one deployment, ready to be found in what its server says.
pub struct Masks {
    automaton: RwLock<Arc<Automaton>>,
}

impl Masks {
    /// Masks for these values and their parts in all their forms; values under [`SHORTEST_MASKED_CHARS`] are left out.
    /// Takes up to a second of work and, at worst, [`MASKS_LEN_BYTES`] for the longest values that a
    /// deployment can have.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut values: Vec<&str> = values
            .into_iter()
            .map(|value| value.expose_secret())
            .collect();
        // Short values first: keys and passwords are found in every form, and cost least.
        values.sort_unstable_by_key(|value| value.len());
        let mut patterns = forms::Patterns::default();
        for value in &values {
            patterns.add(value);
        }
        patterns.add_pieces(&values);
        let mut patterns = patterns.into_set();
        let automaton = Automaton::new(&patterns);
        for mut pattern in patterns.drain() {
            pattern.zeroize();
        }
        Self {
            automaton: RwLock::new(Arc::new(automaton)),
        }
    }

    /// The same on a thread where it holds nobody up.
    pub async fn build(values: Vec<SecretString>) -> Result<Self, tokio::task::JoinError> {
        tokio::task::spawn_blocking(move || Self::new(&values)).await
    }

    /// Masks nothing.
    pub fn none() -> Self {
        Self {
            automaton: RwLock::new(Arc::new(Automaton::new(&HashSet::new()))),
        }
    }

    /// Masks what another does, from now on, wherever these are in use: what they masked must be among it.
    pub fn become_like(&self, other: &Masks) {
        // A poisoned lock holds a whole automaton all the same.
        *self
            .automaton
            .write()
            .unwrap_or_else(PoisonError::into_inner) = other.automaton();
    }

    fn automaton(&self) -> Arc<Automaton> {
        Arc::clone(
            &self
                .automaton
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The text with each run of masked characters as one [`MASK`].
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Patterns are whole characters, so what is left is UTF-8 still; lossy never replaces.
            Cow::Owned(masked) => Cow::Owned(
                String::from_utf8(masked)
                    .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
        }
    }

    /// The same for bytes that may not be UTF-8.
    pub fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        let spans = self.automaton().spans(bytes);
        if spans.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut masked = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for span in spans {
            masked.extend_from_slice(&bytes[at..span.start]);
            masked.extend_from_slice(MASK.as_bytes());
            at = span.end;
        }
        masked.extend_from_slice(&bytes[at..]);
        Cow::Owned(masked)
    }

    /// The same for what a terminal may show: where sequences divide a value they go, as they do in the log.
    fn said<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let masked = self.text(text);
        if !masked.contains('\x1b') {
            return masked;
        }
        match self.text(&terminal::plain(&masked)) {
            Cow::Owned(plain) => Cow::Owned(plain),
            Cow::Borrowed(_) => masked,
        }
    }

    /// Masks every string and object key of `value`, as decoded, and numbers that are a value.
    /// Answers how many strings, keys and numbers were changed.
    pub fn json(&self, value: &mut Value) -> usize {
        if self.automaton().is_empty() {
            return 0;
        }
        match value {
            Value::String(text) => match self.said(text) {
                Cow::Owned(masked) => {
                    *text = masked;
                    1
                }
                Cow::Borrowed(_) => 0,
            },
            Value::Number(number) => {
                if self.is_value(&number.to_string()) {
                    *value = Value::String(MASK.to_owned());
                    1
                } else {
                    0
                }
            }
            Value::Array(items) => items.iter_mut().map(|item| self.json(item)).sum(),
            Value::Object(members) => self.json_object(members),
            Value::Null | Value::Bool(_) => 0,
        }
    }

    /// Masks what comes in pieces.
    pub fn stream(&self) -> StreamMask {
        StreamMask {
            automaton: self.automaton(),
            state: ROOT,
            held: Vec::new(),
            covered: Vec::new(),
            in_mask: false,
        }
    }

    fn json_object(&self, members: &mut Map<String, Value>) -> usize {
        let mut count: usize = members.values_mut().map(|member| self.json(member)).sum();
        let keys = members
            .keys()
            .filter(|key| matches!(self.said(key), Cow::Owned(_)))
            .count();
        if keys > 0 {
            count += keys;
            *members = std::mem::take(members)
                .into_iter()
                .map(|(key, member)| (self.said(&key).into_owned(), member))
                .collect();
        }
        count
    }

    /// Whether a number's token is a masked value, but for its sign.
    fn is_value(&self, token: &str) -> bool {
        let digits = token.strip_prefix('-').unwrap_or(token);
        matches!(self.automaton().spans(digits.as_bytes()).as_slice(),
            [span] if span.start == 0 && span.end == digits.len())
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masks")
    }
}

/// Masks a stream of bytes whose pieces may end within a value. It keeps back only what may be a
/// value's beginning, which is at most the longest pattern less one byte.
pub struct StreamMask {
    automaton: Arc<Automaton>,
    state: u32,
    held: Vec<u8>,
    /// For each held byte, whether a match covers it already.
    covered: Vec<bool>,
    in_mask: bool,
}

impl StreamMask {
    /// Takes a piece; answers what is safe to pass on.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        for &byte in piece {
            self.state = self.automaton.step(self.state, byte);
            self.held.push(byte);
            self.covered.push(false);
            let node = self.automaton.node(self.state);
            let matched = self.automaton.longest_match(self.state);
            if matched > 0 {
                let start = self.covered.len().saturating_sub(matched);
                self.covered[start..].fill(true);
            }
            // Released in blocks: moving the held bytes for each byte would cost their length each time.
            let decided = self.held.len() - (node.depth as usize).min(self.held.len());
            if decided > 4096 {
                self.release(decided, &mut out);
            }
        }
        let depth = self.automaton.node(self.state).depth as usize;
        let decided = self.held.len() - depth.min(self.held.len());
        self.release(decided, &mut out);
        out
    }

    /// What was kept back, when no more comes.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.release(self.held.len(), &mut out);
        out
    }

    fn release(&mut self, count: usize, out: &mut Vec<u8>) {
        for (byte, covered) in self.held.drain(..count).zip(self.covered.drain(..count)) {
            if !covered {
                out.push(byte);
            } else if !self.in_mask {
                out.extend_from_slice(MASK.as_bytes());
            }
            self.in_mask = covered;
        }
    }
}

impl Drop for StreamMask {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl fmt::Debug for StreamMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamMask")
    }
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// Sixteen bytes: a deployment can have millions. The first child, where there is one, is the next node.
struct Node {
    byte: u8,
    has_child: bool,
    /// A pattern ends here; how long the longest is stands in [`Automaton::matches`].
    has_match: bool,
    next_sibling: u32,
    /// The node of the longest proper suffix that begins a pattern.
    fallback: u32,
    depth: u32,
}

struct Automaton {
    nodes: Vec<Node>,
    /// The length of the longest pattern that ends at a node.
    matches: HashMap<u32, u32>,
    from_root: Box<[u32; 256]>,
}

impl Automaton {
    fn new(patterns: &HashSet<Vec<u8>>) -> Self {
        let mut patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
        // In order, so that each goes on from the one before and a first child follows its parent.
        patterns.sort_unstable();
        let mut size = 1;
        let mut before: &[u8] = &[];
        for pattern in &patterns {
            size += pattern.len() - shared(before, pattern);
            before = pattern;
        }
        // Reserved at once: growing would leave copies behind that nobody zeroes.
        let mut nodes = Vec::with_capacity(size);
        nodes.push(Node::new(0, 0));
        let mut automaton = Self {
            nodes,
            matches: HashMap::new(),
            from_root: Box::new([NONE; 256]),
        };
        let mut path = vec![ROOT];
        before = &[];
        for pattern in patterns {
            automaton.insert(pattern, shared(before, pattern), &mut path);
            before = pattern;
        }
        automaton.link();
        automaton
    }

    fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    /// The length of the longest pattern that ends at a node; 0 when none does.
    fn longest_match(&self, index: u32) -> usize {
        if !self.node(index).has_match {
            return 0;
        }
        self.matches
            .get(&index)
            .map_or(0, |length| *length as usize)
    }

    fn first_child(&self, parent: u32) -> u32 {
        if self.node(parent).has_child {
            parent + 1
        } else {
            NONE
        }
    }

    fn child(&self, parent: u32, byte: u8) -> u32 {
        if parent == ROOT {
            return self.from_root[byte as usize];
        }
        let mut child = self.first_child(parent);
        while child != NONE && self.node(child).byte != byte {
            child = self.node(child).next_sibling;
        }
        child
    }

    /// Adds a pattern that shares its first `shared` bytes with the one before, whose nodes are in `path`.
    fn insert(&mut self, pattern: &[u8], shared: usize, path: &mut Vec<u32>) {
        let mut elder = path.get(shared + 1).copied();
        path.truncate(shared + 1);
        for &byte in &pattern[shared..] {
            let new = self.nodes.len() as u32;
            let parent = path.last().copied().unwrap_or(ROOT);
            if parent == ROOT {
                self.from_root[byte as usize] = new;
            }
            match elder.take() {
                Some(elder) => self.nodes[elder as usize].next_sibling = new,
                None => self.nodes[parent as usize].has_child = true,
            }
            self.nodes
                .push(Node::new(byte, self.node(parent).depth + 1));
            path.push(new);
        }
        let end = path.last().copied().unwrap_or(ROOT);
        self.nodes[end as usize].has_match = true;
        self.matches.insert(end, self.node(end).depth);
    }

    /// Sets the fallbacks, shallow nodes first.
    fn link(&mut self) {
        let mut queue = std::collections::VecDeque::from([ROOT]);
        while let Some(parent) = queue.pop_front() {
            let mut child = self.first_child(parent);
            while child != NONE {
                let fallback = match parent {
                    ROOT => ROOT,
                    _ => self.step(self.node(parent).fallback, self.node(child).byte),
                };
                // The node's own pattern is longer than what it inherits.
                let inherited = self.longest_match(fallback);
                let node = &mut self.nodes[child as usize];
                node.fallback = fallback;
                if !node.has_match && inherited > 0 {
                    node.has_match = true;
                    self.matches.insert(child, inherited as u32);
                }
                queue.push_back(child);
                child = self.node(child).next_sibling;
            }
        }
    }

    fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            let next = self.child(state, byte);
            if next != NONE {
                return next;
            }
            if state == ROOT {
                return ROOT;
            }
            state = self.node(state).fallback;
        }
    }

    /// Where patterns occur, in order; those that overlap or touch as one.
    fn spans(&self, bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
        let mut spans: Vec<std::ops::Range<usize>> = Vec::new();
        if self.is_empty() {
            return spans;
        }
        let mut state = ROOT;
        for (index, &byte) in bytes.iter().enumerate() {
            state = self.step(state, byte);
            let matched = self.longest_match(state);
            if matched == 0 {
                continue;
            }
            let mut start = index + 1 - matched;
            while let Some(last) = spans.last() {
                if last.end < start {
                    break;
                }
                start = start.min(last.start);
                spans.pop();
            }
            spans.push(start..index + 1);
        }
        spans
    }
}

impl Node {
    fn new(byte: u8, depth: u32) -> Self {
        Self {
            byte,
            has_child: false,
            has_match: false,
            next_sibling: NONE,
            fallback: ROOT,
            depth,
        }
    }
}

/// How many bytes two patterns have in common at their beginning.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

impl Drop for Automaton {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.byte.zeroize();
        }
        self.from_root.zeroize();
    }
}

#[cfg(test)]
mod tests;

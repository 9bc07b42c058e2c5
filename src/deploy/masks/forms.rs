//! The forms in which a program may print a value (what CI runners mask, and a few more).

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::{Zeroize as _, Zeroizing};

use super::{SHORTEST_MASKED_CHARS, pieces};

/// Longer values get the common spellings only: each more costs memory as long as the value.
const THOROUGH_BYTES: usize = 4096;

/// What all values together may take in every form; those beyond it get the common spellings only.
const THOROUGH_PATTERNS_BYTES: usize = 2 << 20;

/// What the parts of all values together may take as they are; each takes many times as much in its forms.
const PIECES_BYTES: usize = 32 << 10;

/// What Node.js shows of a buffer.
const SHOWN_OF_BUFFER_BYTES: usize = 50;

/// The forms of several values.
#[derive(Default)]
pub(super) struct Patterns {
    set: HashSet<Vec<u8>>,
    len_bytes: usize,
}

impl Patterns {
    /// Adds `value` in every form, or in the common ones when it or the whole would be too long.
    pub(super) fn add(&mut self, value: &str) {
        if value.len() <= THOROUGH_BYTES
            && self.keep(forms_of(value, true), THOROUGH_PATTERNS_BYTES)
        {
            return;
        }
        self.keep(forms_of(value, false), usize::MAX);
    }

    /// Adds the parts of `values` that programs print alone: those called secret first, then short ones, as far as there is room.
    pub(super) fn add_pieces(&mut self, values: &[&str]) {
        let mut pieces: Vec<pieces::Piece> =
            values.iter().flat_map(|value| pieces::of(value)).collect();
        pieces.sort_unstable_by(|one, other| {
            let rank = |piece: &pieces::Piece| (!piece.is_named_secret, piece.text.len());
            rank(one)
                .cmp(&rank(other))
                .then_with(|| one.text.cmp(&other.text))
        });
        pieces.dedup_by(|one, other| one.text == other.text);
        let mut room_bytes = PIECES_BYTES;
        for piece in pieces {
            let Some(left) = room_bytes.checked_sub(piece.text.len()) else {
                continue;
            };
            room_bytes = left;
            self.add(&piece.text);
        }
    }

    pub(super) fn into_set(self) -> HashSet<Vec<u8>> {
        self.set
    }

    /// False, and nothing is kept, when there would be more than `most_bytes` of all.
    fn keep(&mut self, forms: HashSet<Vec<u8>>, most_bytes: usize) -> bool {
        let len_bytes = self.len_bytes + forms.iter().map(Vec::len).sum::<usize>();
        let fits = len_bytes <= most_bytes;
        if fits {
            self.len_bytes = len_bytes;
        }
        for mut form in forms {
            if !fits || self.set.contains(&form) {
                form.zeroize();
            } else {
                self.set.insert(form);
            }
        }
        fits
    }
}

/// The forms of `value` and of each of its lines.
fn forms_of(value: &str, thorough: bool) -> HashSet<Vec<u8>> {
    let mut patterns = HashSet::new();
    if value.chars().count() < SHORTEST_MASKED_CHARS {
        return patterns;
    }
    let mut add = |mut form: String| {
        if patterns.contains(form.as_bytes()) {
            form.zeroize();
        } else {
            patterns.insert(form.into_bytes());
        }
    };
    let lines = value.contains('\n');
    for whole in [value, value.trim()] {
        // Programs trim what they read from their environment.
        if whole.chars().count() < SHORTEST_MASKED_CHARS {
            continue;
        }
        hexadecimal(whole, thorough, &mut add);
        // A long value's base64 holds that of its trimmed self at one of the alignments: what is left of it is blank.
        if thorough || whole.len() == value.trim().len() {
            base64(whole.as_bytes(), thorough, &mut add);
        }
        if thorough || !lines {
            escaped(whole, thorough, &mut add);
        } else {
            // What escapes character by character is found line by line.
            add(whole.to_owned());
            add(json_escape(whole, JSON_STYLES[0]));
        }
    }
    for line in value.lines().map(str::trim).filter(|_| lines) {
        if line.chars().count() >= SHORTEST_MASKED_CHARS {
            escaped(line, thorough, &mut add);
            if thorough {
                hexadecimal(line, thorough, &mut add);
                base64(line.as_bytes(), thorough, &mut add);
            }
        }
    }
    patterns
}

fn hexadecimal(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    for digits in [hex::encode(value), hex::encode_upper(value)] {
        let digits = Zeroizing::new(digits);
        for between in [" ", ":"] {
            if thorough {
                add(apart(&digits, between));
            }
        }
        add(digits.to_string());
    }
    // Node.js shows a buffer so, and only its beginning.
    if value.len() > SHOWN_OF_BUFFER_BYTES {
        let beginning = &value.as_bytes()[..SHOWN_OF_BUFFER_BYTES];
        add(apart(&Zeroizing::new(hex::encode(beginning)), " "));
    }
}

/// The digits of each byte apart from the next's.
fn apart(digits: &str, between: &str) -> String {
    let mut form = String::with_capacity(digits.len() / 2 * 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 2 == 0 {
            form.push_str(between);
        }
        form.push(digit);
    }
    form
}

/// The value, and the forms that keep most of its characters.
fn escaped(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    add(value.to_owned());
    percent(value, thorough, add);
    json(value, thorough, add);
    shell(value, thorough, add);
    xml(value, thorough, add);
}

/// At three alignments: the value may stand anywhere in what was encoded.
fn base64(value: &[u8], thorough: bool, add: &mut impl FnMut(String)) {
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0u8; before]);
            bytes.extend_from_slice(value);
            let encoded = engine.encode(bytes.as_slice());
            // The first characters also hold bits of what stands before the value.
            let encoded = &encoded[[0, 2, 3][before]..];
            let partial = bytes.len() % 3 != 0;
            // The last one also holds bits of what follows, or zeros at the end of the input.
            if partial {
                add(encoded[..encoded.len() - 1].to_owned());
                add(format!("{encoded}{}", "=".repeat(3 - bytes.len() % 3)));
            }
            add(encoded.to_owned());
        }
    }
    // Command-line tools and MIME encoders wrap their lines.
    let padded = base64::engine::general_purpose::STANDARD.encode(value);
    for width in [64, 76] {
        if padded.len() > width {
            let lines: Vec<&str> = (0..padded.len())
                .step_by(width)
                .map(|start| &padded[start..padded.len().min(start + width)])
                .collect();
            add(lines.join("\n"));
            if !thorough {
                continue;
            }
            add(lines.join("\r\n"));
            add(lines.join("\\n"));
        }
    }
}

/// Encoders differ in what they leave as it is.
fn percent(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    const KEPT: [&str; 11] = [
        // RFC 3986, Python, JavaScript and forms; the rest is rarer.
        "-._~",
        "-._~/",
        "-_.!~*'()",
        "-._*",
        "-._",
        "-_.!~*'();/?:@&=+$,#",
        // URLs as browsers write them: a path's segment (`^` in older ones only), a query.
        "!$&'()*+,-.:;=@[\\]^_|~",
        "!$&'()*+,-.:;=@[]^_|~",
        "!$&'()*+,-.:;=@[\\]_|~",
        "!$&'()*+,-.:;=@[]_|~",
        "!$%&()*+,-./:;=?@[\\]^_`{|}~",
    ];
    for kept in &KEPT[..if thorough { KEPT.len() } else { 4 }] {
        for upper in if thorough {
            &[true, false][..]
        } else {
            &[true]
        } {
            for space in ["%20", "+"] {
                if !thorough && (space == "+") != (*kept == "-._*") {
                    continue;
                }
                let mut form = String::with_capacity(value.len() * 3);
                for byte in value.bytes() {
                    let c = char::from(byte);
                    if c.is_ascii_alphanumeric() || (byte.is_ascii() && kept.contains(c)) {
                        form.push(c);
                    } else if byte == b' ' {
                        form.push_str(space);
                    } else if *upper {
                        let _ = write!(form, "%{byte:02X}");
                    } else {
                        let _ = write!(form, "%{byte:02x}");
                    }
                }
                add(form);
            }
        }
    }
}

fn json(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    for style in &JSON_STYLES[..if thorough { JSON_STYLES.len() } else { 3 }] {
        let once = json_escape(value, *style);
        // JSON is often carried within a JSON string.
        if thorough || !style.ascii_only {
            add(json_escape(&once, *style));
        }
        add(once);
    }
}

#[derive(Clone, Copy)]
struct JsonStyle {
    ascii_only: bool,
    upper: bool,
    slash: bool,
    html: bool,
}

const JSON_STYLES: [JsonStyle; 9] = [
    JsonStyle {
        ascii_only: false,
        upper: false,
        slash: false,
        html: false,
    },
    JsonStyle {
        ascii_only: false,
        upper: true,
        slash: false,
        html: false,
    },
    JsonStyle {
        ascii_only: true,
        upper: false,
        slash: false,
        html: false,
    },
    JsonStyle {
        ascii_only: true,
        upper: true,
        slash: false,
        html: false,
    },
    JsonStyle {
        ascii_only: false,
        upper: false,
        slash: true,
        html: false,
    },
    JsonStyle {
        ascii_only: true,
        upper: false,
        slash: true,
        html: false,
    },
    JsonStyle {
        ascii_only: false,
        upper: false,
        slash: false,
        html: true,
    },
    JsonStyle {
        ascii_only: false,
        upper: true,
        slash: false,
        html: true,
    },
    JsonStyle {
        ascii_only: true,
        upper: true,
        slash: false,
        html: true,
    },
];

fn json_escape(value: &str, style: JsonStyle) -> String {
    let mut form = String::with_capacity(value.len() * 2);
    for c in value.chars() {
        match c {
            '"' if !style.html || !style.ascii_only => form.push_str("\\\""),
            '\\' => form.push_str("\\\\"),
            '\n' => form.push_str("\\n"),
            '\r' => form.push_str("\\r"),
            '\t' => form.push_str("\\t"),
            '\u{8}' => form.push_str("\\b"),
            '\u{c}' => form.push_str("\\f"),
            '/' if style.slash => form.push_str("\\/"),
            '<' | '>' | '&' if style.html => unicode_escape(c, style.upper, &mut form),
            '"' | '\'' | '+' | '`' if style.html && style.ascii_only => {
                unicode_escape(c, style.upper, &mut form)
            }
            // Go escapes these two with HTML's; Python and Java escape DEL with the rest.
            '\u{2028}' | '\u{2029}' if style.html => unicode_escape(c, style.upper, &mut form),
            c if c < ' ' || (style.ascii_only && !c.is_ascii()) => {
                unicode_escape(c, style.upper, &mut form)
            }
            c => form.push(c),
        }
    }
    form
}

fn unicode_escape(c: char, upper: bool, form: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = if upper {
            write!(form, "\\u{unit:04X}")
        } else {
            write!(form, "\\u{unit:04x}")
        };
    }
}

fn shell(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    add(value.replace('\'', r"'\''"));
    add(value.replace('\'', r#"'"'"'"#));
    if !thorough {
        return;
    }
    // Within double quotes, with and without an interactive shell's `!`; then bash's %q, then $'…'.
    add(backslashed(value, |c| "$`\"\\".contains(c)));
    add(backslashed(value, |c| "$`\"\\!".contains(c)));
    add(backslashed(value, |c| {
        c.is_ascii() && !c.is_ascii_alphanumeric() && !"@%_+=:,./-".contains(c)
    }));
    add(backslashed(value, |c| {
        c.is_ascii() && !c.is_ascii_alphanumeric() && !"@%_+=:./-".contains(c)
    }));
    add(backslashed(value, |c| "'\\".contains(c))
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r"));
}

fn backslashed(value: &str, special: impl Fn(char) -> bool) -> String {
    let mut form = String::with_capacity(value.len() * 2);
    for c in value.chars() {
        if special(c) {
            form.push('\\');
        }
        form.push(c);
    }
    form
}

fn xml(value: &str, thorough: bool, add: &mut impl FnMut(String)) {
    let text = value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    add(value.replace('&', "&amp;").replace('<', "&lt;"));
    add(text.replace('"', "&quot;"));
    add(text.replace('"', "&quot;").replace('\'', "&apos;"));
    if !thorough {
        return;
    }
    for quote in ["\"", "&quot;", "&#34;", "&#x22;"] {
        for apostrophe in ["'", "&apos;", "&#39;", "&#x27;"] {
            let form = text.replace('"', quote).replace('\'', apostrophe);
            add(form
                .replace('\r', "&#13;")
                .replace('\n', "&#10;")
                .replace('\t', "&#9;"));
            add(form
                .replace('\r', "&#xD;")
                .replace('\n', "&#xA;")
                .replace('\t', "&#x9;"));
            add(form);
        }
    }
}

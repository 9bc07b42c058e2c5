//! What is meant for a terminal: colours and cursor sequences go, and a value that they divide is
//! masked too.

use super::{Masks, StreamMask};

/// Masks a stream, removes the terminal's sequences, and masks what is left: a sequence may stand
/// within a value, and a value's first characters may look like the end of a sequence.
pub struct TerminalMask {
    said: StreamMask,
    plain: Plain,
    shown: StreamMask,
}

impl Masks {
    /// Masks what comes in pieces and is to be read without a terminal.
    pub fn terminal(&self) -> TerminalMask {
        TerminalMask {
            said: self.stream(),
            plain: Plain::Text,
            shown: self.stream(),
        }
    }
}

impl TerminalMask {
    /// Takes a piece; answers what is safe to pass on.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let said = self.said.feed(piece);
        self.shown.feed(&self.plain.feed(&said))
    }

    /// What was kept back, when no more comes.
    pub fn finish(mut self) -> Vec<u8> {
        let said = self.plain.feed(&self.said.finish());
        let mut rest = self.shown.feed(&said);
        rest.extend(self.shown.finish());
        rest
    }
}

impl std::fmt::Debug for TerminalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TerminalMask")
    }
}

/// A text without the terminal's sequences.
pub(super) fn plain(text: &str) -> String {
    // Sequences are whole characters, so what is left is UTF-8 still.
    String::from_utf8_lossy(&Plain::Text.feed(text.as_bytes())).into_owned()
}

/// Where in a sequence the text stands (ECMA-48, 5.3 and 5.4).
#[derive(Clone, Copy)]
enum Plain {
    Text,
    Escape,
    /// Before the last byte of a sequence with an intermediate one.
    Intermediate,
    /// Within a control sequence: parameters, then one final byte.
    Control,
    /// Within a string: a title, a link. Ends with BEL or the string terminator.
    String,
    StringEscape,
}

impl Plain {
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let (next, is_text) = self.after(byte);
            *self = next;
            if is_text {
                out.push(byte);
            }
        }
        out
    }

    /// What follows a byte, and whether the byte is text.
    fn after(self, byte: u8) -> (Self, bool) {
        match (self, byte) {
            // A sequence without an end swallows its own line only.
            (_, b'\n') => (Self::Text, true),
            (Self::String, 0x1b) => (Self::StringEscape, false),
            (Self::String, 0x07) | (Self::StringEscape, b'\\') => (Self::Text, false),
            (Self::String | Self::StringEscape, _) => (Self::String, false),
            (_, 0x1b) => (Self::Escape, false),
            (Self::Text, _) => (Self::Text, true),
            (Self::Escape, b'[') => (Self::Control, false),
            (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (Self::String, false),
            (Self::Escape | Self::Intermediate, 0x20..=0x2f) => (Self::Intermediate, false),
            (Self::Escape | Self::Intermediate, 0x30..=0x7e) => (Self::Text, false),
            (Self::Control, 0x20..=0x3f) => (Self::Control, false),
            (Self::Control, 0x40..=0x7e) => (Self::Text, false),
            // No sequence after all: its beginning is gone, the rest is text.
            (Self::Escape | Self::Intermediate | Self::Control, _) => (Self::Text, true),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;
    use secrecy::SecretString;

    use super::*;

    fn shown(masks: &Masks, said: &str, cut: usize) -> String {
        let (first, second) = said.as_bytes().split_at(cut.min(said.len()));
        let mut mask = masks.terminal();
        let mut out = mask.feed(first);
        out.extend(mask.feed(second));
        out.extend(mask.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn colours_go_and_text_stays() {
        for (said, plain) in [
            ("plain\n", "plain\n"),
            ("\x1b[1;32minfo\x1b[0m: up", "info: up"),
            ("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\.", "link."),
            ("\x1b]0;never ends\nnext", "\nnext"),
            ("end\x1b", "end"),
            ("a\x1b(Bb\x1b\x1b[mc", "abc"),
            ("\x1bä\x1b[3ä", "ää"),
        ] {
            for cut in 0..said.len() {
                assert_eq!(shown(&Masks::none(), said, cut), plain, "{said:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_value_with_colours_in_or_around_it_is_masked(
            value in "[!-~]{8,30}",
            sequence in prop::sample::select(vec!["\x1b[31m", "\x1b[0m\x1b[K", "\x1b]0;t\x07", "\x1b[", "\x1b[1", "\x1b"]),
            at in 0usize..30,
            cut in any::<usize>(),
        ) {
            let masks = Masks::new(&[SecretString::from(value.as_str())]);
            let at = at.min(value.len());
            // One that has no end takes the value's next character with it, so it can only stand before it.
            let at = if sequence.len() < 4 { 0 } else { at };
            let said = format!("x {}{sequence}{} x", &value[..at], &value[at..]);
            let out = shown(&masks, &said, cut % said.len());
            let left = out.replace(super::super::MASK, "\0");
            prop_assert!(value.as_bytes().windows(8).all(|part| !left.contains(std::str::from_utf8(part).unwrap())), "{out}");
        }
    }

    #[test]
    fn a_value_that_holds_a_sequence_is_masked() {
        let masks = Masks::new(&[SecretString::from("colour\x1b[31mful-value")]);
        assert_eq!(
            shown(&masks, "x colour\x1b[31mful-value x", 9),
            "x [sealed] x"
        );
    }
}

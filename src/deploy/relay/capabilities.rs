//! What a client said that it can be asked.

use serde_json::{Value, json};

/// The capabilities that make a server ask, and what of each a server may look at. Others are between the client and the gateway.
const ASKED: [&[&str]; 8] = [
    &["elicitation"],
    &["elicitation", "form"],
    &["elicitation", "url"],
    &["roots"],
    &["roots", "listChanged"],
    &["sampling"],
    &["sampling", "context"],
    &["sampling", "tools"],
];

/// The part of a client's capabilities that matters to a server that may ask it: which of [`ASKED`], one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCapabilities(u8);

impl ClientCapabilities {
    pub fn of(declared: &Value) -> Self {
        let is_declared = |path: &&[&str]| {
            let found = path.iter().try_fold(declared, |at, name| at.get(name));
            found.is_some_and(|found| found.is_object() || (*found == true && path.len() > 1))
        };
        let bits = ASKED.iter().enumerate();
        let bits = bits.filter(|(_, path)| is_declared(path));
        Self(bits.fold(0, |all, (bit, _)| all | 1 << bit))
    }

    /// Whether a client of these can do all that one of those can.
    pub fn cover(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// What either can.
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// As a client declares them.
    pub fn json(self) -> Value {
        let mut declared = json!({});
        let set = ASKED.iter().enumerate();
        for (_, path) in set.filter(|(bit, _)| self.0 & 1 << bit != 0) {
            match path {
                [name] => declared[*name] = json!({}),
                [name, "listChanged"] => declared[*name]["listChanged"] = json!(true),
                [name, of] => declared[*name][*of] = json!({}),
                _ => {}
            }
        }
        declared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_counts_and_more_only_adds() {
        let none = ClientCapabilities::default();
        let form = ClientCapabilities::of(&json!({"elicitation": {}, "experimental": {"a": {}}}));
        let more = json!({"elicitation": {"url": {}}, "roots": {"listChanged": true}, "sampling": {"tools": {}}});
        let both = ClientCapabilities::of(&more);
        assert!(form.cover(none) && !none.cover(form));
        assert!(both.cover(form) && !form.cover(both));
        assert_eq!(form.with(both), both);
        assert_eq!(
            (form.json(), both.json()),
            (json!({"elicitation": {}}), more)
        );
        for (declared, told) in [
            (
                json!({"roots": {"listChanged": false, "x": 1}}),
                json!({"roots": {}}),
            ),
            (json!({"roots": true, "sampling": []}), json!({})),
            (json!([]), json!({})),
        ] {
            assert_eq!(ClientCapabilities::of(&declared).json(), told);
        }
    }
}

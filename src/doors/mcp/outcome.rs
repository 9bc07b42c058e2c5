//! What a tool answers: structured, and the same as text. What could not be done is a result too, with a reason that a model can act
//! on; errors of the protocol are for what is no call.

use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::message::{self, Era};
use crate::model::errors::{Refusal, RefusalKind};

/// A tool's result, written as JSON. It can hold a value.
pub(super) struct Outcome {
    structured: Zeroizing<Vec<u8>>,
    failed: bool,
}

impl Outcome {
    /// What was asked, done or answered.
    pub fn done(result: &impl Serialize) -> Result<Outcome, Refusal> {
        Outcome::with_value(result, 0)
    }

    /// The same, with a value in it that is so long.
    pub fn with_value(result: &impl Serialize, value_len_bytes: usize) -> Result<Outcome, Refusal> {
        // Each character of it may be escaped; a vector that grows would leave copies behind.
        let mut structured = Zeroizing::new(Vec::with_capacity(4 * 1024 + value_len_bytes * 6));
        serde_json::to_writer(&mut *structured, result).map_err(|_| Refusal::internal())?;
        Ok(Outcome {
            structured,
            failed: false,
        })
    }

    /// The same result, of what was not done.
    pub fn failed(mut self) -> Outcome {
        self.failed = true;
        self
    }

    /// What was not done, and why.
    pub fn refused(refusal: &Refusal) -> Outcome {
        let mut result = json!({"reason": reason(refusal.kind), "detail": refusal.detail});
        if let Some(field) = &refusal.field {
            result["argument"] = argument(field).into();
        }
        Outcome {
            structured: Zeroizing::new(result.to_string().into_bytes()),
            failed: true,
        }
    }

    /// Put together by hand, so that no copy is left behind unzeroed.
    pub fn answer(self, id: &Value, era: Era) -> Response {
        let id = id.to_string();
        // A text in JSON again is at most twice as long.
        let longest = self.structured.len() * 3 + id.len() + 256;
        let mut body = Zeroizing::new(Vec::with_capacity(longest));
        let put = |body: &mut Vec<u8>, text: &str| body.extend_from_slice(text.as_bytes());
        put(&mut body, r#"{"jsonrpc":"2.0","id":"#);
        put(&mut body, &id);
        put(&mut body, r#","result":{"content":[{"type":"text","text":"#);
        // It was written by us a moment ago.
        let text = std::str::from_utf8(&self.structured).unwrap_or_default();
        if serde_json::to_writer(&mut *body, text).is_err() {
            return message::answer(&Value::Null, &Value::Null);
        }
        put(&mut body, r#"}],"structuredContent":"#);
        put(&mut body, text);
        put(&mut body, r#","isError":"#);
        put(&mut body, if self.failed { "true" } else { "false" });
        if era == Era::Stateless {
            put(&mut body, r#","resultType":"complete""#);
        }
        put(&mut body, "}}");
        message::sealed_answer(body)
    }
}

/// One word for a model, of those in the tools' schemas.
fn reason(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotFound => "missing",
        RefusalKind::Denied | RefusalKind::Unauthenticated => "refused",
        RefusalKind::Invalid => "invalid",
        RefusalKind::Taken => "taken",
        RefusalKind::Conflict => "conflict",
        RefusalKind::TooMany => "too_many",
        RefusalKind::Unavailable => "unavailable",
        RefusalKind::Internal => "internal",
    }
}

/// Fields as forms name them, by the names that tools have for them.
fn argument(field: &str) -> &str {
    match field {
        "path" | "owner" | "handle" => "keyPath",
        "expires_at" => "expiresAt",
        "fetch_key" => "fetchKey",
        other => other,
    }
}

//! What the gateway does otherwise than the server behind it does alone.

/// One scenario of the suite, the checks in it, and why they end otherwise.
pub struct Difference {
    pub revision: &'static str,
    pub scenario: &'static str,
    pub checks: &'static [&'static str],
    #[allow(dead_code)] // For whoever reads the list.
    pub because: &'static str,
}

/// One process serves all callers, so what it asks of "the client" cannot be attributed to one of them.
const SHARED: &str =
    "a shared server cannot ask a client: the gateway tells it that nobody can be asked";
/// Where a client takes JSON and nothing is told before the answer, the answer is JSON.
const JSON: &str = "answers are JSON where the client takes it, not streams of events";
/// Whatever a server speaks, the gateway begins with `initialize`.
const SESSION_ERA: &str =
    "the server is spoken to in the session era, which has no results that ask for more";
const NO_LISTENING: &str =
    "the gateway offers no subscriptions in the stateless era and does not say that lists change";

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

const fn legacy(
    scenario: &'static str,
    checks: &'static [&'static str],
    because: &'static str,
) -> Difference {
    Difference {
        revision: LEGACY,
        scenario,
        checks,
        because,
    }
}

const fn modern(
    scenario: &'static str,
    checks: &'static [&'static str],
    because: &'static str,
) -> Difference {
    Difference {
        revision: MODERN,
        scenario,
        checks,
        because,
    }
}

pub const DIFFERENCES: &[Difference] = &[
    legacy("tools-call-sampling", &["tools-call-sampling"], SHARED),
    legacy(
        "tools-call-elicitation",
        &["tools-call-elicitation"],
        SHARED,
    ),
    legacy(
        "elicitation-sep1034-defaults",
        &[
            "elicitation-sep1034-boolean-default",
            "elicitation-sep1034-enum-default",
            "elicitation-sep1034-general",
            "elicitation-sep1034-integer-default",
            "elicitation-sep1034-number-default",
            "elicitation-sep1034-string-default",
        ],
        SHARED,
    ),
    legacy(
        "elicitation-sep1330-enums",
        &[
            "elicitation-sep1330-general",
            "elicitation-sep1330-legacy-enumnames",
            "elicitation-sep1330-titled-multi",
            "elicitation-sep1330-titled-single",
            "elicitation-sep1330-untitled-multi",
            "elicitation-sep1330-untitled-single",
        ],
        SHARED,
    ),
    legacy(
        "server-sse-multiple-streams",
        &["server-sse-streams-functional"],
        JSON,
    ),
    legacy(
        "server-sse-polling",
        &[
            "incoming-sse-event",
            "server-sse-content-type",
            "server-sse-disconnect-resume",
            "server-sse-priming-event",
            "server-sse-retry-field",
            "stream-closed",
        ],
        JSON,
    ),
    modern(
        "input-required-result-basic-elicitation",
        &[
            "sep-2322-elicitation-complete",
            "sep-2322-elicitation-incomplete",
        ],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-basic-list-roots",
        &[
            "sep-2322-list-roots-complete",
            "sep-2322-list-roots-incomplete",
        ],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-basic-sampling",
        &["sep-2322-sampling-complete", "sep-2322-sampling-incomplete"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-capability-check",
        &["sep-2322-respect-client-capabilities"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-missing-input-response",
        &["sep-2322-missing-response-rerequests"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-multi-round",
        &[
            "sep-2322-multi-round-r1",
            "sep-2322-multi-round-r2",
            "sep-2322-multi-round-r3",
        ],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-multiple-input-requests",
        &[
            "sep-2322-multiple-inputs-complete",
            "sep-2322-multiple-inputs-incomplete",
        ],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-non-tool-request",
        &["sep-2322-non-tool-complete", "sep-2322-non-tool-incomplete"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-request-state",
        &[
            "sep-2322-request-state-complete",
            "sep-2322-request-state-incomplete",
        ],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-result-type",
        &["sep-2322-result-type-included"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-tampered-state",
        &["sep-2322-reject-tampered-state"],
        SESSION_ERA,
    ),
    modern(
        "input-required-result-validate-input",
        &[
            "sep-2322-error-on-protocol-error",
            "sep-2322-validate-input-responses",
        ],
        SESSION_ERA,
    ),
    modern(
        "server-stateless",
        &[
            "sep-2575-server-honors-notification-filter",
            "sep-2575-server-sends-prompts-list-changed-on-subscription",
            "sep-2575-server-sends-subscription-ack",
            "sep-2575-server-sends-tools-list-changed-on-subscription",
            "sep-2575-server-tags-subscription-id",
        ],
        NO_LISTENING,
    ),
];

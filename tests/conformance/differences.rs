//! What the gateway does otherwise than the server behind it does alone.

/// One scenario of the suite, the checks in it, and why they end otherwise.
pub struct Difference {
    pub revision: &'static str,
    pub scenario: &'static str,
    pub checks: &'static [&'static str],
    #[allow(dead_code)] // For whoever reads the list.
    pub because: &'static str,
}

/// Where a client takes JSON and nothing is told within a second, the answer is JSON, which the suite calls optional.
const JSON: &str = "answers are JSON where the client takes it, not streams of events";
/// A server of sessions puts its questions one by one and without names.
const ONE_BY_ONE: &str = "its questions come one by one, under numbers of the gateway's";
/// It was told at its start what its caller's clients can be asked, not with each request.
const TOLD_ONCE: &str = "it cannot know what the client of one request declared";
const NO_LISTENING: &str = "it has no subscriptions, and the gateway says so";

/// Clients of sessions.
pub const SESSIONS: &str = "2025-11-25";
/// Clients of the stateless revision.
pub const STATELESS: &str = "2026-07-28";
/// The same in front of a server that speaks the era of sessions alone.
pub const OF_SESSIONS: &str = "2026-07-28 in front of a server of sessions";

const fn differs(
    revision: &'static str,
    scenario: &'static str,
    checks: &'static [&'static str],
    because: &'static str,
) -> Difference {
    Difference {
        revision,
        scenario,
        checks,
        because,
    }
}

pub const DIFFERENCES: &[Difference] = &[
    differs(
        SESSIONS,
        "server-sse-multiple-streams",
        &["server-sse-streams-functional"],
        JSON,
    ),
    differs(
        SESSIONS,
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
    differs(
        OF_SESSIONS,
        "input-required-result-basic-elicitation",
        &[
            "sep-2322-elicitation-complete",
            "sep-2322-elicitation-incomplete",
        ],
        ONE_BY_ONE,
    ),
    differs(
        OF_SESSIONS,
        "input-required-result-multiple-input-requests",
        &[
            "sep-2322-multiple-inputs-complete",
            "sep-2322-multiple-inputs-incomplete",
        ],
        ONE_BY_ONE,
    ),
    differs(
        OF_SESSIONS,
        "input-required-result-capability-check",
        &["sep-2322-respect-client-capabilities"],
        TOLD_ONCE,
    ),
    differs(
        OF_SESSIONS,
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

//! Addresses at which programs ask for what is not there. They are told in JSON: a page to sign in on, or a refusal meant for
//! browsers, is nothing that they could read.

use axum::Router;

use super::rest::problems::{Problem, ProblemKind};
use super::web::AppState;

/// Where OAuth would be asked for: clients look there when a token is missing, and then show their own 401.
pub(super) async fn no_oauth() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "Sealport hands out no tokens by OAuth. Send one as Authorization: Bearer sp_…; the page of a deployment makes them.",
    )
}

/// Everything under an address where there is no OAuth.
pub(super) fn without_oauth() -> Router<AppState> {
    Router::new().fallback(no_oauth)
}

/// Everything under an address where only servers are.
pub(super) fn without_server() -> Router<AppState> {
    Router::new().fallback(|| async {
        Problem::new(
            ProblemKind::NotFound,
            "There is no such address: deployed servers are at /s/NAME/mcp.",
        )
    })
}

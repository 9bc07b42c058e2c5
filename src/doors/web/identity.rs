//! Who is signed in. Everything but a short list asks for it.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_login::{AuthUser, AuthnBackend};
use secrecy::SecretString;
use uuid::Uuid;

use super::{AppState, origin};
use crate::model::actors::{Actor, Caller, Origin, Presented};
use crate::model::errors::{Refusal, RefusalKind};
use crate::store::sign_in::Account;
use crate::store::{self, Db};

/// axum-login's view of the accounts.
#[derive(Clone)]
pub struct Accounts(pub Db);

/// An account in a session.
#[derive(Clone)]
pub struct SignedIn(pub Account);

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedIn({})", self.0.user.id)
    }
}

impl AuthUser for SignedIn {
    type Id = Uuid;

    fn id(&self) -> Uuid {
        self.0.user.id
    }

    // Changes with the password, so that a change ends the other sessions.
    fn session_auth_hash(&self) -> &[u8] {
        &self.0.session_stamp
    }
}

/// What the sign-in form sends.
pub struct Credentials {
    pub email: String,
    pub password: SecretString,
    /// What the browser keeps of an earlier sign-in.
    pub mark: Option<String>,
    pub origin: Origin,
}

impl AuthnBackend for Accounts {
    type User = SignedIn;
    type Credentials = Credentials;
    type Error = store::Error;

    async fn authenticate(&self, shown: Credentials) -> Result<Option<SignedIn>, store::Error> {
        let mark = shown.mark.as_deref();
        self.0
            .sign_in_with_mark(&shown.email, &shown.password, mark, &shown.origin)
            .await
            .map(|account| Some(SignedIn(account)))
    }

    async fn get_user(&self, id: &Uuid) -> Result<Option<SignedIn>, store::Error> {
        Ok(self.0.account(*id).await?.map(SignedIn))
    }
}

pub type AuthSession = axum_login::AuthSession<Accounts>;

/// What opens without a session: signing in, and what a browser needs to show that page.
fn is_open(method: &Method, path: &str) -> bool {
    let page = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/sign-in" => true,
        "/favicon.svg" | "/mark.svg" | "/robots.txt" => page,
        _ => ["/welcome/", "/invitation/", "/reset/"]
            .iter()
            .any(|link| path.starts_with(link)),
    }
}

/// Puts the caller beside the request, and turns away whoever is not signed in where that is needed.
pub async fn require(
    State(state): State<AppState>,
    auth: AuthSession,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if auth.user.is_none() && !is_open(request.method(), path) {
        if *request.method() == Method::GET && !path.starts_with("/_fn/") {
            let asked = request
                .uri()
                .path_and_query()
                .map_or("/", |asked| asked.as_str());
            return Redirect::to(&format!("/sign-in?next={}", encoded(asked))).into_response();
        }
        return (StatusCode::UNAUTHORIZED, "Sign in to go on.").into_response();
    }
    let caller = Caller {
        actor: match &auth.user {
            Some(SignedIn(account)) => Actor::User(account.user.clone()),
            None => Actor::Anonymous(Presented::Nothing),
        },
        origin: origin::of(&state.config, &request),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

pub fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A path of our own to go to after signing in; anything else leads to the secrets.
pub fn safe_next(next: &str) -> &str {
    // `//host` and `/\host` name other hosts.
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.chars().any(char::is_control)
        && !next.starts_with("/_fn/");
    if ours { next } else { "/secrets" }
}

/// A refusal as the door's answer where no page can show it.
pub fn plain(refusal: &Refusal) -> Response {
    (status_of(refusal.kind), refusal.detail.clone()).into_response()
}

pub fn status_of(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::NotFound => StatusCode::NOT_FOUND,
        RefusalKind::Denied => StatusCode::FORBIDDEN,
        RefusalKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Taken | RefusalKind::Conflict => StatusCode::CONFLICT,
        RefusalKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

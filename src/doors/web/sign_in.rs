//! Signing in and out, and the first administrator: plain forms, each answered by a redirect.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tower_sessions::Session;

use super::identity::{AuthSession, Credentials, SignedIn, encoded, plain, safe_next};
use super::{AppState, browsers};
use crate::app::wire::{FLASH_KEY, Flash};
use crate::model::actors::{Caller, Origin};
use crate::model::errors::Refusal;
use crate::model::users::Email;
use crate::store;
use crate::store::sessions::BEGUN_KEY;

#[derive(Deserialize)]
pub struct SignInForm {
    email: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

pub async fn sign_in(
    State(state): State<AppState>,
    mut auth: AuthSession,
    session: Session,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Form(form): Form<SignInForm>,
) -> Response {
    let shown = Credentials {
        email: form.email.clone(),
        password: form.password,
        mark: browsers::shown(&state.config, &headers),
        origin: caller.origin.clone(),
    };
    let refusal = match auth.authenticate(shown).await {
        Ok(Some(user)) => match sign_in_anew(&mut auth, &session, &user, &caller.origin).await {
            true => {
                let mark = browsers::mark(&state, &user.0);
                return (mark, Redirect::to(safe_next(&form.next))).into_response();
            }
            false => Refusal::internal(),
        },
        Ok(None) => Refusal::internal(),
        Err(axum_login::Error::Backend(error)) => error.into_refusal(),
        Err(_) => Refusal::internal(),
    };
    let to = format!("/sign-in?next={}", encoded(&form.next));
    back(&state, &caller, &session, &to, refusal, &form.email).await
}

/// Signs in under a new session id, so that one which somebody planted is worth nothing. axum-login renews it only when
/// nobody was signed in, and whoever plants one may sign it in first.
pub(super) async fn sign_in_anew(
    auth: &mut AuthSession,
    session: &Session,
    user: &SignedIn,
    origin: &Origin,
) -> bool {
    let begun = Begun {
        address: origin.address,
        agent: origin.agent.clone(),
    };
    session.cycle_id().await.is_ok()
        && session.insert(BEGUN_KEY, begun).await.is_ok()
        && auth.login(user).await.is_ok()
}

/// From where a session was begun, for whoever looks at their sessions.
#[derive(Serialize)]
struct Begun {
    address: Option<IpAddr>,
    agent: Option<String>,
}

pub async fn sign_out(
    State(state): State<AppState>,
    mut auth: AuthSession,
    Extension(caller): Extension<Caller>,
) -> Response {
    if let Err(error) = state.db.signed_out(&caller).await {
        return plain(&error.into_refusal());
    }
    match auth.logout().await {
        Ok(_) => Redirect::to("/sign-in").into_response(),
        Err(_) => plain(&Refusal::internal()),
    }
}

#[derive(Deserialize)]
pub struct WelcomeForm {
    email: String,
    password: SecretString,
}

/// The form is sent to the address of its own page. Burns the one-time link and signs the first administrator in.
pub async fn welcome(
    State(state): State<AppState>,
    mut auth: AuthSession,
    session: Session,
    Extension(caller): Extension<Caller>,
    Path(link): Path<SecretString>,
    Form(form): Form<WelcomeForm>,
) -> Response {
    let made: Result<_, store::Error> = async {
        let email = Email::parse(&form.email)?;
        let user = state
            .db
            .first_administrator(&link, &email, &form.password, &caller.origin)
            .await?;
        state.db.account(user.id).await
    }
    .await;
    match made {
        Ok(Some(account))
            if sign_in_anew(
                &mut auth,
                &session,
                &SignedIn(account.clone()),
                &caller.origin,
            )
            .await =>
        {
            let mark = browsers::mark(&state, &account);
            (mark, Redirect::to("/secrets")).into_response()
        }
        // The account is made; only the session is not.
        Ok(_) => Redirect::to("/sign-in").into_response(),
        Err(error) => {
            // Back to the address that the form was sent to, without naming it: it holds the link.
            let refusal = error.into_refusal();
            back(&state, &caller, &session, "?again", refusal, &form.email).await
        }
    }
}

#[derive(Deserialize)]
pub struct PasswordForm {
    current: SecretString,
    new: SecretString,
}

/// Changes one's own password: every other session ends, this one goes on under a new id.
pub async fn change_password(
    State(state): State<AppState>,
    mut auth: AuthSession,
    session: Session,
    Extension(caller): Extension<Caller>,
    Form(form): Form<PasswordForm>,
) -> Response {
    // All sessions end, this one too: signing in again below gives it a new id.
    let changed = state
        .db
        .password_change(&caller, &form.current, &form.new, None)
        .await;
    let mut flash = Flash::default();
    // Those of the old password are worth nothing any more.
    let mut mark = browsers::Mark::default();
    match changed {
        // The session is bound to the old password's stamp; signing in again binds it to the new one.
        Ok(account)
            if sign_in_anew(
                &mut auth,
                &session,
                &SignedIn(account.clone()),
                &caller.origin,
            )
            .await =>
        {
            mark = browsers::mark(&state, &account);
            flash.notice = Some("Your password is changed. Your other sessions have ended.".into());
        }
        Ok(_) => return Redirect::to("/sign-in").into_response(),
        Err(error) => {
            flash.form = "password".into();
            flash.refuse(error.into_refusal(), caller.origin.request_id.as_deref());
        }
    }
    match session.insert(FLASH_KEY, flash).await {
        Ok(()) => (mark, Redirect::to("/settings")).into_response(),
        Err(_) => plain(&Refusal::internal()),
    }
}

/// Back to the form: what is wrong at its field, the e-mail as typed, never the password. Whoever has begun too many sessions
/// gets the sentence alone.
pub(super) async fn back(
    state: &AppState,
    caller: &Caller,
    session: &Session,
    to: &str,
    refusal: Refusal,
    email: &str,
) -> Response {
    if session.id().is_none() && !state.db.may_begin_anonymous_session(&caller.origin) {
        return plain(&refusal);
    }
    let mut flash = Flash::default();
    flash.refuse(refusal.clone(), caller.origin.request_id.as_deref());
    flash
        .typed
        .insert("email".into(), email.chars().take(254).collect());
    match session.insert(FLASH_KEY, flash).await {
        Ok(()) => Redirect::to(to).into_response(),
        Err(_) => plain(&refusal),
    }
}

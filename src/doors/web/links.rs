//! One-time links that an administrator made, and the password asked for again: plain forms, each answered by a redirect.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use secrecy::SecretString;
use serde::Deserialize;
use tower_sessions::Session;

use super::identity::{AuthSession, SignedIn, encoded, plain, safe_next};
use super::sign_in::{back, sign_in_anew};
use super::{AppState, browsers};
use crate::app::wire::{FLASH_KEY, Flash, WAITING_KEY};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::store;

#[derive(Deserialize)]
pub struct NewPasswordForm {
    password: SecretString,
}

/// Burns the invitation, makes the account and signs it in.
pub async fn accept(
    State(state): State<AppState>,
    auth: AuthSession,
    session: Session,
    Extension(caller): Extension<Caller>,
    Path(link): Path<SecretString>,
    Form(form): Form<NewPasswordForm>,
) -> Response {
    let made: Result<_, store::Error> = async {
        let user = state
            .db
            .invitation_accept(&link, &form.password, &caller.origin)
            .await?;
        state.db.account(user.id).await
    }
    .await;
    signed_in(&state, auth, session, &caller, made).await
}

/// Burns the reset link, sets the password, ends the person's sessions and begins a new one.
pub async fn reset(
    State(state): State<AppState>,
    auth: AuthSession,
    session: Session,
    Extension(caller): Extension<Caller>,
    Path(link): Path<SecretString>,
    Form(form): Form<NewPasswordForm>,
) -> Response {
    let made = state
        .db
        .reset_use(&link, &form.password, &caller.origin)
        .await;
    signed_in(&state, auth, session, &caller, made.map(Some)).await
}

async fn signed_in(
    state: &AppState,
    mut auth: AuthSession,
    session: Session,
    caller: &Caller,
    made: Result<Option<store::sign_in::Account>, store::Error>,
) -> Response {
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
            let mark = browsers::mark(state, &account);
            (mark, Redirect::to("/secrets")).into_response()
        }
        // The password is set; only the session is not.
        Ok(_) => Redirect::to("/sign-in").into_response(),
        // Back to the address that the form was sent to, without naming it: it holds the link.
        Err(error) => back(state, caller, &session, "?again", error.into_refusal(), "").await,
    }
}

#[derive(Deserialize)]
pub struct ConfirmForm {
    password: SecretString,
    #[serde(default)]
    next: String,
}

/// Takes the password again and leads back to the form that asked for it, with what was typed there.
pub async fn confirm(
    State(state): State<AppState>,
    session: Session,
    Extension(caller): Extension<Caller>,
    Form(form): Form<ConfirmForm>,
) -> Response {
    let next = safe_next(&form.next).to_owned();
    let confirmed = match session.id() {
        Some(id) => state.db.confirm(&caller, &id, &form.password).await,
        None => Err(Refusal::internal().into()),
    };
    let (to, flash) = match confirmed {
        Ok(()) => {
            let waiting = session.remove::<Flash>(WAITING_KEY).await;
            let mut flash = waiting.ok().flatten().unwrap_or_default();
            flash.notes.push(
                "Thank you. Nothing has been done yet: press the button once more.".to_owned(),
            );
            (next, flash)
        }
        Err(error) => {
            let mut flash = Flash {
                form: "confirm".to_owned(),
                ..Flash::default()
            };
            flash.refuse(error.into_refusal(), caller.origin.request_id.as_deref());
            (format!("/confirm?next={}", encoded(&next)), flash)
        }
    };
    match session.insert(FLASH_KEY, flash).await {
        Ok(()) => Redirect::to(&to).into_response(),
        Err(_) => plain(&Refusal::internal()),
    }
}

//! What server functions share: who calls, what goes wrong, and what a page says after a form was sent.

use std::collections::BTreeMap;

use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use server_fn::codec::JsonEncoding;
use server_fn::error::{FromServerFnError, ServerFnErrorErr};

use crate::model::errors::{Refusal, RefusalKind};

impl FromServerFnError for Refusal {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(error: ServerFnErrorErr) -> Self {
        match error {
            ServerFnErrorErr::Args(_)
            | ServerFnErrorErr::MissingArg(_)
            | ServerFnErrorErr::Deserialization(_) => Refusal::new(
                RefusalKind::Invalid,
                "The form could not be read. Reload the page and try again.",
            ),
            _ => Refusal::internal(),
        }
    }
}

/// What the next page says: kept in the session, shown once. Holds no value: `typed` is filled by name, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    /// Which form it belongs to.
    pub form: String,
    pub notice: Option<String>,
    /// Field name → what is wrong and what to do; the empty name for the form as a whole.
    pub errors: BTreeMap<String, String>,
    /// What was typed, but for values and passwords.
    pub typed: BTreeMap<String, String>,
    /// Under which the log has the cause, where the failure is ours.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl Flash {
    /// Puts a refusal at its field. `request_id` is that of the request that was refused: the next page has another.
    pub fn refuse(&mut self, refusal: Refusal, request_id: Option<&str>) {
        if refusal.kind == RefusalKind::Internal {
            self.request_id = request_id.map(str::to_owned);
        }
        self.errors
            .insert(refusal.field.unwrap_or_default(), refusal.detail);
    }

    pub fn error(&self, field: &str) -> Option<String> {
        self.errors.get(field).cloned()
    }

    pub fn typed(&self, field: &str) -> String {
        self.typed.get(field).cloned().unwrap_or_default()
    }
}

/// A value or password on its way in. It comes from a form's own POST; nothing of ours ever writes one, so it
/// cannot be serialised and does not print.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Typed(
    // Read on the server alone.
    #[cfg_attr(not(feature = "ssr"), allow(dead_code))] String,
);

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(…)")
    }
}

impl Serialize for Typed {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a typed value is never sent on"))
    }
}

/// Where in the session the flash waits.
pub const FLASH_KEY: &str = "flash";

/// Where in the session waits what was typed into a form whose button asked for the password first.
pub const WAITING_KEY: &str = "waiting";

#[cfg(feature = "ssr")]
mod server {
    use axum::Extension;
    use axum::http::request::Parts;
    use axum::http::{HeaderMap, StatusCode, header};
    use secrecy::SecretString;
    use tower_sessions::Session;
    use zeroize::Zeroize;

    use super::*;
    use crate::model::actors::Caller;

    /// Who calls: a signed-in user. Errors: `Unauthenticated`.
    pub async fn caller() -> Result<Caller, Refusal> {
        let Extension(caller) = leptos_axum::extract::<Extension<Caller>>()
            .await
            .map_err(|_| Refusal::internal())?;
        if caller.user().is_none() {
            return Err(Refusal::new(
                RefusalKind::Unauthenticated,
                "Sign in to go on.",
            ));
        }
        Ok(caller)
    }

    /// Who calls, for what gives power away: a signed-in user who typed the password within the last ten minutes. Anybody else is led to
    /// type it, then back to the page that the form stands on. Errors: `Unauthenticated`.
    pub async fn confirmed() -> Result<Caller, Refusal> {
        confirmed_with("", &[]).await
    }

    /// As [`confirmed`]; keeps what was typed into this form (never a value) until the person is back.
    pub async fn confirmed_with(form: &str, typed: &[(&str, &str)]) -> Result<Caller, Refusal> {
        let caller = caller().await?;
        let session = session().await?;
        let db = expect_context::<crate::store::Db>();
        let id = session.id().ok_or_else(Refusal::internal)?;
        if db
            .is_confirmed(&caller, &id)
            .await
            .map_err(crate::store::Error::into_refusal)?
        {
            return Ok(caller);
        }
        let mut waiting = Flash {
            form: form.to_owned(),
            ..Flash::default()
        };
        for (field, text) in typed {
            waiting
                .typed
                .insert((*field).to_owned(), (*text).chars().take(4_000).collect());
        }
        session
            .insert(WAITING_KEY, waiting)
            .await
            .map_err(|_| Refusal::internal())?;
        let next: String = url::form_urlencoded::byte_serialize(form_page().as_bytes()).collect();
        leptos_axum::redirect(&format!("/confirm?next={next}"));
        Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "Type your password again first.",
        ))
    }

    /// The page that the form stands on. Of the referrer only path and query are taken: it leads nowhere but to ourselves.
    fn form_page() -> String {
        let referrer = use_context::<Parts>()
            .and_then(|parts| {
                let referrer = parts.headers.get(header::REFERER)?.to_str().ok()?;
                url::Url::parse(referrer).ok()
            })
            .filter(|page| !page.path().starts_with("/confirm"));
        match referrer {
            Some(page) => match page.query() {
                Some(query) => format!("{}?{query}", page.path()),
                None => page.path().to_owned(),
            },
            None => "/secrets".to_owned(),
        }
    }

    impl Drop for Typed {
        fn drop(&mut self) {
            self.0.zeroize();
        }
    }

    impl From<String> for Typed {
        fn from(typed: String) -> Self {
            Typed(typed)
        }
    }

    impl Typed {
        pub fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        /// The value as it is sealed: forms send CRLF at line ends, which nobody typed.
        pub fn into_value(self) -> SecretString {
            let mut value = String::with_capacity(self.0.len());
            for (index, piece) in self.0.split("\r\n").enumerate() {
                if index > 0 {
                    value.push('\n');
                }
                value.push_str(piece);
            }
            SecretString::from(value)
        }
    }

    /// The page's own status. Never in a form's server function: it would overwrite the redirect.
    pub fn answer_with(kind: RefusalKind) {
        let status = match kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Denied | RefusalKind::Unauthenticated => StatusCode::FORBIDDEN,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Taken | RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if let Some(response) = use_context::<leptos_axum::ResponseOptions>() {
            response.set_status(status);
        }
    }

    /// What this browser asked for.
    pub fn preferences() -> Preferences {
        let cookies = use_context::<Parts>().map(|parts| parts.headers);
        let is = |name: &str, value: &str| {
            cookies
                .as_ref()
                .is_some_and(|headers| has_cookie(headers, name, value))
        };
        Preferences {
            theme: ["light", "dark"]
                .into_iter()
                .find(|theme| is("theme", theme)),
            keys: !is("keys", "off"),
        }
    }

    fn has_cookie(headers: &HeaderMap, name: &str, value: &str) -> bool {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(n, v)| n == name && v == value)
    }

    pub async fn session() -> Result<Session, Refusal> {
        leptos_axum::extract::<Session>()
            .await
            .map_err(|_| Refusal::internal())
    }

    /// Leaves a word for the next page and goes there.
    pub async fn go(to: &str, flash: Flash) -> Result<(), Refusal> {
        session()
            .await?
            .insert(FLASH_KEY, flash)
            .await
            .map_err(|_| Refusal::internal())?;
        leptos_axum::redirect(to);
        Ok(())
    }

    /// Goes on with a notice.
    pub async fn done(to: &str, notice: impl Into<String>) -> Result<(), Refusal> {
        go(
            to,
            Flash {
                notice: Some(notice.into()),
                ..Flash::default()
            },
        )
        .await
    }

    /// Goes back to the form with the refusal at its field and what was typed (never a value) in its place.
    pub async fn back(
        to: &str,
        form: &str,
        refusal: Refusal,
        typed: &[(&str, &str)],
    ) -> Result<(), Refusal> {
        let mut flash = Flash {
            form: form.to_owned(),
            ..Flash::default()
        };
        let caller = caller().await.ok();
        let request_id = caller.and_then(|caller| caller.origin.request_id);
        flash.refuse(refusal, request_id.as_deref());
        for (field, text) in typed {
            flash
                .typed
                .insert((*field).to_owned(), (*text).chars().take(4_000).collect());
        }
        go(to, flash).await
    }
}
#[cfg(feature = "ssr")]
pub use server::{
    answer_with, back, caller, confirmed, confirmed_with, done, go, preferences, session,
};

#[cfg(not(feature = "ssr"))]
mod browser {
    use super::*;

    // Pages are made on the server alone; these stand in so that the browser side compiles.
    pub fn answer_with(_: RefusalKind) {}

    pub fn preferences() -> Preferences {
        Preferences::default()
    }
}
#[cfg(not(feature = "ssr"))]
pub use browser::{answer_with, preferences};

/// What a browser's cookies ask for; not worth a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `light` or `dark`; none follows the system.
    pub theme: Option<&'static str>,
    /// Whether single keys do something (WCAG 2.1.4 asks for a way to turn them off).
    pub keys: bool,
}

/// The word left for this page, once.
#[server(prefix = "/_fn", endpoint = "flash_take")]
pub async fn flash_take() -> Result<Flash, Refusal> {
    let session = session().await?;
    Ok(session
        .remove::<Flash>(FLASH_KEY)
        .await
        .ok()
        .flatten()
        .unwrap_or_default())
}

/// What every page inside the frame needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub email: String,
    pub handle: String,
    pub is_admin: bool,
    /// What the last form left to say.
    pub flash: Flash,
    /// Under which the log has this request.
    pub request_id: Option<String>,
    /// Whether single keys do something.
    pub keys: bool,
}

impl Opened {
    /// The flash, if it belongs to this form; an empty one otherwise.
    pub fn flash_of(&self, form: &str) -> Flash {
        if self.flash.form == form {
            self.flash.clone()
        } else {
            Flash::default()
        }
    }
}

/// Who is signed in, and the word left for this page, once.
#[server(prefix = "/_fn", endpoint = "page_open")]
pub async fn page_open() -> Result<Opened, Refusal> {
    let caller = caller().await?;
    let user = caller.user().ok_or_else(Refusal::internal)?;
    Ok(Opened {
        email: user.email.clone(),
        handle: user.handle.clone(),
        is_admin: user.is_admin,
        flash: flash_take().await?,
        request_id: caller.origin.request_id.clone(),
        keys: preferences().keys,
    })
}

//! The form that takes a file of variables. It comes in several parts, as files do without JavaScript.

use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use bytes::Bytes;
use serde::Deserialize;
use tower_sessions::Session;

use super::AppState;
use super::identity::plain;
use crate::app::secret_import::FILE_FORM;
use crate::app::wire::{FLASH_KEY, Flash};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::imports::Folder;
use crate::model::paths::PATH_LEN_BYTES;
use crate::store;

const PAGE: &str = "/secrets/import";

/// Keeps the file for its person to decide on, and leads to the page that shows what it would do.
pub async fn import(
    State(state): State<AppState>,
    session: Session,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let sent = match Sent::read(request).await {
        Ok(sent) => sent,
        Err(refusal) => return plain(&refusal),
    };
    let kept: Result<(), store::Error> = async {
        let under = Folder::parse(&sent.under)?;
        state.db.import_keep(&caller, &under, sent.file()?).await?;
        Ok(())
    }
    .await;
    let Err(error) = kept else {
        return Redirect::to(PAGE).into_response();
    };
    let mut refusal = error.into_refusal();
    // It is said where the person put it.
    if refusal.field.as_deref() == Some("file") && sent.file.is_empty() {
        refusal = refusal.at("text");
    }
    let under = sent.under.chars().take(PATH_LEN_BYTES).collect();
    let mut flash = Flash {
        form: FILE_FORM.to_owned(),
        typed: [("under".to_owned(), under)].into(),
        ..Flash::default()
    };
    flash.refuse(refusal, caller.origin.request_id.as_deref());
    match session.insert(FLASH_KEY, flash).await {
        Ok(()) => Redirect::to(PAGE).into_response(),
        Err(_) => plain(&Refusal::internal()),
    }
}

/// What the form holds. Its parts can be values: it does not print.
#[derive(Default)]
struct Sent {
    under: String,
    text: Bytes,
    file: Bytes,
}

impl Sent {
    /// The body has its limit already, in `bodies`. Errors: `Invalid`.
    async fn read(request: Request) -> Result<Sent, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let in_parts = kind
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("multipart/form-data"));
        let sent = if in_parts {
            Sent::from_parts(request).await
        } else {
            Sent::from_fields(request).await
        };
        sent.ok_or_else(|| {
            Refusal::invalid(
                "file",
                "The form could not be read. Reload the page and try again.",
            )
        })
    }

    async fn from_parts(request: Request) -> Option<Sent> {
        let mut parts = Multipart::from_request(request, &()).await.ok()?;
        let mut sent = Sent::default();
        while let Some(part) = parts.next_field().await.ok()? {
            match part.name() {
                Some("under") => sent.under = part.text().await.ok()?,
                Some("text") => sent.text = part.bytes().await.ok()?,
                Some("file") => sent.file = part.bytes().await.ok()?,
                _ => {}
            }
        }
        Some(sent)
    }

    async fn from_fields(request: Request) -> Option<Sent> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            under: String,
            #[serde(default)]
            text: String,
        }
        let Form(fields) = Form::<Fields>::from_request(request, &()).await.ok()?;
        Some(Sent {
            under: fields.under,
            text: fields.text.into(),
            file: Bytes::new(),
        })
    }

    /// The one that was given. Errors: `Invalid` at `file` for none and for both.
    fn file(&self) -> Result<&[u8], Refusal> {
        match (self.text.is_empty(), self.file.is_empty()) {
            (false, true) => Ok(&self.text),
            (true, false) => Ok(&self.file),
            (true, true) => Err(Refusal::invalid(
                "file",
                "Paste the variables, or choose a file.",
            )),
            (false, false) => Err(Refusal::invalid(
                "file",
                "Paste the variables or choose a file, not both.",
            )),
        }
    }
}

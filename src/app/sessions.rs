//! Where one is signed in, and its end.

use leptos::prelude::*;
use uuid::Uuid;

use super::activity::program;
use super::frame::Section;
use super::times::When;
use crate::model::errors::Refusal;
use crate::model::users::OpenSession;

#[server(prefix = "/_fn", endpoint = "sessions_list")]
pub async fn sessions_list() -> Result<Vec<OpenSession>, Refusal> {
    use super::wire::{caller, session};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let here = session().await?.id().ok_or_else(Refusal::internal)?;
    db.sessions_list(&caller, &here)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "session_end")]
pub async fn session_end(id: Uuid) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.session_end(&caller, id).await {
        Ok(()) => done("/settings#sessions", "That session has ended.").await,
        Err(error) => back("/settings", "sessions", error.into_refusal(), &[]).await,
    }
}

#[server(prefix = "/_fn", endpoint = "sessions_end_others")]
pub async fn sessions_end_others() -> Result<(), Refusal> {
    use super::wire::{back, caller, done, session};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let here = session().await?.id().ok_or_else(Refusal::internal)?;
    match db.sessions_end_others(&caller, &here).await {
        Ok(()) => done("/settings#sessions", "Your other sessions have ended.").await,
        Err(error) => back("/settings", "sessions", error.into_refusal(), &[]).await,
    }
}

#[component]
pub fn OpenSessions(sessions: Vec<OpenSession>) -> impl IntoView {
    let others = sessions.len() > 1;
    view! {
        <Section title="Where you are signed in" id="sessions">
            <ul class="flex flex-col divide-y divide-base-300">
                {sessions.into_iter().map(|session| view! { <Row session /> }).collect_view()}
            </ul>
            {others
                .then(|| {
                    view! {
                        <form method="post" action="/_fn/sessions_end_others">
                            <button class="btn">"End all others"</button>
                        </form>
                    }
                })}
            <p class="text-sm text-dim">
                "A session ends by itself after 14 days without use. Programs use tokens instead: "
                <a class="link" href="/tokens">"see and revoke yours"</a> "."
            </p>
        </Section>
    }
}

#[component]
fn Row(session: OpenSession) -> impl IntoView {
    let agent = session.agent.as_deref().map(program);
    let name = agent.unwrap_or_else(|| "An unknown program".to_owned());
    let from = session.address.map(|address| format!(" from {address}"));
    view! {
        <li class="flex flex-wrap items-center gap-x-5 gap-y-2 py-2.5">
            <div class="min-w-0 flex-1 basis-56">
                <div class="flex flex-wrap items-center gap-2">
                    <strong title=session.agent.clone()>{name.clone()}</strong>
                    {session.here.then(|| view! { <span class="badge badge-sm">"This one"</span> })}
                </div>
                <p class="text-sm text-dim">
                    "Since " <When at=session.created_at /> {from} ", last used " <When at=session.last_seen />
                </p>
            </div>
            {(!session.here)
                .then(|| {
                    view! {
                        <form method="post" action="/_fn/session_end">
                            <input type="hidden" name="id" value=session.id.to_string() />
                            <button class="btn btn-sm" aria-label=format!("End the session of {name}")>
                                "End"
                            </button>
                        </form>
                    }
                })}
        </li>
    }
}

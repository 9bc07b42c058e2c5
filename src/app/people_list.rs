//! Everybody with an account, for administrators, and what is done about one of them.

use leptos::prelude::*;
use uuid::Uuid;

use super::frame::Section;
use super::times::When;
use crate::model::errors::Refusal;
use crate::model::users::Person;

#[server(prefix = "/_fn", endpoint = "people_list")]
pub async fn people_list(#[server(default)] q: String) -> Result<Vec<Person>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.people_list(&caller, &q)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "administrator_set")]
pub async fn administrator_set(id: Uuid, #[server(default)] is: bool) -> Result<(), Refusal> {
    use super::wire::{back, confirmed, done};
    let db = expect_context::<crate::store::Db>();
    let caller = confirmed().await?;
    let notice = match is {
        true => "An administrator from now on.",
        false => {
            "No administrator any more. Invitations and reset links that they made have ended."
        }
    };
    match db.administrator_set(&caller, id, is).await {
        Ok(()) => done("/people", notice).await,
        Err(error) => back("/people", "people", error.into_refusal(), &[]).await,
    }
}

#[component]
pub fn Everyone(people: Vec<Person>, search: String, #[prop(into)] me: String) -> impl IntoView {
    let nobody = people.is_empty();
    view! {
        <Section title="Everyone" id="everyone">
            <form method="get" action="/people" role="search" class="flex flex-wrap gap-2">
                <input
                    type="search"
                    name="q"
                    class="input w-full max-w-xs"
                    aria-label="Search people"
                    placeholder="E-mail or handle"
                    value=search
                    data-search=""
                />
                <button class="btn">"Search"</button>
            </form>
            {nobody.then(|| view! { <p class="text-dim">"Nobody matches. " <a class="link" href="/people">"Show everyone"</a></p> })}
            <ul class="flex flex-col divide-y divide-base-300">
                {people
                    .into_iter()
                    .map(|person| {
                        let is_me = person.email == me;
                        view! { <Row person is_me /> }
                    })
                    .collect_view()}
            </ul>
        </Section>
    }
}

#[component]
fn Row(person: Person, is_me: bool) -> impl IntoView {
    let ended = person.ended_at;
    view! {
        <li class="flex flex-wrap items-center gap-x-5 gap-y-2 py-2.5">
            <div class="min-w-0 flex-1 basis-64">
                <div class="flex flex-wrap items-center gap-2">
                    <strong class="break-all">{person.email.clone()}</strong>
                    <a class="link inline-flex min-h-6 items-center font-mono" href=format!("/people/{}", person.handle)>{person.handle.clone()}</a>
                    {(person.is_admin && ended.is_none())
                        .then(|| view! { <span class="badge badge-sm">"Administrator"</span> })}
                    {is_me.then(|| view! { <span class="badge badge-sm badge-soft">"You"</span> })}
                    {ended.map(|at| view! { <span class="badge badge-neutral badge-sm">"Ended " <When at /></span> })}
                </div>
                <p class="text-sm text-dim">
                    "Since " <When at=person.created_at />
                    {match person.signed_in_at {
                        Some(at) => view! { ", signed in " <When at /> }.into_any(),
                        None => ", not signed in yet".into_any(),
                    }}
                </p>
            </div>
            {ended.is_none().then(|| view! { <Acts person=person.clone() /> })}
        </li>
    }
}

#[component]
fn Acts(person: Person) -> impl IntoView {
    let is = person.is_admin;
    let (role, consequence) = match is {
        true => (
            "Take the role away",
            "They keep their account. Invitations and reset links that they made end.",
        ),
        false => (
            "Make an administrator",
            "Administrators look after accounts, and may deploy from allowed directories of this machine. They see no more of what others own.",
        ),
    };
    let id = person.id.to_string();
    view! {
        <details class="dropdown dropdown-end" name="row">
            <summary class="btn btn-sm" aria-label=format!("Change {}", person.email)>
                "Change"
            </summary>
            <div class="dropdown-content z-10 flex w-72 flex-col gap-4 rounded-box border border-base-300 bg-base-100 p-4">
                <form method="post" action="/_fn/reset_make" class="flex flex-col gap-2">
                    <p class="text-sm text-dim">
                        "For whoever forgot their password: a link with which they set a new one. It is shown to you once, and you hand it to them."
                    </p>
                    <input type="hidden" name="id" value=id.clone() />
                    <button class="btn btn-sm">"Make a reset link"</button>
                </form>
                <form method="post" action="/_fn/administrator_set" class="flex flex-col gap-2">
                    <p class="text-sm text-dim">{consequence}</p>
                    <input type="hidden" name="id" value=id />
                    <input type="hidden" name="is" value=if is { "false" } else { "true" } />
                    <button class="btn btn-sm">{role}</button>
                </form>
                <a class="btn btn-error btn-soft btn-sm" href=format!("/people/{}/end", person.handle)>
                    "End this account"
                </a>
            </div>
        </details>
    }
}

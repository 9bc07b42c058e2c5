//! The frame around every page: rail, top bar, title, and the words after a form was sent.

use std::future::Future;

use leptos::prelude::*;
use leptos_meta::Title;

use super::icons::{Icon, Mark, Sprite};
use super::islands::keys::Keys;
use super::wire::{Flash, Opened, answer_with, page_open};
use crate::model::errors::{Refusal, RefusalKind};

/// The places of the rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    Secrets,
    Deployments,
    Activity,
    Tokens,
    People,
    Settings,
}

impl Here {
    const ALL: [Here; 6] = [
        Here::Secrets,
        Here::Deployments,
        Here::Activity,
        Here::Tokens,
        Here::People,
        Here::Settings,
    ];

    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Here::Secrets => ("/secrets", "Secrets", "lock"),
            Here::Deployments => ("/deployments", "Deployments", "ship"),
            Here::Activity => ("/activity", "Activity", "activity"),
            Here::Tokens => ("/tokens", "Tokens", "token"),
            Here::People => ("/people", "People", "people"),
            Here::Settings => ("/settings", "Settings", "settings"),
        }
    }
}

/// A page that is loaded before it is shown: `load` ends in a [`Page`] or in what went wrong.
pub fn page<V: IntoView + 'static>(
    here: Here,
    load: impl Future<Output = Result<V, Refusal>> + Send + 'static,
) -> impl IntoView {
    Suspend::new(async move {
        match load.await {
            Ok(view) => view.into_any(),
            Err(refusal) => failure(here, refusal).await.into_any(),
        }
    })
}

/// What went wrong, inside the frame: what, why as far as known, the next step.
async fn failure(here: Here, refusal: Refusal) -> impl IntoView {
    answer_with(refusal.kind);
    let opened = page_open().await.unwrap_or_default();
    let (href, label, _) = here.parts();
    let title = match refusal.kind {
        RefusalKind::NotFound => "There is nothing at this address",
        RefusalKind::Denied => "That is not yours to do",
        RefusalKind::TooMany => "That was too often",
        RefusalKind::Unavailable => "That is not available now",
        _ => "That did not work",
    };
    let request_id = opened.request_id.clone();
    view! {
        <Page opened here title>
            <p>{refusal.detail}</p>
            <p class="flex flex-wrap gap-2">
                <a class="btn btn-primary" href=href>
                    "Back to " {label.to_lowercase()}
                </a>
                <a class="btn" href="">
                    "Try again"
                </a>
            </p>
            <RequestId request_id />
        </Page>
    }
}

/// Under which the log has the cause; small, at the end.
#[component]
pub fn RequestId(request_id: Option<String>) -> impl IntoView {
    request_id.map(|id| {
        view! {
            <p class="text-xs text-dim">
                "Request " <code class="select-all">{id}</code>
            </p>
        }
    })
}

/// A page inside the frame. `action` is its one primary action, top right: `primary(href, label)` makes one.
#[component]
pub fn Page(
    opened: Opened,
    here: Here,
    #[prop(into)] title: String,
    /// In monospace: the title is a path or a name.
    #[prop(optional)]
    code: bool,
    /// Where the page stands: label and address, outermost first, without the page itself.
    #[prop(optional)]
    crumbs: Vec<(String, String)>,
    #[prop(optional, into)] action: ViewFn,
    children: Children,
) -> impl IntoView {
    view! {
        <Title text=title.clone() />
        <Sprite />
        <a
            href="#content"
            class="btn btn-primary sr-only focus:not-sr-only focus:fixed focus:start-2 focus:top-2 focus:z-50"
        >
            "Skip to the content"
        </a>
        <div class="lg:grid lg:grid-cols-[14rem_minmax(0,1fr)]">
            <Rail here email=opened.email.clone() keys=opened.keys />
            <main id="content" tabindex="-1" class="min-w-0 px-4 py-5 outline-none sm:px-8 lg:py-7">
                <div class="mx-auto flex w-full max-w-page flex-col gap-5">
                    <header class="flex flex-wrap items-end justify-between gap-x-6 gap-y-3">
                        <div class="min-w-0">
                            <Crumbs crumbs />
                            <h1 class=if code { "break-all font-mono" } else { "" }>{title}</h1>
                        </div>
                        {action.run()}
                    </header>
                    <Words flash=opened.flash />
                    {children()}
                </div>
            </main>
        </div>
    }
}

/// A page's one primary action. The key `n` presses it.
pub fn primary(href: String, icon: &'static str, label: &'static str) -> impl IntoView {
    view! {
        <a class="btn btn-primary" href=href data-primary="">
            <Icon name=icon />
            {label}
        </a>
    }
}

#[component]
fn Crumbs(crumbs: Vec<(String, String)>) -> impl IntoView {
    (!crumbs.is_empty()).then(|| {
        view! {
            <nav aria-label="Breadcrumb" class="text-sm text-dim">
                <ol class="flex flex-wrap items-center gap-x-1">
                    {crumbs
                        .into_iter()
                        .map(|(label, href)| {
                            view! {
                                <li class="flex items-center gap-1">
                                    <a class="inline-flex min-h-6 items-center hover:underline" href=href>
                                        {label}
                                    </a>
                                    <Icon name="right" class="size-3.5 shrink-0" />
                                </li>
                            }
                        })
                        .collect_view()}
                </ol>
            </nav>
        }
    })
}

/// What the last form left to say: a notice, or what is wrong as a whole.
#[component]
pub fn Words(flash: Flash) -> impl IntoView {
    let whole = flash.error("");
    let request_id = flash.request_id;
    let fields = flash.errors.len() - usize::from(whole.is_some());
    let summary = whole.or_else(|| {
        (fields > 0).then(|| {
            "That was not accepted, and nothing was changed. What is wrong stands at its field."
                .to_owned()
        })
    });
    view! {
        {summary
            .map(|text| {
                view! {
                    <div role="alert" class="alert alert-error alert-soft">
                        <Icon name="alert" />
                        <div>
                            <p>{text}</p>
                            <RequestId request_id />
                        </div>
                    </div>
                }
            })}
        {flash
            .notice
            .map(|text| {
                view! {
                    <div role="status" class="alert alert-success alert-soft">
                        <Icon name="check" />
                        <span>{text}</span>
                    </div>
                }
            })}
        {flash
            .notes
            .into_iter()
            .map(|text| {
                view! {
                    <div role="note" class="alert">
                        <span class="text-amber">
                            <Icon name="alert" />
                        </span>
                        <span>{text}</span>
                    </div>
                }
            })
            .collect_view()}
    }
}

/// What an empty list says: what it is for, and how to begin.
#[component]
pub fn Empty(
    icon: &'static str,
    #[prop(into)] title: String,
    #[prop(optional, into)] action: ViewFn,
    children: Children,
) -> impl IntoView {
    view! {
        <section class="flex flex-col items-start gap-3 rounded-box border border-dashed border-base-300 p-6 sm:p-10">
            <Icon name=icon class="size-7 text-primary" />
            <h2>{title}</h2>
            <div class="max-w-prose text-dim">{children()}</div>
            {action.run()}
        </section>
    }
}

/// A titled part of a page.
#[component]
pub fn Section(
    #[prop(into)] title: String,
    /// What a link to it names.
    #[prop(optional, into)]
    id: String,
    children: Children,
) -> impl IntoView {
    let heading = format!("{id}-title");
    view! {
        <section
            id=(!id.is_empty()).then_some(id.clone())
            aria-labelledby=(!id.is_empty()).then(|| heading.clone())
            class="rounded-box border border-base-300 bg-base-100"
        >
            <h2 id=(!id.is_empty()).then(|| heading.clone()) class="border-b border-base-300 px-4 py-2.5">
                {title}
            </h2>
            <div class="flex flex-col gap-3 p-4">{children()}</div>
        </section>
    }
}

/// A part of a page that opens when it is wanted: what one does seldom.
#[component]
pub fn Folding(
    #[prop(into)] title: String,
    #[prop(into)] id: String,
    icon: &'static str,
    open: bool,
    /// It destroys.
    #[prop(optional)]
    danger: bool,
    children: Children,
) -> impl IntoView {
    let tone = if danger { "text-error" } else { "" };
    view! {
        <details id=id open=open class="group rounded-box border border-base-300 bg-base-100">
            <summary class="flex cursor-pointer list-none items-center gap-2 px-4 py-2.5 font-semibold [&::-webkit-details-marker]:hidden">
                <span class=tone>
                    <Icon name=icon />
                </span>
                <h2 class=tone>{title}</h2>
                <span class="ms-auto transition-transform group-open:rotate-90">
                    <Icon name="right" />
                </span>
            </summary>
            <div class="flex flex-col gap-3 border-t border-base-300 p-4">{children()}</div>
        </details>
    }
}

#[component]
fn Rail(here: Here, email: String, keys: bool) -> impl IntoView {
    view! {
        <header class="border-b border-base-300 bg-base-200 lg:hidden">
            <details class="group">
                <summary class="flex cursor-pointer list-none items-center gap-2 px-4 py-2.5 [&::-webkit-details-marker]:hidden">
                    <Mark />
                    <span class="font-semibold">"Sealport"</span>
                    <span class="ms-auto inline-flex min-h-8 items-center gap-2 text-sm">
                        {here.parts().1}
                        <Icon name="menu" label="Menu" />
                    </span>
                </summary>
                <div class="border-t border-base-300 px-2 pb-2">
                    <Places here label="Menu" />
                    <Leave email=email.clone() />
                </div>
            </details>
        </header>
        <header class="hidden border-e border-base-300 bg-base-200 lg:block">
            <div class="sticky top-0 flex h-dvh flex-col overflow-y-auto px-3 py-5">
            <a href="/secrets" class="mb-4 flex items-center gap-2 rounded-field px-2 text-lg font-semibold">
                <Mark />
                "Sealport"
            </a>
            <Places here label="Main" />
            <div class="mt-auto flex flex-col gap-1">
                {keys.then(|| view! { <Keys /> })}
                <Leave email />
            </div>
            </div>
        </header>
    }
}

#[component]
fn Places(here: Here, label: &'static str) -> impl IntoView {
    view! {
        <nav aria-label=label>
            <ul class="flex flex-col gap-0.5 py-1">
                {Here::ALL
                    .into_iter()
                    .map(|place| {
                        let (href, label, icon) = place.parts();
                        let is_here = place == here;
                        let class = if is_here {
                            "flex items-center gap-2.5 rounded-field bg-base-300 px-2.5 py-1.5 font-medium"
                        } else {
                            "flex items-center gap-2.5 rounded-field px-2.5 py-1.5 hover:bg-base-300"
                        };
                        view! {
                            <li>
                                <a href=href class=class aria-current=is_here.then_some("page")>
                                    <Icon name=icon />
                                    {label}
                                </a>
                            </li>
                        }
                    })
                    .collect_view()}
            </ul>
        </nav>
    }
}

/// Who is signed in, and the way out.
#[component]
fn Leave(email: String) -> impl IntoView {
    view! {
        <div class="flex items-center gap-2 border-t border-base-300 px-2.5 pt-2 text-sm">
            <span class="min-w-0 flex-1 truncate text-dim" title=email.clone()>
                {email.clone()}
            </span>
            <form method="post" action="/sign-out">
                <button class="btn btn-ghost btn-sm" title="Sign out">
                    <Icon name="out" label="Sign out" />
                </button>
            </form>
        </div>
    }
}

/// What stands where nothing is.
#[component]
pub fn NotFound() -> impl IntoView {
    answer_with(RefusalKind::NotFound);
    view! {
        <Outside title="There is nothing at this address">
            <p>"It may have been renamed or deleted, or it is not yours to see."</p>
            <a class="btn btn-primary" href="/secrets">
                "To your secrets"
            </a>
        </Outside>
    }
}

/// A page outside the frame: for whoever has not signed in.
#[component]
pub fn Outside(#[prop(into)] title: String, children: Children) -> impl IntoView {
    view! {
        <Title text=title.clone() />
        <Sprite />
        <main class="flex min-h-dvh flex-col items-center bg-base-200 px-4 py-10 sm:justify-center">
            <div class="flex w-full max-w-sm flex-col gap-5">
                <div class="flex items-center gap-2.5">
                    <Mark class="size-9" />
                    <div>
                        <p class="text-lg/tight font-semibold">"Sealport"</p>
                        <p class="text-sm text-dim">"Seal your secrets, ship your servers."</p>
                    </div>
                </div>
                <section class="flex flex-col gap-4 rounded-box border border-base-300 bg-base-100 p-6">
                    <h1>{title}</h1>
                    {children()}
                </section>
            </div>
        </main>
    }
}

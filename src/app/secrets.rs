//! The list of secrets.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use time::OffsetDateTime;

use super::frame::{Empty, Here, Page, page, primary};
use super::icons::Icon;
use super::times::When;
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::secrets::{Kind, SecretSort, SecretSummary};

/// Rows of one list; a search finds what is beyond.
const LISTED: i64 = 1_000;
/// Days before its end that a secret says so.
const NEAR_DAYS: i64 = 14;

#[server(prefix = "/_fn", endpoint = "secrets_list")]
pub async fn secrets_list(
    #[server(default)] search: String,
    #[server(default)] sort: SecretSort,
) -> Result<Vec<SecretSummary>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let search: String = search.trim().chars().take(255).collect();
    db.secrets_list(&caller, &search, sort, LISTED)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// For administrators: whether nobody has said yet that the master key is backed up.
#[server(prefix = "/_fn", endpoint = "key_backup_missing")]
pub async fn key_backup_missing() -> Result<bool, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    if !caller.user().is_some_and(|user| user.is_admin) {
        return Ok(false);
    }
    let confirmed = db.key_backup_confirmed(&caller).await;
    confirmed
        .map(|confirmed| !confirmed)
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn SecretsPage() -> impl IntoView {
    let query = use_query_map().get_untracked();
    let search = query.get("q").unwrap_or_default();
    let sort = match query.get("sort").as_deref() {
        Some("changed") => SecretSort::Changed,
        Some("kind") => SecretSort::Kind,
        _ => SecretSort::Path,
    };
    page(Here::Secrets, async move {
        let opened = page_open().await?;
        let rows = secrets_list(search.clone(), sort).await?;
        let reminder = key_backup_missing().await?;
        let is_new = rows.is_empty() && search.trim().is_empty();
        Ok(view! {
            <Page
                opened
                here=Here::Secrets
                title="Secrets"
                action=|| {
                    view! {
                        <div class="flex flex-wrap gap-2">
                            <a class="btn" href="/secrets/import">"Import"</a>
                            {primary("/secrets/new", "plus", "Add secret")}
                        </div>
                    }
                }
            >
                {reminder.then(|| view! { <KeyBackupReminder /> })}
                {if is_new {
                    view! { <FirstSecret /> }.into_any()
                } else {
                    view! {
                        <Search search=search.clone() sort />
                        <List rows search sort />
                    }
                        .into_any()
                }}
            </Page>
        })
    })
}

/// Where a secret's page is. Paths and handles need no escaping: their grammar is narrower than a URL's.
pub fn address(owner: &str, path: &str) -> String {
    format!("/secrets/{owner}/{path}")
}

/// The drawing that stands for a kind.
pub fn kind_icon(kind: Kind) -> &'static str {
    match kind {
        Kind::ApiKey => "token",
        Kind::DatabaseUrl => "database",
        Kind::JwtSecret => "shield",
        Kind::Certificate => "certificate",
        Kind::Json => "braces",
        Kind::Custom => "lock",
    }
}

/// Until an administrator says that it is done.
#[component]
fn KeyBackupReminder() -> impl IntoView {
    view! {
        <section aria-label="The master key" class="alert alert-warning alert-soft">
            <Icon name="alert" />
            <p>
                "Back up the master key, apart from this machine: without it no secret opens again. "
                <a class="link" href="/settings#keys">"How, and say that it is done"</a>
            </p>
        </section>
    }
}

#[component]
fn FirstSecret() -> impl IntoView {
    view! {
        <Empty
            icon="lock"
            title="Store a key once, use it in every server"
            action=|| {
                view! {
                    <div class="flex flex-wrap gap-2">
                        <a class="btn btn-primary" href="/secrets/new">
                            <Icon name="plus" />
                            "Add the first secret"
                        </a>
                        <a class="btn" href="/secrets/import">
                            "Import a .env file"
                        </a>
                        <a class="btn" href="/deploy">
                            "Deploy a server"
                        </a>
                    </div>
                }
            }
        >
            <p>
                "A secret is an API key, a database URL or any other value that a server needs. It is sealed here, \
                 handed only to the deployments that you tick it for, and never shown again in a browser."
            </p>
        </Empty>
    }
}

#[component]
fn Search(search: String, sort: SecretSort) -> impl IntoView {
    let sent = match sort {
        SecretSort::Path => None,
        SecretSort::Changed => Some("changed"),
        SecretSort::Kind => Some("kind"),
    };
    view! {
        <form method="get" action="/secrets" role="search" class="flex max-w-md gap-2">
            {sent.map(|sort| view! { <input type="hidden" name="sort" value=sort /> })}
            <label class="input w-full">
                <Icon name="search" label="Search secrets" />
                <input type="search" name="q" value=search placeholder="Path or description" />
            </label>
            <button class="btn">"Search"</button>
        </form>
    }
}

#[component]
fn List(rows: Vec<SecretSummary>, search: String, sort: SecretSort) -> impl IntoView {
    if rows.is_empty() {
        return view! {
            <p class="text-dim">
                "Nothing matches “" {search} "”. " <a class="link" href="/secrets">"Show all secrets"</a>
            </p>
        }
        .into_any();
    }
    let count = rows.len();
    let now = OffsetDateTime::now_utc();
    let heading = move |label: &'static str, own: SecretSort, sent: &'static str| {
        let sorted = sort == own;
        view! {
            <a class="inline-flex min-h-6 items-center hover:underline" href=by(&search, sent) aria-current=sorted.then_some("true")>
                {label}
                {sorted.then_some(" ↓")}
            </a>
        }
    };
    view! {
        <table class="table text-sm [&_td]:px-3 [&_td]:py-2 [&_th]:px-3 [&_td:first-child]:ps-0 [&_td:last-child]:pe-0 [&_th:first-child]:ps-0">
            <caption class="sr-only">"Secrets"</caption>
            <thead>
                <tr>
                    <th scope="col">{heading("Path", SecretSort::Path, "path")}</th>
                    <th scope="col" class="max-sm:hidden">{heading("Kind", SecretSort::Kind, "kind")}</th>
                    <th scope="col" class="max-md:hidden">"Version"</th>
                    <th scope="col" class="max-sm:hidden">{heading("Changed", SecretSort::Changed, "changed")}</th>
                    <th scope="col" class="max-md:hidden">"Used by"</th>
                    <th scope="col"><span class="sr-only">"Actions"</span></th>
                </tr>
            </thead>
            <tbody>{rows.into_iter().map(|row| view! { <Row row now /> }).collect_view()}</tbody>
        </table>
        <p class="text-sm text-dim">
            {match count {
                1 => "1 secret".to_owned(),
                count if count as i64 == LISTED => {
                    format!("The first {LISTED} secrets. Search to find the others.")
                }
                count => format!("{count} secrets"),
            }}
        </p>
    }
    .into_any()
}

fn by(search: &str, sort: &str) -> String {
    let mut to = format!("/secrets?sort={sort}");
    if !search.is_empty() {
        to.push_str("&q=");
        to.push_str(&leptos_router::location::Url::escape(search));
    }
    to
}

#[component]
fn Row(row: SecretSummary, now: OffsetDateTime) -> impl IntoView {
    let to = address(&row.owner, row.path.as_str());
    let name = row.path.name().to_owned();
    let users: Vec<String> = row.deployments().into_iter().map(str::to_owned).collect();
    let menu = format!("Actions for {}", row.path);
    let part = |what: &str| format!("{to}?open={what}#{what}");
    // Its page mends or deletes it: the address names it by its id.
    let is_damaged = row.path.stands_for().is_some();
    let has_more = is_damaged || !row.description.is_empty() || !row.active || is_near(&row, now);
    view! {
        <tr>
            <td class="w-full max-w-0">
                <a
                    class="flex min-h-6 min-w-0 font-mono hover:underline max-sm:flex-col sm:items-baseline"
                    href=to.clone()
                >
                    <span class="truncate text-dim">{row.path.folder().to_owned()}</span>
                    <strong class="truncate">{name}</strong>
                </a>
                {has_more
                    .then(|| {
                        view! {
                            <div class="flex min-w-0 items-center gap-2 text-dim">
                                <Chips row=row.clone() now />
                                <span class="truncate">{row.description.clone()}</span>
                            </div>
                        }
                    })}
            </td>
            <td class="max-sm:hidden">
                <span title=row.kind.label()>
                    <Icon name=kind_icon(row.kind) label=row.kind.label() />
                </span>
            </td>
            <td class="max-md:hidden">
                <span class="flex items-center gap-1.5">
                    <Icon name="lock" label="Sealed," class="size-3.5 shrink-0 text-dim" />
                    "v"
                    {row.version}
                </span>
            </td>
            <td class="max-sm:hidden">
                <When at=row.changed_at />
            </td>
            <td class="whitespace-nowrap max-md:hidden" title=users.join(", ")>
                {match users.len() {
                    0 => "–".to_owned(),
                    1 => "1 deployment".to_owned(),
                    count => format!("{count} deployments"),
                }}
            </td>
            <td>
                <details class="dropdown dropdown-end" name="row">
                    <summary class="btn btn-ghost btn-sm btn-square" aria-label=menu>
                        <Icon name="more" />
                    </summary>
                    <ul class="menu dropdown-content z-10 w-40 rounded-box border border-base-300 bg-base-100 p-1">
                        <li><a href=part("replace")>"Replace"</a></li>
                        <li><a href=part("compare")>"Compare"</a></li>
                        <li><a href=part("details")>"Edit details"</a></li>
                        <li><a class="text-error" href=part("delete")>"Delete"</a></li>
                    </ul>
                </details>
            </td>
        </tr>
    }
}

/// Whether its end is past or near.
fn is_near(row: &SecretSummary, now: OffsetDateTime) -> bool {
    row.expires_at
        .is_some_and(|at| at - now < time::Duration::days(NEAR_DAYS))
}

/// What needs a look: switched off, expired or near its end.
#[component]
pub fn Chips(row: SecretSummary, now: OffsetDateTime) -> impl IntoView {
    let is_damaged = row.path.stands_for().is_some();
    let expiry = row.expires_at.and_then(|at| {
        if at <= now {
            Some(view! { <span class="badge badge-error badge-sm">"Expired"</span> }.into_any())
        } else if is_near(&row, now) {
            Some(
                view! {
                    <span class="badge badge-warning badge-sm">
                        <span>"Expires " <When at /></span>
                    </span>
                }
                .into_any(),
            )
        } else {
            None
        }
    });
    view! {
        {is_damaged.then(|| view! { <span class="badge badge-error badge-sm whitespace-nowrap">"Damaged path"</span> })}
        {(!row.active).then(|| view! { <span class="badge badge-sm whitespace-nowrap">"Switched off"</span> })}
        {expiry}
    }
}

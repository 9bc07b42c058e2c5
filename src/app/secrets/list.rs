//! Secrets as rows.

use leptos::prelude::*;
use time::OffsetDateTime;

use super::super::icons::Icon;
use super::super::times::When;
use super::filter::Asked;
use super::{address, folder_address};
use crate::model::due::DUE_DAYS;
use crate::model::levels::Level;
use crate::model::secrets::{Kind, SecretSort, SecretSummary};

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

/// What a filter let through, flat.
#[component]
pub fn List(rows: Vec<SecretSummary>, asked: Asked, most: usize) -> impl IntoView {
    if rows.is_empty() {
        let said = if asked.text.is_empty() {
            "Nothing matches. ".to_owned()
        } else {
            format!("Nothing matches “{}”. ", asked.text)
        };
        return view! {
            <p class="text-dim">
                {said} <a class="link" href="/secrets">"Show all secrets"</a>
            </p>
        }
        .into_any();
    }
    let count = rows.len();
    let folders = match (&asked.owner, &asked.under) {
        (Some(owner), under) => folder_address(owner.as_str(), under.as_ref()),
        (None, Some(under)) => format!("/secrets?under={under}"),
        (None, None) => "/secrets".to_owned(),
    };
    view! {
        <Table rows asked />
        <p class="text-sm text-dim">
            {match count {
                1 => "1 secret.".to_owned(),
                count if count == most => {
                    format!("The first {most} secrets. Narrow the list to find the others.")
                }
                count => format!("{count} secrets."),
            }}
            " " <a class="link inline-flex min-h-6 items-center" href=folders>"As folders"</a>
        </p>
    }
    .into_any()
}

/// Rows of one folder or list. Only the outermost shows its headings.
#[component]
pub fn Table(
    rows: Vec<SecretSummary>,
    #[prop(optional)] asked: Option<Asked>,
    /// Of a folder below the page's own: its name, for those who hear the page.
    #[prop(optional, into)]
    folder: String,
) -> impl IntoView {
    let now = OffsetDateTime::now_utc();
    let inner = !folder.is_empty();
    // Whose each is, where they are not all of one.
    let mixed = rows
        .first()
        .is_some_and(|first| rows.iter().any(|row| row.owner != first.owner));
    let caption = if inner {
        format!("Secrets in {folder}")
    } else {
        "Secrets".to_owned()
    };
    let heading = move |label: &'static str, sort: SecretSort| match asked.clone() {
        Some(asked) => {
            let sorted = asked.sort == Some(sort);
            view! {
                <a
                    class="inline-flex min-h-6 items-center hover:underline"
                    href=asked.by(sort)
                    aria-current=sorted.then_some("true")
                >
                    {label}
                    {sorted.then_some(match sort {
                        SecretSort::Changed => " ↓",
                        SecretSort::Path | SecretSort::Kind => " ↑",
                    })}
                </a>
            }
            .into_any()
        }
        None => label.into_any(),
    };
    view! {
        // The columns of every table of a page stand below each other.
        <table class="table table-fixed text-sm [&_td]:px-3 [&_td]:py-2 [&_th]:px-3 [&_td:first-child]:ps-0 [&_td:last-child]:pe-0 [&_th:first-child]:ps-0">
            <caption class="sr-only">{caption}</caption>
            <colgroup>
                <col />
                <col class="w-16 max-sm:hidden" />
                <col class="w-20 max-md:hidden" />
                <col class="w-32 max-sm:hidden" />
                <col class="w-36 max-md:hidden" />
                <col class="w-11" />
            </colgroup>
            <thead class=if inner { "sr-only" } else { "" }>
                <tr>
                    <th scope="col">{heading("Path", SecretSort::Path)}</th>
                    <th scope="col" class="max-sm:hidden">{heading("Kind", SecretSort::Kind)}</th>
                    <th scope="col" class="max-md:hidden">"Version"</th>
                    <th scope="col" class="max-sm:hidden">{heading("Changed", SecretSort::Changed)}</th>
                    <th scope="col" class="max-md:hidden">"Used by"</th>
                    <th scope="col"><span class="sr-only">"Actions"</span></th>
                </tr>
            </thead>
            <tbody>{rows.into_iter().map(|row| view! { <Row row now inner mixed /> }).collect_view()}</tbody>
        </table>
    }
}

/// `inner`: its folder stands above it already.
#[component]
fn Row(row: SecretSummary, now: OffsetDateTime, inner: bool, mixed: bool) -> impl IntoView {
    let level = row.level;
    let to = address(&row.owner, row.path.as_str());
    let name = row.path.name().to_owned();
    let users: Vec<String> = row.deployments().into_iter().map(str::to_owned).collect();
    let menu = format!("Actions for {}", row.path);
    let part = |what: &str| format!("{to}?open={what}#{what}");
    // Its page mends or deletes it: the address names it by its id.
    let is_damaged = row.path.stands_for().is_some();
    let tags: Vec<String> = row.tags.iter().map(|tag| format!("#{tag}")).collect();
    let has_more = is_damaged
        || !row.description.is_empty()
        || !tags.is_empty()
        || !row.active
        || is_near(&row, now);
    view! {
        <tr>
            <td>
                <a
                    class="flex min-h-6 min-w-0 font-mono hover:underline max-sm:flex-col sm:items-baseline"
                    href=to.clone()
                >
                    {mixed.then(|| view! { <span class="shrink-0 text-dim">{format!("{}:", row.owner)}</span> })}
                    {(!inner).then(|| view! { <span class="truncate text-dim">{row.path.folder().to_owned()}</span> })}
                    <strong class="truncate">{name}</strong>
                </a>
                {has_more
                    .then(|| {
                        view! {
                            <div class="flex min-w-0 items-center gap-2 text-dim">
                                <Chips row=row.clone() now />
                                <span class="truncate">{row.description.clone()}</span>
                                {(!tags.is_empty()).then(|| view! { <span class="shrink truncate font-mono">{tags.join(" ")}</span> })}
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
                        <li><a href=to.clone()>"Open"</a></li>
                        {(level >= Level::Write).then(|| view! { <li><a href=part("replace")>"Replace"</a></li> })}
                        {(level >= Level::Read).then(|| view! { <li><a href=part("compare")>"Compare"</a></li> })}
                        {(level >= Level::Write).then(|| view! { <li><a href=part("details")>"Edit details"</a></li> })}
                        {(level == Level::Admin)
                            .then(|| {
                                view! {
                                    <li><a class="text-error" href=part("delete")>"Delete"</a></li>
                                }
                            })}
                    </ul>
                </details>
            </td>
        </tr>
    }
}

/// Whether its end is past or near.
fn is_near(row: &SecretSummary, now: OffsetDateTime) -> bool {
    row.expires_at
        .is_some_and(|at| at - now < time::Duration::days(DUE_DAYS))
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

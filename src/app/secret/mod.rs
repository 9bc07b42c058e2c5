//! A secret's page: all but the value, and what can be done with it.

pub mod compare;
pub mod delete;
pub mod details;
#[cfg(feature = "ssr")]
mod place;
pub mod replace;
pub mod rotation;
mod standing;
pub mod used_by;
pub mod versions;

use leptos::prelude::*;
use leptos_router::hooks::{use_params_map, use_query_map};
use time::OffsetDateTime;
use uuid::Uuid;

use super::activity_parts::ActivityOf;
use super::frame::{Here, Page, page};
use super::icons::Icon;
use super::secret_runs::RunsNow;
use super::secrets::list::{Chips, kind_icon};
use super::secrets::{address, way_to};
use super::times::{When, day};
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::Folder;
use crate::model::secrets::{Rotation, SecretDetail, SecretSummary, TOO_SHORT};
use compare::Compare;
use delete::Delete;
use details::Details;
#[cfg(feature = "ssr")]
pub use place::{again, own};
#[cfg(feature = "ssr")]
use place::{bare, beside, folder_of, to_be_sure};
use replace::Replace;
use rotation::RotationForm;
use standing::Standing;
use used_by::UsedBy;
use versions::{DestroyVersion, Versions};

/// What is said after a value was saved.
pub const SEALED: &str = "Sealed. It cannot be shown here again. You can replace it, compare it with what you have, \
                          or tick it for a server when you deploy one.";

#[server(prefix = "/_fn", endpoint = "secret_open")]
pub async fn secret_open(handle: String, path: String) -> Result<SecretDetail, Refusal> {
    use crate::model::paths::{Handle, SecretPath};
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    // A malformed address is an address of nothing.
    let nothing = |_| Refusal::not_found("secret");
    let handle = Handle::parse(&handle).map_err(nothing)?;
    let path = SecretPath::parse(&path).map_err(nothing)?;
    db.secret_show(&caller, &handle, &path)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn SecretPage() -> impl IntoView {
    let params = use_params_map().get_untracked();
    let handle = params.get("handle").unwrap_or_default();
    let path = params.get("path").unwrap_or_default();
    let query = use_query_map().get_untracked();
    let asked = query.get("open").unwrap_or_default();
    let follows = query.get("follow").is_some();
    let version = query
        .get("version")
        .filter(|_| asked == "destroy-version")
        .unwrap_or_default();
    page(Here::Secrets, async move {
        let secret = secret_open(handle, path).await?;
        let opened = page_open().await?;
        let open = if opened.flash.form.is_empty() {
            asked
        } else {
            opened.flash.form.clone()
        };
        let words = opened.clone();
        let flash = move |form: &str| words.flash_of(form);
        let SecretDetail {
            summary,
            versions,
            runs,
            runs_hidden,
            rotation,
            lost_by,
        } = secret;
        let now = OffsetDateTime::now_utc();
        let form = FormOf::new(&summary);
        let level = summary.level;
        let is_mine = summary.owner == opened.handle;
        Ok(view! {
            <Page
                opened=opened.clone()
                here=Here::Secrets
                title=summary.path.name().to_owned()
                code=true
                crumbs=crumbs(&summary, &opened.handle)
                action={
                    let replace = format!("{}?open=replace#replace", address(&summary.owner, summary.path.as_str()));
                    let share = format!("/share/secret/{}", summary.id);
                    move || {
                        view! {
                            <div class="flex flex-wrap gap-2">
                                {(level == Level::Admin)
                                    .then(|| {
                                        view! {
                                            <a class="btn" href=share.clone()>
                                                <Icon name="people" />
                                                "Share"
                                            </a>
                                        }
                                    })}
                                {(level >= Level::Write)
                                    .then(|| {
                                        view! {
                                            <a class="btn btn-primary" href=replace.clone()>
                                                <Icon name="replace" />
                                                "Replace"
                                            </a>
                                        }
                                    })}
                            </div>
                        }
                    }
                }
            >
                <About secret=summary.clone() rotation=rotation.clone() now />
                <Standing secret=summary.clone() is_mine lost_by />
                <div class="grid items-start gap-5 lg:grid-cols-[minmax(0,1fr)_20rem]">
                    <div class="flex min-w-0 flex-col gap-3">
                        {(level >= Level::Write)
                            .then(|| {
                                view! { <Replace form=form.clone() flash=flash("replace") secret=summary.clone() now open=open == "replace" /> }
                            })}
                        {(level >= Level::Read)
                            .then(|| {
                                view! { <Compare form=form.clone() flash=flash("compare") unusable=summary.unusable(now) open=open == "compare" /> }
                            })}
                        {(level >= Level::Write)
                            .then(|| {
                                view! {
                                    <Details form=form.clone() flash=flash("details") secret=summary.clone() open=open == "details" />
                                    <RotationForm form=form.clone() flash=flash("rotation") rotation open=open == "rotation" />
                                }
                            })}
                        {(level == Level::Admin)
                            .then(|| {
                                view! {
                                    <DestroyVersion form=form.clone() flash=flash("destroy-version") asked=version />
                                    <Move id=summary.id />
                                    <Delete form=form.clone() flash=flash("delete") secret=summary.clone() open=open == "delete" />
                                }
                            })}
                    </div>
                    <div class="flex min-w-0 flex-col gap-5">
                        <UsedBy secret=summary.clone() />
                        <RunsNow
                            runs
                            hidden=runs_hidden
                            unusable=summary.unusable(now)
                            form=form.clone()
                            follows
                        />
                        <Versions form=form.clone() versions newest=summary.version level />
                        <ActivityOf secret=summary.id />
                    </div>
                </div>
            </Page>
        })
    })
}

/// What every form of this page sends along.
#[derive(Clone)]
pub struct FormOf {
    pub id: Uuid,
    pub path: String,
    /// With its owner, so that the answer leads back here: `handle:path`.
    whole: String,
}

impl FormOf {
    fn new(secret: &SecretSummary) -> Self {
        FormOf {
            id: secret.id,
            path: secret.path.to_string(),
            whole: format!("{}:{}", secret.owner, secret.path),
        }
    }

    pub fn hidden(&self) -> impl IntoView + use<> {
        view! {
            <input type="hidden" name="id" value=self.id.to_string() />
            <input type="hidden" name="path" value=self.whole.clone() />
        }
    }
}

fn crumbs(secret: &SecretSummary, me: &str) -> Vec<(String, String)> {
    let folder = Folder::parse(secret.path.folder()).ok();
    way_to(&secret.owner, folder.as_ref(), me)
}

#[component]
fn About(secret: SecretSummary, rotation: Option<Rotation>, now: OffsetDateTime) -> impl IntoView {
    let form = FormOf::new(&secret);
    view! {
        <section class="flex flex-wrap items-center gap-x-6 gap-y-3 rounded-box border border-base-300 bg-base-100 px-4 py-3">
            <span class="flex items-center gap-2">
                <Icon name="lock" />
                "Sealed, version " {secret.version}
            </span>
            <span class="flex items-center gap-2 text-dim">
                <Icon name=kind_icon(secret.kind) />
                {secret.kind.label()}
            </span>
            <span class="flex items-center gap-2 text-dim">
                <Icon name="clock" />
                <span>"Changed " <When at=secret.changed_at /></span>
            </span>
            <TagList secret=secret.clone() />
            <Chips row=secret.clone() now />
            {secret
                .expires_at
                .map(|at| view! { <span class="text-dim">"Usable until " {day(at)}</span> })}
            {rotation
                .map(|Rotation { due_at, .. }| {
                    let (words, class) = match due_at > now {
                        true => ("New value due ", "text-dim"),
                        false => ("A new value was due ", "text-amber"),
                    };
                    view! { <span class=class>{words} <When at=due_at /></span> }
                })}
            {(secret.level >= Level::Write)
                .then(|| {
                    view! {
                        <form method="post" action="/_fn/secret_switch" class="ms-auto">
                            {form.hidden()}
                            <input type="hidden" name="on" value=if secret.active { "false" } else { "true" } />
                            <button class="btn btn-sm">
                                <Icon name="off" />
                                {if secret.active { "Switch off" } else { "Switch on" }}
                            </button>
                        </form>
                    }
                })}
            {secret
                .path
                .stands_for()
                .map(|_| {
                    view! {
                        <p class="flex w-full items-start gap-2 text-error">
                            <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                            "The path of this secret is damaged in the database, and this name stands in for it. \
                             Give it its path again under Edit details; the value and who uses it stay."
                        </p>
                    }
                })}
            {(!secret.description.is_empty())
                .then(|| view! { <p class="w-full whitespace-pre-line break-words">{secret.description.clone()}</p> })}
            {secret
                .use_only
                .then(|| {
                    view! {
                        <p class="flex w-full items-start gap-2 text-dim">
                            <Icon name="lock" class="mt-0.5 size-4 shrink-0" />
                            "Connected to a deployment, for use only: nobody reads it any more, its owner included."
                        </p>
                    }
                })}
            {(!secret.maskable)
                .then(|| {
                    view! {
                        <p class="flex w-full items-start gap-2 text-amber">
                            <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                            {format!("{TOO_SHORT} Others can guess it, too. Replace it by a longer one if you can.")}
                        </p>
                    }
                })}
        </section>
    }
}

#[component]
fn TagList(secret: SecretSummary) -> impl IntoView {
    (!secret.tags.is_empty()).then(|| {
        view! {
            <ul class="flex flex-wrap gap-1" aria-label="Tags">
                {secret
                    .tags
                    .iter()
                    .map(|tag| {
                        view! {
                            <li>
                                <a class="badge badge-sm min-h-6 font-mono hover:underline" href=format!("/secrets?tag={tag}")>
                                    {tag.to_string()}
                                </a>
                            </li>
                        }
                    })
                    .collect_view()}
            </ul>
        }
    })
}

#[component]
fn Move(id: Uuid) -> impl IntoView {
    view! {
        <a class="flex items-center gap-2 rounded-box border border-base-300 bg-base-100 px-4 py-2.5 font-semibold" href=format!("/move/secret/{id}")>
            <Icon name="people" />
            "Move to another owner"
        </a>
    }
}

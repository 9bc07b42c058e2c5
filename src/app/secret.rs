//! A secret's page: all but the value, and what can be done with it.

use leptos::prelude::*;
use leptos_router::hooks::{use_params_map, use_query_map};
use time::OffsetDateTime;
use uuid::Uuid;

use super::activity_parts::ActivityOf;
use super::fields::{SelectField, TextField};
use super::frame::{Folding, Here, Page, Section, page};
use super::icons::Icon;
use super::secret_new::kind_options;
use super::secret_runs::RunsNow;
use super::secrets::{Chips, address, kind_icon};
use super::times::{When, day};
use super::value_field::{GenerateUnseen, ValueField};
use super::wire::{Flash, Typed, page_open};
use crate::model::errors::Refusal;
use crate::model::secrets::{
    DESCRIPTION_LEN_CHARS, SecretDetail, SecretSummary, TOO_SHORT, VersionSummary,
};

/// What is said after a value was saved.
pub const SEALED: &str = "Sealed. It cannot be shown here again. You can replace it, compare it with what you have, \
                          or tick it for a server when you deploy one.";

#[server(prefix = "/_fn", endpoint = "secret_open")]
pub async fn secret_open(handle: String, path: String) -> Result<SecretDetail, Refusal> {
    use crate::model::paths::SecretPath;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let nothing = || Refusal::not_found("secret");
    // Nothing is shared yet: one sees one's own.
    if caller.user().is_none_or(|user| user.handle != handle) {
        return Err(nothing());
    }
    // A malformed address is an address of nothing.
    let path = SecretPath::parse(&path).map_err(|_| nothing())?;
    db.secret_show(&caller, &path)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "secret_replace")]
pub async fn secret_replace(
    id: Uuid,
    #[server(default)] path: String,
    /// The version that the person saw.
    expected: i32,
    #[server(default)] value: Typed,
    #[server(default)] generate: bool,
    /// The day of its end, where the form has it.
    expires: Option<String>,
) -> Result<(), Refusal> {
    use super::forms::{expiry, new_value};
    use super::wire::{caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let replaced = async {
        let value = new_value(value, generate)?;
        let end = expires.as_deref().map(expiry).transpose()?;
        db.secret_renew(&caller, id, expected, value, end).await
    };
    match replaced.await {
        Ok(version) => done(&own(&caller, &path), format!("Version {version}. {SEALED}")).await,
        Err(error) => {
            let typed = [("expires", expires.as_deref().unwrap_or_default())];
            again(&caller, &path, "replace", error.into_refusal(), &typed).await
        }
    }
}

#[server(prefix = "/_fn", endpoint = "secret_compare")]
pub async fn secret_compare(
    id: Uuid,
    #[server(default)] path: String,
    #[server(default)] value: Typed,
) -> Result<(), Refusal> {
    use super::wire::{Flash, caller, go};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let compared = async {
        if value.is_empty() {
            return Err(Refusal::invalid("value", "Type or paste what it should be.").into());
        }
        db.secret_compare(&caller, id, value.into_value()).await
    };
    let notice = match compared.await {
        Ok(true) => "The same: what you typed is the newest version, to the last character.",
        Ok(false) => "Different: what you typed is not the newest version.",
        Err(error) => return again(&caller, &path, "compare", error.into_refusal(), &[]).await,
    };
    let flash = Flash {
        notice: Some(notice.to_owned()),
        ..Flash::default()
    };
    go(&own(&caller, &path), flash).await
}

#[server(prefix = "/_fn", endpoint = "secret_edit")]
pub async fn secret_edit(
    id: Uuid,
    #[server(default)] path: String,
    /// The path as it shall be.
    #[server(default)]
    rename: String,
    #[server(default)] kind: String,
    #[server(default)] description: String,
    #[server(default)] expires: String,
) -> Result<(), Refusal> {
    use super::forms::{expiry, trimmed};
    use super::wire::{caller, done};
    use crate::model::paths::SecretPath;
    use crate::model::secrets::Kind;
    use crate::store::secrets::SecretEdit;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let rename = rename.trim().to_owned();
    let description = trimmed(&description);
    let edited = async {
        let edit = SecretEdit {
            path: Some(SecretPath::parse(&rename)?).filter(|new| new.as_str() != path),
            kind: Kind::from_name(&kind),
            description: Some(description.clone()),
            expires_at: Some(expiry(&expires)?),
            active: None,
        };
        db.secret_edit(&caller, id, edit).await
    };
    match edited.await {
        Ok(()) => done(&own(&caller, &rename), "Saved.").await,
        Err(error) => {
            let typed = [
                ("path", rename.as_str()),
                ("kind", kind.as_str()),
                ("description", description.as_str()),
                ("expires", expires.as_str()),
            ];
            again(&caller, &path, "details", error.into_refusal(), &typed).await
        }
    }
}

#[server(prefix = "/_fn", endpoint = "secret_switch")]
pub async fn secret_switch(
    id: Uuid,
    #[server(default)] path: String,
    #[server(default)] on: bool,
) -> Result<(), Refusal> {
    use super::wire::{caller, done};
    use crate::store::secrets::SecretEdit;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let edit = SecretEdit {
        active: Some(on),
        ..SecretEdit::default()
    };
    let notice = if on {
        "Switched on. Deployments can use it again."
    } else {
        "Switched off. A deployment that binds it says so at its next start."
    };
    match db.secret_edit(&caller, id, edit).await {
        Ok(()) => done(&own(&caller, &path), notice).await,
        Err(error) => again(&caller, &path, "switch", error.into_refusal(), &[]).await,
    }
}

#[server(prefix = "/_fn", endpoint = "secret_delete")]
pub async fn secret_delete(
    id: Uuid,
    #[server(default)] path: String,
    /// The path, typed again.
    #[server(default)]
    confirm: String,
) -> Result<(), Refusal> {
    use super::wire::{caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let deleted = async {
        if path.is_empty() || confirm.trim() != path {
            return Err(Refusal::invalid(
                "confirm",
                "That is not this secret's path. Nothing was deleted.",
            )
            .into());
        }
        db.secret_delete(&caller, id).await
    };
    match deleted.await {
        Ok(()) => done("/secrets", format!("Deleted {path}.")).await,
        Err(error) => {
            let typed = [("confirm", confirm.as_str())];
            again(&caller, &path, "delete", error.into_refusal(), &typed).await
        }
    }
}

/// Where the caller's own secret is shown; the list for what is no path.
#[cfg(feature = "ssr")]
fn own(caller: &crate::model::actors::Caller, path: &str) -> String {
    match (crate::model::paths::SecretPath::parse(path), caller.user()) {
        (Ok(path), Some(user)) => address(&user.handle, path.as_str()),
        _ => "/secrets".to_owned(),
    }
}

/// Back to a form of the page, opened.
#[cfg(feature = "ssr")]
async fn again(
    caller: &crate::model::actors::Caller,
    path: &str,
    form: &'static str,
    refusal: Refusal,
    typed: &[(&str, &str)],
) -> Result<(), Refusal> {
    let to = format!("{}#{form}", own(caller, path));
    super::wire::back(&to, form, refusal, typed).await
}

#[component]
pub fn SecretPage() -> impl IntoView {
    let params = use_params_map().get_untracked();
    let handle = params.get("handle").unwrap_or_default();
    let path = params.get("path").unwrap_or_default();
    let asked = use_query_map()
        .get_untracked()
        .get("open")
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
        } = secret;
        let now = OffsetDateTime::now_utc();
        let form = FormOf {
            id: summary.id,
            path: summary.path.to_string(),
        };
        Ok(view! {
            <Page
                opened=opened.clone()
                here=Here::Secrets
                title=summary.path.name().to_owned()
                code=true
                crumbs=crumbs(&summary)
                action={
                    let replace = format!("{}?open=replace#replace", address(&summary.owner, summary.path.as_str()));
                    move || {
                        view! {
                            <a class="btn btn-primary" href=replace.clone()>
                                <Icon name="replace" />
                                "Replace"
                            </a>
                        }
                    }
                }
            >
                <About secret=summary.clone() now />
                <div class="grid items-start gap-5 lg:grid-cols-[minmax(0,1fr)_20rem]">
                    <div class="flex min-w-0 flex-col gap-3">
                        <Replace form=form.clone() flash=flash("replace") secret=summary.clone() now open=open == "replace" />
                        <Compare form=form.clone() flash=flash("compare") unusable=summary.unusable(now) open=open == "compare" />
                        <Details form=form.clone() flash=flash("details") secret=summary.clone() open=open == "details" />
                        <Move id=summary.id />
                        <Delete form=form.clone() flash=flash("delete") secret=summary.clone() open=open == "delete" />
                    </div>
                    <div class="flex min-w-0 flex-col gap-5">
                        <UsedBy secret=summary.clone() />
                        <RunsNow runs />
                        <Versions versions newest=summary.version />
                        <ActivityOf secret=summary.id />
                    </div>
                </div>
            </Page>
        })
    })
}

/// What every form of this page sends along.
#[derive(Clone)]
struct FormOf {
    id: Uuid,
    path: String,
}

impl FormOf {
    fn hidden(&self) -> impl IntoView + use<> {
        view! {
            <input type="hidden" name="id" value=self.id.to_string() />
            <input type="hidden" name="path" value=self.path.clone() />
        }
    }
}

fn crumbs(secret: &SecretSummary) -> Vec<(String, String)> {
    let mut crumbs = vec![("Secrets".to_owned(), "/secrets".to_owned())];
    let mut prefix = String::new();
    for segment in secret.path.folder().split_terminator('/') {
        prefix.push_str(segment);
        prefix.push('/');
        // A segment needs no escaping; the slash may stand in a query.
        crumbs.push((segment.to_owned(), format!("/secrets?q={prefix}")));
    }
    crumbs
}

#[component]
fn About(secret: SecretSummary, now: OffsetDateTime) -> impl IntoView {
    let form = FormOf {
        id: secret.id,
        path: secret.path.to_string(),
    };
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
            <Chips row=secret.clone() now />
            {secret
                .expires_at
                .map(|at| view! { <span class="text-dim">"Usable until " {day(at)}</span> })}
            <form method="post" action="/_fn/secret_switch" class="ms-auto">
                {form.hidden()}
                <input type="hidden" name="on" value=if secret.active { "false" } else { "true" } />
                <button class="btn btn-sm">
                    <Icon name="off" />
                    {if secret.active { "Switch off" } else { "Switch on" }}
                </button>
            </form>
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
fn Replace(
    form: FormOf,
    flash: Flash,
    secret: SecretSummary,
    now: OffsetDateTime,
    open: bool,
) -> impl IntoView {
    // A new value usually has an end of its own; an old one that is past would keep it from being used.
    let end = secret.expires_at.map(|at| {
        let past = at <= now;
        let (kept, hint) = if past {
            let hint = format!(
                "It expired on {}. Empty: the new value does not expire.",
                day(at)
            );
            (String::new(), hint)
        } else {
            (
                day(at),
                "Move it with the new value, or leave it. Empty: it does not expire.".to_owned(),
            )
        };
        let value = if flash.form.is_empty() {
            kept
        } else {
            flash.typed("expires")
        };
        view! {
            <TextField
                name="expires"
                id="replace-expires"
                label="Expires on"
                kind="date"
                value
                error=flash.error("expires_at")
                hint
            />
        }
    });
    view! {
        <Folding id="replace" icon="replace" title="Replace the value" open>
            <p class="text-dim">
                "Makes version " {secret.version + 1} ". Running deployments keep the old one until they are redeployed."
            </p>
            <form method="post" action="/_fn/secret_replace" class="flex flex-col gap-4">
                {form.hidden()}
                <input type="hidden" name="expected" value=secret.version />
                <ValueField id="replace-value" label="New value" error=flash.error("value") generate=true />
                {end}
                <div class="flex flex-wrap gap-2">
                    <button class="btn btn-primary">"Seal and replace"</button>
                    <GenerateUnseen />
                </div>
            </form>
        </Folding>
    }
}

#[component]
fn Compare(
    form: FormOf,
    flash: Flash,
    unusable: Option<&'static str>,
    open: bool,
) -> impl IntoView {
    if let Some(why) = unusable {
        return view! {
            <Folding id="compare" icon="equal" title="Compare with what you have" open>
                <p>{format!("A secret that is {why} is opened for nobody, not even to compare.")}</p>
            </Folding>
        }
        .into_any();
    }
    view! {
        <Folding id="compare" icon="equal" title="Compare with what you have" open>
            <p class="text-dim">
                "Says whether a value is the stored one, without showing it. Each comparison is on record; 20 an hour are answered."
            </p>
            <form method="post" action="/_fn/secret_compare" class="flex flex-col gap-4">
                {form.hidden()}
                <ValueField
                    id="compare-value"
                    label="Value to compare"
                    error=flash.error("value")
                    hint="It is compared on the server and kept nowhere."
                />
                <div>
                    <button class="btn btn-primary">"Compare"</button>
                </div>
            </form>
        </Folding>
    }
    .into_any()
}

#[component]
fn Details(form: FormOf, flash: Flash, secret: SecretSummary, open: bool) -> impl IntoView {
    let was = !flash.form.is_empty();
    let typed = flash.clone();
    let or = move |name: &str, now: String| if was { typed.typed(name) } else { now };
    view! {
        <Folding id="details" icon="edit" title="Edit details" open>
            <form method="post" action="/_fn/secret_edit" class="flex flex-col gap-4">
                {form.hidden()}
                <TextField
                    name="rename"
                    label="Path"
                    code=true
                    required=true
                    maxlength=255
                    value=or("path", form.path.clone())
                    error=flash.error("path")
                    hint="Deployments that use it keep using it after a rename."
                />
                <div class="grid gap-4 sm:grid-cols-2">
                    <SelectField
                        name="kind"
                        label="Kind"
                        options=kind_options()
                        value=or("kind", secret.kind.as_str().to_owned())
                        error=flash.error("kind")
                    />
                    <TextField
                        name="expires"
                        label="Expires on"
                        kind="date"
                        value=or("expires", secret.expires_at.map(day).unwrap_or_default())
                        error=flash.error("expires_at")
                        hint="It is usable until this day ends in UTC."
                    />
                </div>
                <TextField
                    name="description"
                    label="Description"
                    maxlength=DESCRIPTION_LEN_CHARS
                    value=or("description", secret.description.clone())
                    error=flash.error("description")
                />
                <div>
                    <button class="btn btn-primary">"Save"</button>
                </div>
            </form>
        </Folding>
    }
}

#[component]
fn Delete(form: FormOf, flash: Flash, secret: SecretSummary, open: bool) -> impl IntoView {
    view! {
        <Folding id="delete" icon="trash" title="Delete" danger=true open>
            <p>
                {match secret.version {
                    1 => "Deletes the value.".to_owned(),
                    count => format!("Deletes the value with all {count} of its versions."),
                }}
                " It cannot be brought back. The record of who used it stays."
            </p>
            {secret.deployments().is_empty().then(|| view! { <p>"No deployment uses it."</p> })}
            {(!secret.used_by.is_empty())
                .then(|| {
                    view! {
                        <div>
                            <p>"These deployments use it. They run on until their next start, which fails and says why:"</p>
                            <Names deployments=secret.used_by.clone() />
                        </div>
                    }
                })}
            {(!secret.fetched_by.is_empty())
                .then(|| {
                    view! {
                        <div>
                            <p>
                                "These deployments fetch their code with it. What is installed goes on, and starts again. Where it has to be fetched anew, that is tried without a key, and fails for a private source:"
                            </p>
                            <Names deployments=secret.fetched_by.clone() />
                        </div>
                    }
                })}
            <form method="post" action="/_fn/secret_delete" class="flex flex-col gap-4">
                {form.hidden()}
                <TextField
                    name="confirm"
                    label=format!("Type {} to confirm", form.path)
                    code=true
                    required=true
                    value=flash.typed("confirm")
                    error=flash.error("confirm").or_else(|| flash.error(""))
                />
                <div>
                    <button class="btn btn-error">"Delete this secret"</button>
                </div>
            </form>
        </Folding>
    }
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

#[component]
fn UsedBy(secret: SecretSummary) -> impl IntoView {
    let fetched = secret.fetched_by.clone();
    view! {
        <Section title="Used by" id="used">
            {if secret.deployments().is_empty() {
                view! {
                    <p class="text-sm text-dim">
                        "No deployment yet. " <a class="link" href="/deploy">"Deploy a server"</a> " and tick it there."
                    </p>
                }
                    .into_any()
            } else {
                view! {
                    <Names deployments=secret.used_by.clone() />
                    {(!fetched.is_empty())
                        .then(|| {
                            view! {
                                <p class="text-sm text-dim">"To fetch the code of"</p>
                                <Names deployments=fetched />
                            }
                        })}
                }
                    .into_any()
            }}
        </Section>
    }
}

#[component]
fn Names(deployments: Vec<String>) -> impl IntoView {
    view! {
        <ul class="flex flex-col gap-1">
            {deployments
                .into_iter()
                .map(|name| {
                    view! {
                        <li class="flex items-center gap-2">
                            <Icon name="ship" />
                            <a class="link min-h-6 font-mono" href=format!("/deployments/{name}")>{name.clone()}</a>
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    }
}

#[component]
fn Versions(versions: Vec<VersionSummary>, newest: i32) -> impl IntoView {
    view! {
        <Section title="Versions" id="versions">
            <ol class="flex flex-col gap-2 text-sm" reversed>
                {versions
                    .into_iter()
                    .map(|version| {
                        view! {
                            <li class="flex flex-wrap items-baseline gap-x-2">
                                <strong>"Version " {version.version}</strong>
                                {(version.version == newest)
                                    .then(|| view! { <span class="badge badge-sm">"Newest"</span> })}
                                {version.generated.then(|| view! { <span class="text-dim">"generated"</span> })}
                                <span class="w-full text-dim">
                                    <When at=version.created_at /> " by " {version.created_by}
                                </span>
                            </li>
                        }
                    })
                    .collect_view()}
            </ol>
        </Section>
    }
}

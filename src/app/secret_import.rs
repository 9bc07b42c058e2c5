//! Importing a file of variables: paste or choose it, see what each line would do, decide. The values wait sealed in
//! the store meanwhile; no answer carries one.

use std::collections::{BTreeMap, BTreeSet};

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use uuid::Uuid;

use super::fields::{FieldAround, SelectField, TextField, described_by};
use super::frame::{Here, Page, page};
use super::icons::Icon;
use super::secret_new::kind_options;
use super::times::When;
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::imports::{
    FileFormat, IMPORT_LEN_BYTES, IMPORT_LINES_MAX, Import, ImportLine, LineState,
};
use crate::model::secrets::Kind;

/// The form that takes the file, as the session's words name it; `doors/web/imports.rs` reads it.
pub const FILE_FORM: &str = "import";
const DECIDE_FORM: &str = "decide";

#[server(prefix = "/_fn", endpoint = "import_open")]
pub async fn import_open() -> Result<Option<Import>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.import_waiting(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "import_apply")]
pub async fn import_apply(
    id: Uuid,
    /// By the number of their line.
    #[server(default)]
    take: BTreeMap<String, String>,
    #[server(default)] kind: String,
    /// Where the names went, to show them.
    #[server(default)]
    under: String,
) -> Result<(), Refusal> {
    use super::secrets::folder_address;
    use super::wire::{back, caller, done};
    use crate::model::imports::Destination;
    use crate::model::paths::Folder;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let lines: BTreeSet<u32> = take
        .keys()
        .filter_map(|at| at.parse().ok())
        .take(IMPORT_LINES_MAX)
        .collect();
    let of_kind = Kind::from_name(&kind).unwrap_or_default();
    match db.import_apply(&caller, id, &lines, of_kind).await {
        Ok(imported) => {
            let under = Destination::parse(&under).unwrap_or_default();
            let to = match under.as_str() {
                "" => "/secrets".to_owned(),
                folder => {
                    let own = caller.user().map_or("", |user| user.handle.as_str());
                    folder_address(own, Folder::parse(folder).ok().as_ref())
                }
            };
            done(&to, imported.sentence()).await
        }
        Err(error) => {
            let mut refusal = error.into_refusal();
            // It is about the lines together.
            refusal.field = None;
            let ticked: Vec<String> = lines.iter().map(u32::to_string).collect();
            let typed = [("take", ticked.join(" ")), ("kind", kind)];
            let typed = typed.each_ref().map(|(name, text)| (*name, text.as_str()));
            back("/secrets/import", DECIDE_FORM, refusal, &typed).await
        }
    }
}

#[server(prefix = "/_fn", endpoint = "import_drop")]
pub async fn import_drop(id: Uuid) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.import_drop(&caller, id).await {
        Ok(()) => {
            done(
                "/secrets/import",
                "Nothing was imported, and the values are gone.",
            )
            .await
        }
        Err(error) => back("/secrets/import", DECIDE_FORM, error.into_refusal(), &[]).await,
    }
}

#[component]
pub fn SecretImportPage() -> impl IntoView {
    let asked = use_query_map().get_untracked();
    let under = asked.get("under").unwrap_or_default();
    let all = asked.get("tick").as_deref() == Some("all");
    page(Here::Secrets, async move {
        let waiting = import_open().await?;
        let opened = page_open().await?;
        let flash = opened.flash.clone();
        Ok(view! {
            <Page opened here=Here::Secrets title="Import" crumbs=vec![("Secrets".to_owned(), "/secrets".to_owned())]>
                {match waiting {
                    Some(import) => view! { <Decide import flash all /> }.into_any(),
                    None => view! { <File flash under /> }.into_any(),
                }}
            </Page>
        })
    })
}

/// Paste or choose: one of the two is required. A form of several parts: that is how a file travels without JavaScript.
#[component]
fn File(flash: Flash, under: String) -> impl IntoView {
    let flash = if flash.form == FILE_FORM {
        flash
    } else {
        Flash::default()
    };
    let under = if flash.form.is_empty() {
        under
    } else {
        flash.typed("under")
    };
    let (text_error, file_error) = (flash.error("text"), flash.error("file"));
    let text_hint =
        "A .env file, or a JSON object of names and texts. Each name becomes a secret of its own.";
    let file_hint = format!(
        "Up to {} MiB and {IMPORT_LINES_MAX} variables. Nothing is stored before you have seen what it would do.",
        IMPORT_LEN_BYTES / (1024 * 1024)
    );
    let text_class = if text_error.is_some() {
        "textarea textarea-error field-sizing-content max-h-80 min-h-20 w-full break-all font-mono"
    } else {
        "textarea field-sizing-content max-h-80 min-h-20 w-full break-all font-mono"
    };
    view! {
        <form
            method="post"
            action="/secrets/import"
            enctype="multipart/form-data"
            class="flex max-w-2xl flex-col gap-5"
        >
            <TextField
                name="under"
                label="Under"
                code=true
                maxlength=255
                value=under
                error=flash.error("under")
                placeholder="project/shop/"
                hint="Where the names go, as in project/shop/. Empty: they become bare names."
            />
            <FieldAround id="text" label="Paste the variables" hint=text_hint error=text_error.clone() required=true>
                <textarea
                    class=text_class
                    id="text"
                    name="text"
                    rows="3"
                    autocomplete="off"
                    autocapitalize="off"
                    spellcheck="false"
                    aria-describedby=described_by("text", text_hint, &text_error)
                    aria-invalid=text_error.is_some().then_some("true")
                ></textarea>
            </FieldAround>
            <FieldAround id="file" label="Or choose a file" hint=file_hint.clone() error=file_error.clone() required=true>
                <input
                    class="w-full text-sm file:me-3 file:cursor-pointer file:rounded-field file:border file:border-base-300 file:bg-base-200 file:px-3 file:py-1.5"
                    type="file"
                    id="file"
                    name="file"
                    aria-describedby=described_by("file", &file_hint, &file_error)
                    aria-invalid=file_error.is_some().then_some("true")
                />
            </FieldAround>
            <div class="flex flex-wrap gap-2">
                <button class="btn btn-primary">"Look at it"</button>
                <a class="btn btn-ghost" href="/secrets">"Cancel"</a>
            </div>
        </form>
    }
}

/// What each line would do, and what the person wants of it.
#[component]
fn Decide(import: Import, flash: Flash, all: bool) -> impl IntoView {
    let flash = if flash.form == DECIDE_FORM {
        flash
    } else {
        Flash::default()
    };
    let twins = import.twins();
    let ticked = ticked(&import, &flash, all);
    let kind = match flash.typed("kind") {
        kind if kind.is_empty() => Kind::default().as_str().to_owned(),
        kind => kind,
    };
    let is_new = |line: &ImportLine| line.state == LineState::New;
    let replaces = import
        .lines
        .iter()
        .any(|line| line.can_be_taken() && !is_new(line));
    let adds = import.lines.iter().any(is_new);
    let any = adds || replaces;
    let format = import.format;
    let place = match import.under.as_str() {
        "" => "as bare names".to_owned(),
        folder => format!("under {folder}"),
    };
    let source = match format {
        FileFormat::Dotenv => "a .env file",
        FileFormat::Json => "JSON",
        FileFormat::Yaml => "YAML",
    };
    let id = import.id.to_string();
    let under = import.under.as_str().to_owned();
    let said = under.clone();
    view! {
        <p class="max-w-prose">
            {format!("From {source}, {place}: {}. ", counted(&import))}
            "Nothing is stored yet. The values wait sealed, and are forgotten "
            <When at=import.expires_at />
            "."
        </p>
        <form method="post" action="/_fn/import_apply" id="decide" class="flex flex-col gap-5">
            <input type="hidden" name="id" value=id.clone() />
            <input type="hidden" name="under" value=under />
            <table class="table text-sm max-sm:table-fixed [&_td]:px-3 [&_td]:py-2 [&_th]:px-3 [&_td:first-child]:ps-0 [&_td:last-child]:pe-0 [&_th:first-child]:ps-0">
                <caption class="sr-only">"What each line would do"</caption>
                <thead>
                    <tr>
                        <th scope="col" class="max-sm:w-12">
                            {match format {
                                FileFormat::Dotenv | FileFormat::Yaml => "Line",
                                FileFormat::Json => "Entry",
                            }}
                        </th>
                        <th scope="col">"Path"</th>
                        <th scope="col">"Would"</th>
                    </tr>
                </thead>
                <tbody>
                    {import
                        .lines
                        .into_iter()
                        .map(|line| {
                            let others = twins.get(&line.key()).cloned().unwrap_or_default();
                            let ticked = ticked.contains(&line.at);
                            view! { <Row line under=said.clone() others ticked /> }
                        })
                        .collect_view()}
                </tbody>
            </table>
            {(replaces && !all)
                .then(|| {
                    view! {
                        <p>
                            "What is stored already is replaced only where you tick it. "
                            <a class="link" href="/secrets/import?tick=all">"Tick all that differ"</a>
                        </p>
                    }
                })}
            {adds
                .then(|| {
                    view! {
                        <div class="max-w-2xl">
                            <SelectField
                                name="kind"
                                label="Kind of what is new"
                                options=kind_options()
                                value=kind
                                hint="Each can be changed on its own page later."
                            />
                        </div>
                    }
                })}
            {(!any)
                .then(|| {
                    view! { <p>"There is nothing to import in it: no line is new, and none would replace anything."</p> }
                })}
        </form>
        <div class="flex flex-wrap gap-2">
            {any
                .then(|| {
                    view! {
                        <button class="btn btn-primary" form="decide" data-primary="">
                            <Icon name="lock" />
                            "Import what is ticked"
                        </button>
                    }
                })}
            <form method="post" action="/_fn/import_drop">
                <input type="hidden" name="id" value=id />
                <button class="btn">"Start over"</button>
            </form>
        </div>
    }
}

#[component]
fn Row(
    line: ImportLine,
    /// The folder of all lines, which is said above.
    under: String,
    /// The lines of the same path, this one among them.
    others: Vec<u32>,
    ticked: bool,
) -> impl IntoView {
    let at = line.at;
    let id = format!("take-{at}");
    let would = match (&line.state, line.can_be_taken()) {
        (LineState::New, _) => view! { <span>"be added"</span> }.into_any(),
        (LineState::Different, _) => view! { <span>"replace another value"</span> }.into_any(),
        (LineState::Exists, _) => view! { <span>"replace what is stored"</span> }.into_any(),
        (LineState::Same, _) => {
            view! { <span class="text-dim">"change nothing: the same value is stored"</span> }
                .into_any()
        }
        (LineState::Invalid { reason }, _) => view! {
            <span class="flex items-start gap-1 text-error">
                <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                <span>"be left out. " {reason.clone()}</span>
            </span>
        }
        .into_any(),
    };
    let twins = (others.len() > 1 && line.can_be_taken()).then(|| {
        let numbers: Vec<String> = others
            .iter()
            .filter(|other| **other != at)
            .map(u32::to_string)
            .collect();
        let lines = if numbers.len() == 1 { "line" } else { "lines" };
        let text = format!(
            "The same path is in {lines} {} too: tick one of them.",
            numbers.join(", ")
        );
        view! { <li class="text-amber">{text}</li> }
    });
    let notes = line
        .notes
        .iter()
        .map(|note| view! { <li>{note.sentence()}</li> })
        .collect_view();
    let path = match &line.path {
        Some(path) => {
            let short = path.as_str().strip_prefix(&under).unwrap_or(path.as_str());
            view! { <strong class="min-w-0 break-all font-mono">{short.to_owned()}</strong> }
                .into_any()
        }
        None => view! { <span class="text-dim">"No name"</span> }.into_any(),
    };
    let has_notes = !line.notes.is_empty() || twins.is_some();
    view! {
        <tr>
            <td class="align-top text-dim">{at}</td>
            <td class="align-top">
                {if line.can_be_taken() {
                    view! {
                        <label class="flex min-w-0 items-center gap-2" for=id.clone()>
                            <input
                                class="checkbox shrink-0"
                                type="checkbox"
                                id=id.clone()
                                name=format!("take[{at}]")
                                value="on"
                                checked=ticked
                            />
                            {path}
                            <span class="sr-only">{format!(", line {at}")}</span>
                        </label>
                    }
                        .into_any()
                } else {
                    path
                }}
            </td>
            <td class="align-top sm:w-1/2">
                {would}
                {has_notes
                    .then(|| view! { <ul class="flex flex-col gap-1 text-dim">{twins} {notes}</ul> })}
            </td>
        </tr>
    }
}

/// What was ticked before a refusal; else what is new and stands once, and with `all` also what would replace.
fn ticked(import: &Import, flash: &Flash, all: bool) -> BTreeSet<u32> {
    if !flash.form.is_empty() {
        let before = flash.typed("take");
        return before.split(' ').filter_map(|at| at.parse().ok()).collect();
    }
    let twins = import.twins();
    import
        .lines
        .iter()
        .filter(|line| line.can_be_taken() && !twins.contains_key(&line.key()))
        .filter(|line| all || line.state == LineState::New)
        .map(|line| line.at)
        .collect()
}

/// As in "3 new, 1 different, 2 that cannot be read".
fn counted(import: &Import) -> String {
    let count =
        |is: fn(&LineState) -> bool| import.lines.iter().filter(|line| is(&line.state)).count();
    let parts = [
        (count(|state| *state == LineState::New), "new"),
        (
            count(|state| *state == LineState::Different),
            "different from what is stored",
        ),
        (count(|state| *state == LineState::Exists), "stored already"),
        (
            count(|state| *state == LineState::Same),
            "the same as stored",
        ),
        (
            count(|state| matches!(state, LineState::Invalid { .. })),
            "that cannot be imported",
        ),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    parts.join(", ")
}

//! One's own settings, and what an operator should know of this installation.

use leptos::prelude::*;

use super::fields::TextField;
use super::frame::{Here, Page, Section, page};
use super::icons::Icon;
use super::provider::Providers;
use super::sessions::{OpenSessions, sessions_list};
use super::wire::{Flash, page_open, preferences};
use crate::model::errors::Refusal;
use crate::model::secrets::VersionsKept;
use crate::model::users::PASSWORD_MIN_CHARS;

/// Where a flash has what the next Save destroys.
const QUESTION: &str = "question";

/// How guests are confined on this machine: whether it is as it should be, and in a sentence.
#[server(prefix = "/_fn", endpoint = "confinement")]
pub async fn confinement() -> Result<Vec<(bool, String)>, Refusal> {
    let deployer = expect_context::<crate::deploy::Deployer>();
    super::wire::caller().await?;
    Ok(deployer.confinement())
}

/// For administrators: how the database is logged in to (sound or not, and in a sentence), and the master key's fingerprint.
#[server(prefix = "/_fn", endpoint = "installation")]
pub async fn installation() -> Result<Option<(bool, String, String)>, Refusal> {
    use crate::store::{Db, Mode};
    let caller = super::wire::caller().await?;
    let db = expect_context::<Db>();
    let mode = db.mode();
    Ok(caller.user().is_some_and(|user| user.is_admin).then(|| {
        (
            mode == Mode::TwoLogins,
            mode.sentence().to_owned(),
            db.key_fingerprint(),
        )
    }))
}

/// Whether an administrator said that the master key in use is backed up; none for anyone else.
#[server(prefix = "/_fn", endpoint = "key_backup_said")]
pub async fn key_backup_said() -> Result<Option<bool>, Refusal> {
    let caller = super::wire::caller().await?;
    if !caller.user().is_some_and(|user| user.is_admin) {
        return Ok(None);
    }
    let db = expect_context::<crate::store::Db>();
    let said = db.key_backup_confirmed(&caller).await;
    said.map(Some).map_err(crate::store::Error::into_refusal)
}

/// An administrator says that the key with this fingerprint is backed up.
#[server(prefix = "/_fn", endpoint = "key_backup_confirm")]
pub async fn key_backup_confirm(
    #[server(default)] fingerprint: String,
    #[server(default)] done: bool,
) -> Result<(), Refusal> {
    use super::wire::{back, caller, done as go_on};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let confirmed = if done {
        let confirmed = db.key_backup_confirm(&caller, &fingerprint).await;
        confirmed.map_err(crate::store::Error::into_refusal)
    } else {
        Err(Refusal::invalid(
            "done",
            "Back it up first, then tick that it is done.",
        ))
    };
    match confirmed {
        Ok(()) => go_on("/settings#keys", "Noted: the master key is backed up.").await,
        Err(refusal) => back("/settings#keys", "keys", refusal, &[]).await,
    }
}

/// For administrators: which old versions of secrets the installation keeps.
#[server(prefix = "/_fn", endpoint = "secret_versions_kept")]
pub async fn secret_versions_kept() -> Result<Option<VersionsKept>, Refusal> {
    let caller = super::wire::caller().await?;
    let db = expect_context::<crate::store::Db>();
    if !caller.user().is_some_and(|user| user.is_admin) {
        return Ok(None);
    }
    let kept = db.versions_kept(&caller).await;
    kept.map(Some).map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "versions_keep")]
pub async fn versions_keep(
    #[server(default)] keep_count: String,
    #[server(default)] keep_days: String,
    /// The limits whose effect was shown.
    #[server(default)]
    sure: String,
) -> Result<(), Refusal> {
    use super::forms::number;
    use super::wire::{back, confirmed_with, done, go};
    let db = expect_context::<crate::store::Db>();
    let limits = format!("{}/{}", keep_count.trim(), keep_days.trim());
    let typed = [
        ("keep_count", keep_count.as_str()),
        ("keep_days", keep_days.as_str()),
        ("sure", sure.as_str()),
    ];
    let caller = confirmed_with("versions", &typed).await?;
    let set = async {
        let kept = VersionsKept::new(number(&keep_count), number(&keep_days))?;
        if sure != limits {
            let beyond = db.versions_beyond(&caller, kept).await?;
            if beyond.versions > 0 {
                return Ok(Some(beyond));
            }
        }
        db.versions_keep(&caller, kept).await?;
        Ok::<_, crate::store::Error>(None)
    };
    match set.await {
        Ok(None) => {
            let notice = "Saved. Versions beyond it are destroyed within minutes.";
            done("/settings#versions", notice).await
        }
        Ok(Some(beyond)) => {
            let question = format!(
                "This destroys {} for good, whoever owns them. Press Save again to do it.",
                beyond.counted()
            );
            let mut flash = Flash {
                form: "versions".to_owned(),
                ..Flash::default()
            };
            for (field, text) in [
                ("keep_count", keep_count),
                ("keep_days", keep_days),
                ("sure", limits),
                (QUESTION, question),
            ] {
                flash.typed.insert(field.to_owned(), text);
            }
            go("/settings#versions", flash).await
        }
        Err(error) => {
            back(
                "/settings#versions",
                "versions",
                error.into_refusal(),
                &typed,
            )
            .await
        }
    }
}

/// For administrators: whether agents get values by MCP.
#[server(prefix = "/_fn", endpoint = "mcp_reveals")]
pub async fn mcp_reveals() -> Result<Option<bool>, Refusal> {
    let caller = super::wire::caller().await?;
    let db = expect_context::<crate::store::Db>();
    if !caller.user().is_some_and(|user| user.is_admin) {
        return Ok(None);
    }
    let reveals = db.mcp_reveals(&caller).await;
    reveals.map(Some).map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "mcp_reveal")]
pub async fn mcp_reveal(#[server(default)] on: bool) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with, done};
    let db = expect_context::<crate::store::Db>();
    let typed = [("on", if on { "true" } else { "" })];
    let caller = confirmed_with("agents", &typed).await?;
    match db.mcp_reveal(&caller, on).await {
        Ok(()) => {
            let notice = match on {
                true => "Saved. Agents get values by MCP where their tokens may read them.",
                false => {
                    "Saved. No tool of MCP tells a value from its next call on. Servers that agents deploy still get what is bound to them."
                }
            };
            done("/settings#agents", notice).await
        }
        Err(error) => back("/settings#agents", "agents", error.into_refusal(), &typed).await,
    }
}

/// Kept in cookies: they are the browser's, not the account's.
#[server(prefix = "/_fn", endpoint = "preferences_set")]
pub async fn preferences_set(
    #[server(default)] theme: String,
    #[server(default)] keys: bool,
) -> Result<(), Refusal> {
    use axum::http::{HeaderValue, header};
    super::wire::caller().await?;
    let theme = match theme.as_str() {
        "light" => "light",
        "dark" => "dark",
        _ => "system",
    };
    let secure = match expect_context::<url::Url>().scheme() {
        "https" => "; Secure",
        _ => "",
    };
    let response = expect_context::<leptos_axum::ResponseOptions>();
    for (name, value) in [("theme", theme), ("keys", if keys { "on" } else { "off" })] {
        let cookie =
            format!("{name}={value}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.append_header(header::SET_COOKIE, cookie);
        }
    }
    super::wire::done("/settings", "Saved for this browser.").await
}

#[component]
pub fn SettingsPage() -> impl IntoView {
    let preferences = preferences();
    page(Here::Settings, async move {
        let opened = page_open().await?;
        let confinement = confinement().await?;
        let installation = installation().await?;
        let backed_up = key_backup_said().await?.unwrap_or_default();
        let keys = opened.flash_of("keys");
        let sessions = sessions_list().await?;
        let kept = secret_versions_kept().await?;
        let versions_flash = opened.flash_of("versions");
        let reveals = mcp_reveals().await?;
        let agents_flash = opened.flash_of("agents");
        let flash = opened.flash_of("password");
        let email = opened.email.clone();
        let theme = preferences.theme.unwrap_or("system");
        Ok(view! {
            <Page opened here=Here::Settings title="Settings">
                <div class="flex max-w-2xl flex-col gap-5">
                    <Password email flash />
                    <OpenSessions sessions />
                    <Providers />
                    <Section title="This browser" id="browser">
                        <form method="post" action="/_fn/preferences_set" class="flex flex-col gap-4">
                            <fieldset class="flex flex-wrap gap-x-6 gap-y-2">
                                <legend class="mb-1 font-medium">"Theme"</legend>
                                {[("system", "As the system"), ("light", "Light"), ("dark", "Dark")]
                                    .into_iter()
                                    .map(|(value, label)| {
                                        view! {
                                            <label class="flex min-h-6 items-center gap-2">
                                                <input type="radio" class="radio" name="theme" value=value checked=theme == value />
                                                {label}
                                            </label>
                                        }
                                    })
                                    .collect_view()}
                            </fieldset>
                            <label class="flex min-h-6 items-center gap-2">
                                <input type="checkbox" class="checkbox" name="keys" value="true" checked=preferences.keys />
                                "Single keys: / searches, n adds, g s goes to the secrets, ? lists them all"
                            </label>
                            <div>
                                <button class="btn">"Save"</button>
                            </div>
                        </form>
                    </Section>
                    <Guests sentences=confinement />
                    {kept.map(|kept| view! { <Versions kept flash=versions_flash /> })}
                    {reveals.map(|reveals| view! { <Agents reveals flash=agents_flash /> })}
                    {installation
                        .map(|(sound, database, fingerprint)| {
                            view! {
                                <Database sound sentence=database />
                                <Keys fingerprint backed_up flash=keys.clone() />
                            }
                        })}
                </div>
            </Page>
        })
    })
}

#[component]
fn Password(email: String, flash: Flash) -> impl IntoView {
    view! {
        <Section title="Password" id="password">
            <form method="post" action="/settings/password" class="flex max-w-sm flex-col gap-4">
                // Tells a password manager whose password this is.
                <input type="email" class="hidden" autocomplete="username" value=email readonly tabindex="-1" aria-hidden="true" />
                <TextField
                    name="current"
                    label="Current password"
                    kind="password"
                    autocomplete="current-password"
                    required=true
                    error=flash.error("current")
                />
                <TextField
                    name="new"
                    label="New password"
                    kind="password"
                    autocomplete="new-password"
                    required=true
                    minlength=PASSWORD_MIN_CHARS
                    error=flash.error("new")
                    hint="At least 12 characters; several words are fine. Your other sessions end."
                />
                <div>
                    <button class="btn btn-primary">"Change password"</button>
                </div>
            </form>
        </Section>
    }
}

#[component]
fn Versions(kept: VersionsKept, flash: Flash) -> impl IntoView {
    let or = |name: &str, now: Option<i32>| match flash.form.is_empty() {
        true => now.map(|now| now.to_string()).unwrap_or_default(),
        false => flash.typed(name),
    };
    let (count, days) = (or("keep_count", kept.count), or("keep_days", kept.days));
    let question = flash.typed(QUESTION);
    view! {
        <Section title="Old versions of secrets" id="versions">
            <p>
                "What is beyond these limits is destroyed for good. The newest version stays whatever its age, and so does one that a deployment runs with."
            </p>
            <form method="post" action="/_fn/versions_keep" class="flex max-w-sm flex-col gap-4">
                <TextField
                    name="keep_count"
                    label="Old versions kept of each secret"
                    kind="number"
                    value=count
                    error=flash.error("keep_count").or_else(|| flash.error(""))
                    hint="Empty: as many as there are."
                />
                <TextField
                    name="keep_days"
                    label="Days that they are kept"
                    kind="number"
                    value=days
                    error=flash.error("keep_days")
                    hint="Counted from when another took their place. Empty: for ever."
                />
                <input type="hidden" name="sure" value=flash.typed("sure") />
                {(!question.is_empty())
                    .then(|| {
                        view! {
                            <p role="alert" class="flex items-start gap-2 text-amber">
                                <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                                {question}
                            </p>
                        }
                    })}
                <div>
                    <button class="btn">"Save"</button>
                </div>
            </form>
        </Section>
    }
}

#[component]
fn Agents(reveals: bool, flash: Flash) -> impl IntoView {
    let on = match flash.form.is_empty() {
        true => reveals,
        false => !flash.typed("on").is_empty(),
    };
    let error = flash.error("");
    view! {
        <Section title="Agents" id="agents">
            <p>
                "An agent whose token may read gets values over MCP, and what it gets its model sees. Without this, agents still list, bind and deploy."
            </p>
            <form method="post" action="/_fn/mcp_reveal" class="flex flex-col gap-4">
                <label class="flex min-h-6 items-center gap-2">
                    <input type="checkbox" class="checkbox" name="on" value="true" checked=on />
                    "Values may leave by MCP"
                </label>
                {error.map(|error| view! { <p role="alert" class="text-error">{error}</p> })}
                <div>
                    <button class="btn">"Save"</button>
                </div>
            </form>
        </Section>
    }
}

#[component]
fn Guests(sentences: Vec<(bool, String)>) -> impl IntoView {
    view! {
        <Section title="How servers are confined" id="guests">
            <p class="text-dim">"What a deployed server cannot do on this machine, and where the walls are thinner than they should be."</p>
            <ul class="flex flex-col gap-2">
                {sentences
                    .into_iter()
                    .map(|(sound, sentence)| {
                        view! {
                            <li>
                                <Found sound sentence />
                            </li>
                        }
                    })
                    .collect_view()}
            </ul>
        </Section>
    }
}

/// What was found, and whether it is as it should be.
#[component]
fn Found(sound: bool, sentence: String) -> impl IntoView {
    view! {
        <span class="flex items-start gap-2">
            <span class=if sound { "mt-1 text-success" } else { "mt-1 text-amber" }>
                <Icon name=if sound { "check" } else { "alert" } label=if sound { "Sound:" } else { "Weaker:" } />
            </span>
            <span>{sentence}</span>
        </span>
    }
}

#[component]
fn Database(sound: bool, sentence: String) -> impl IntoView {
    view! {
        <Section title="The database" id="database">
            <Found sound sentence=format!("It is used with {sentence}") />
        </Section>
    }
}

#[component]
fn Keys(fingerprint: String, backed_up: bool, flash: Flash) -> impl IntoView {
    let sent = fingerprint.clone();
    let error = flash.error("done");
    view! {
        <Section title="The master key" id="keys">
            <p>
                "Its fingerprint, which names it and says nothing of it: " <code class="break-all select-all">{fingerprint}</code>
            </p>
            <p>
                "Every secret is sealed under the master key. Whoever has it and the database has the secrets; without it, nobody has them, \
                 and Sealport cannot help."
            </p>
            <ul class="flex list-disc flex-col gap-1.5 ps-5">
                <li>
                    "Keep a copy apart from the machine and from the database’s backups: in a password manager, or on paper in a safe."
                </li>
                <li>
                    "If Sealport made the key, it is the file " <code>"master.key"</code>
                    " in the data directory. If you gave it, it is in SEALPORT_MASTER_KEY or in the file that SEALPORT_MASTER_KEY_FILE names."
                </li>
                <li>
                    "Then try the copy: on another machine, " <code>"sealport restore"</code>
                    " brings a backup of the database back with it."
                </li>
            </ul>
            {if backed_up {
                view! { <Found sound=true sentence="An administrator has said that this key is backed up.".to_owned() /> }.into_any()
            } else {
                view! {
                    <form method="post" action="/_fn/key_backup_confirm" class="flex flex-col gap-3">
                        <input type="hidden" name="fingerprint" value=sent />
                        <label class="flex min-h-6 items-start gap-2">
                            <input
                                type="checkbox"
                                class="checkbox"
                                name="done"
                                value="true"
                                required
                                aria-invalid=error.is_some().then_some("true")
                                aria-describedby=error.is_some().then_some("done-error")
                            />
                            "A copy of this key is kept apart from this machine and from the database’s backups"
                        </label>
                        {error
                            .map(|error| {
                                view! {
                                    <p class="text-sm text-error" id="done-error">
                                        {error}
                                    </p>
                                }
                            })}
                        <div>
                            <button class="btn btn-primary">"It is backed up"</button>
                        </div>
                    </form>
                }
                    .into_any()
            }}
        </Section>
    }
}

//! Parts of the record on its own page and on others': rows by day, and what is on record about one thing.

use leptos::prelude::*;
use time::Date;
use time::macros::format_description;
use uuid::Uuid;

use super::activity::Told;
use super::frame::Section;
use super::times::When;
use crate::model::audit::{ACCESSES_COUNTED_MAX, AuditDay, AuditDays, ObjectActivity};
use crate::model::errors::Refusal;

/// What the caller may see on record about one secret, or about one deployment.
#[server(prefix = "/_fn", endpoint = "activity_of")]
pub async fn activity_of(
    #[server(default)] secret: Option<Uuid>,
    #[server(default)] deployment: String,
) -> Result<ObjectActivity, Refusal> {
    use crate::model::paths::DeploymentName;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let found = match secret {
        Some(id) => db.audit_of_secret(&caller, id).await,
        None => {
            let name =
                DeploymentName::parse(&deployment).map_err(|_| Refusal::not_found("deployment"))?;
            db.audit_of_deployment(&caller, &name).await
        }
    };
    found.map_err(crate::store::Error::into_refusal)
}

/// The newest rows about one secret or one deployment, how often and when it was last used, and the way to all of them.
#[component]
pub fn ActivityOf(
    #[prop(optional)] secret: Option<Uuid>,
    #[prop(optional, into)] deployment: String,
) -> impl IntoView {
    let all = match secret {
        Some(id) => format!("/activity?secret={id}"),
        None => format!("/activity?deployment={deployment}"),
    };
    let used = if secret.is_some() { "Used" } else { "Called" };
    view! {
        <Section title="Recent activity" id="recent">
            {Suspend::new(async move {
                match activity_of(secret, deployment).await {
                    Ok(found) => view! { <Found found used here=secret.is_some() /> }.into_any(),
                    Err(refusal) => view! { <p class="text-dim">{refusal.detail}</p> }.into_any(),
                }
            })}
            <p>
                <a class="link" href=all>
                    "All activity"
                </a>
            </p>
        </Section>
    }
}

#[component]
fn Found(found: ObjectActivity, used: &'static str, here: bool) -> impl IntoView {
    let times = match found.accesses {
        1 => "once".to_owned(),
        many if many >= ACCESSES_COUNTED_MAX => format!("{ACCESSES_COUNTED_MAX} times or more"),
        many => format!("{many} times"),
    };
    view! {
        <p class="text-sm" data-used="">
            {match found.last_access {
                Some(at) => view! { {used} " " {times} ", last " <When at /> "." }.into_any(),
                None => view! { {used} " never." }.into_any(),
            }}
        </p>
        <ul class="flex flex-col gap-2.5 text-sm">
            {found
                .rows
                .into_iter()
                .map(|row| {
                    let at = row.at;
                    view! {
                        <li>
                            <Told row here />
                            <div class="text-dim">
                                <When at />
                            </div>
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    }
}

/// The drawing's units for one day, and its height.
const BAR_WIDTH: usize = 10;
const CHART_HEIGHT: i64 = 60;

/// Rows by day, as a drawing with the same in a table behind it.
#[component]
pub fn ByDay(counted: AuditDays) -> impl IntoView {
    let AuditDays { days, more } = counted;
    let most = days.iter().map(all_of).max().unwrap_or(0);
    let total: i64 = days.iter().map(all_of).sum();
    let (first, last) = (
        days.first().map(|day| said(day.day)).unwrap_or_default(),
        days.last().map(|day| said(day.day)).unwrap_or_default(),
    );
    let busiest = days
        .iter()
        .max_by_key(|day| all_of(day))
        .map(|day| said(day.day));
    let gist = match busiest.filter(|_| most > 0) {
        Some(day) => {
            format!("On record by day, {first} to {last}: {total} in all, most on {day} ({most}).")
        }
        None => format!("On record by day, {first} to {last}: nothing."),
    };
    let bars = days
        .iter()
        .enumerate()
        .map(|(place, day)| view! { <Bar day=*day left=place * BAR_WIDTH most /> })
        .collect_view();
    view! {
        <figure class="flex flex-col gap-1" aria-labelledby="by-day">
            <figcaption id="by-day" class="flex flex-wrap items-center gap-x-4 text-sm">
                <span class="font-medium">"By day (UTC)"</span>
                <span class="flex items-center gap-1.5 text-dim">
                    <span class="size-2.5 rounded-xs bg-primary" aria-hidden="true"></span>
                    "done"
                </span>
                <span class="flex items-center gap-1.5 text-dim">
                    <span class="size-2.5 rounded-xs bg-amber" aria-hidden="true"></span>
                    "refused"
                </span>
                <span class="ms-auto text-dim">"busiest day: " {most}</span>
            </figcaption>
            <svg
                role="img"
                aria-label=gist
                viewBox=format!("0 0 {} {CHART_HEIGHT}", (days.len() * BAR_WIDTH).max(1))
                preserveAspectRatio="none"
                class="h-20 w-full border-b border-base-300"
            >
                {bars}
            </svg>
            <p class="flex justify-between text-sm text-dim" aria-hidden="true">
                <span>{first}</span>
                <span>{last}</span>
            </p>
            {more.then(|| view! { <p class="text-sm text-amber">"There is more than can be counted here: only the newest rows are."</p> })}
            <details>
                <summary class="cursor-pointer text-sm text-dim">"As a table"</summary>
                <div class="max-h-80 overflow-y-auto" tabindex="0" role="region" aria-label="Rows by day">
                    <Days days />
                </div>
            </details>
        </figure>
    }
}

#[component]
fn Bar(day: AuditDay, left: usize, most: i64) -> impl IntoView {
    // What there is, is seen: no day with a row has an empty place.
    let height = |count: i64| match count {
        0 => 0,
        count => (count * CHART_HEIGHT / most.max(1)).max(1),
    };
    let (done, refused) = (height(day.done), height(day.refused));
    let rest = CHART_HEIGHT - (done + refused).min(CHART_HEIGHT);
    let (x, width) = (left + 1, BAR_WIDTH - 2);
    view! {
        <g>
            <title>{format!("{}: {} done, {} refused", said(day.day), day.done, day.refused)}</title>
            <rect class="fill-amber" x=x y=rest width=width height=refused />
            <rect class="fill-primary" x=x y=rest + refused width=width height=CHART_HEIGHT - rest - refused />
        </g>
    }
}

#[component]
fn Days(days: Vec<AuditDay>) -> impl IntoView {
    view! {
        <table class="table w-auto text-sm" aria-label="Rows on record by day">
            <thead>
                <tr>
                    <th scope="col">"Day"</th>
                    <th scope="col" class="text-end">"Done"</th>
                    <th scope="col" class="text-end">"Refused"</th>
                </tr>
            </thead>
            <tbody>
                {days
                    .into_iter()
                    .rev()
                    .map(|day| {
                        view! {
                            <tr>
                                <th scope="row" class="font-normal">{said(day.day)}</th>
                                <td class="text-end">{day.done}</td>
                                <td class="text-end">{day.refused}</td>
                            </tr>
                        }
                    })
                    .collect_view()}
            </tbody>
        </table>
    }
}

fn all_of(day: &AuditDay) -> i64 {
    day.done + day.refused
}

fn said(day: Date) -> String {
    day.format(format_description!("[year]-[month]-[day]"))
        .unwrap_or_default()
}

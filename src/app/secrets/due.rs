//! What needs a look soon, on the first page.

use leptos::prelude::*;
use time::OffsetDateTime;

use super::super::frame::Section;
use super::super::times::When;
use super::address;
use crate::model::due::{Due, DueWhy, Nearness};
use crate::model::errors::Refusal;
use crate::model::levels::Level;

/// Rows that stand there at once; the others unfold.
const SHOWN: usize = 5;

#[server(prefix = "/_fn", endpoint = "secrets_due")]
pub async fn secrets_due() -> Result<Vec<Due>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::super::wire::caller().await?;
    db.secrets_due(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn DueSection(mut due: Vec<Due>, me: String) -> impl IntoView {
    (!due.is_empty()).then(|| {
        let rest = due.split_off(due.len().min(SHOWN));
        let count = rest.len();
        view! {
            <Section title="Due" id="due">
                <Rows due me=me.clone() />
                {(count > 0)
                    .then(|| {
                        view! {
                            <details class="text-sm">
                                <summary class="cursor-pointer">{format!("{count} more")}</summary>
                                <div class="pt-2">
                                    <Rows due=rest me />
                                </div>
                            </details>
                        }
                    })}
            </Section>
        }
    })
}

#[component]
fn Rows(due: Vec<Due>, me: String) -> impl IntoView {
    let now = OffsetDateTime::now_utc();
    view! {
        <ul class="flex flex-col gap-1.5 text-sm">
            {due
                .into_iter()
                .map(|row| {
                    let (word, class) = word(&row, now);
                    let page = address(&row.owner, row.path.as_str());
                    let to = match row.level >= Level::Write {
                        true => format!("{page}?open=replace#replace"),
                        false => page,
                    };
                    let name = if row.owner == me { row.path.to_string() } else { format!("{}:{}", row.owner, row.path) };
                    let at = row.at;
                    view! {
                        <li class="flex flex-wrap items-baseline gap-x-3">
                            <span class=format!("badge badge-sm whitespace-nowrap {class}")>{word}</span>
                            <a class="link inline-flex min-h-6 min-w-0 items-center break-all font-mono" href=to>
                                {name}
                            </a>
                            <span class="text-dim">
                                {match row.why {
                                    DueWhy::Expired => "switched off since ",
                                    DueWhy::Expires => "",
                                    DueWhy::Rotate => "a new value was due ",
                                }} <When at />
                            </span>
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    }
}

fn word(due: &Due, now: OffsetDateTime) -> (&'static str, &'static str) {
    match (due.why, due.nearness(now)) {
        (DueWhy::Rotate, _) => ("Rotation required", "badge-warning"),
        (DueWhy::Expired, _) | (_, Nearness::Past) => ("Expired", "badge-error"),
        (_, Nearness::Day) => ("Expires", "badge-error"),
        (_, Nearness::Week) => ("Expires", "badge-warning"),
        (_, Nearness::Month) => ("Expires", ""),
    }
}

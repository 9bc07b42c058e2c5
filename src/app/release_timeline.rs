//! A deployment's releases over time, as a drawing with the same in a table behind it.

use leptos::prelude::*;
use time::OffsetDateTime;

use super::frame::Section;
use super::times::{When, span};
use crate::model::deployments::{DeploymentDetail, DeploymentState, ReleaseState, ReleaseSummary};

/// The drawing's units: of one release, of the longest bar, and of all.
const COLUMN: i64 = 16;
const LONGEST: i64 = 44;
const HEIGHT: i64 = 64;

/// How a release ended, by colour and by shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Runs,
    Ran,
    Failed,
    Overtaken,
    UnderWay,
}

impl Mark {
    /// `live`: the newest that went live, where it runs.
    fn of(release: &ReleaseSummary, live: Option<i32>) -> Mark {
        match release.state {
            ReleaseState::Live if live == Some(release.number) => Mark::Runs,
            ReleaseState::Live => Mark::Ran,
            ReleaseState::Failed => Mark::Failed,
            ReleaseState::Superseded => Mark::Overtaken,
            ReleaseState::Queued | ReleaseState::Running => Mark::UnderWay,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Mark::Runs => "live",
            Mark::Ran => "was live, has ended",
            Mark::Failed => "failed",
            Mark::Overtaken => "overtaken by a newer one",
            Mark::UnderWay => "under way",
        }
    }

    fn bar(self) -> &'static str {
        match self {
            Mark::Runs | Mark::Ran => "fill-success",
            Mark::Failed => "fill-error",
            Mark::Overtaken => "fill-dim",
            Mark::UnderWay => "fill-primary",
        }
    }

    /// A disc, a ring, a cross, a square, a triangle; around this point.
    fn shape(self, x: i64, y: i64) -> impl IntoView {
        let round = "a4 4 0 1 0 8 0 a4 4 0 1 0 -8 0";
        let (from_x, from_y, rest) = match self {
            Mark::Runs | Mark::Ran => (x - 4, y, round),
            Mark::Failed => (x - 4, y - 4, "l8 8 m0 -8 l-8 8"),
            Mark::Overtaken => (x - 3, y - 3, "h6 v6 h-6 z"),
            Mark::UnderWay => (x - 3, y - 4, "l7 4 l-7 4 z"),
        };
        let class = match self {
            Mark::Runs => "fill-success stroke-success",
            Mark::Ran => "fill-none stroke-success",
            Mark::Failed => "fill-none stroke-error",
            Mark::Overtaken => "fill-none stroke-dim",
            Mark::UnderWay => "fill-primary stroke-primary",
        };
        view! { <path class=class stroke-width="2" d=format!("M{from_x} {from_y} {rest}") /> }
    }
}

/// The releases that are shown, the oldest first. None before there are two: one alone is told of above.
pub fn timeline(detail: &DeploymentDetail, now: OffsetDateTime) -> Option<impl IntoView + use<>> {
    let runs = matches!(
        detail.summary.state,
        DeploymentState::Running | DeploymentState::Restarting | DeploymentState::Deploying
    );
    let newest = |release: &&ReleaseSummary| release.state == ReleaseState::Live;
    let live = detail.releases.iter().find(newest);
    let live = live.filter(|_| runs).map(|release| release.number);
    let drawn: Vec<Drawn> = detail
        .releases
        .iter()
        .rev()
        .map(|release| Drawn::of(release, live, now))
        .collect();
    let (first, last) = (drawn.first()?.clone(), drawn.last()?.clone());
    if first.number == last.number {
        return None;
    }
    let longest = drawn.iter().map(|it| it.millis).max().unwrap_or(0);
    let mut marks: Vec<Mark> = drawn.iter().map(|it| it.mark).collect();
    marks.sort_unstable();
    let count_of = |mark: Mark| marks.iter().filter(|it| **it == mark).count();
    let mut kinds = marks.clone();
    kinds.dedup();
    let counts: Vec<String> = kinds
        .iter()
        .map(|mark| format!("{} {}", count_of(*mark), mark.says()))
        .collect();
    let gist = format!(
        "Releases {} to {} and how long each took: {}.",
        first.number,
        last.number,
        counts.join(", ")
    );
    let took_longest = drawn.iter().max_by_key(|it| it.millis);
    let took_longest = took_longest.map(|it| it.took.clone()).unwrap_or_default();
    let width = COLUMN * i64::try_from(drawn.len()).unwrap_or(1);
    Some(view! {
        <div id="timeline-now" data-live="">
            <Section title="Releases" id="timeline">
                <figure class="flex flex-col gap-2" aria-labelledby="timeline-says">
                    <figcaption id="timeline-says" class="flex flex-wrap items-center gap-x-4 gap-y-1 text-sm">
                        {kinds.into_iter().map(legend).collect_view()}
                        <span class="text-dim sm:ms-auto">"longest: " {took_longest}</span>
                    </figcaption>
                    <svg role="img" aria-label=gist viewBox=format!("0 0 {width} {HEIGHT}") preserveAspectRatio="xMinYMax meet" class="h-24 w-full">
                        {drawn.iter().enumerate().map(|(place, it)| it.column(place, longest)).collect_view()}
                    </svg>
                    <p class="text-sm text-dim">
                        "Release " {first.number} ", " <When at=first.created_at /> ", to release " {last.number} ", "
                        <When at=last.created_at />
                    </p>
                    <details>
                        <summary class="cursor-pointer text-sm text-dim">"As a table"</summary>
                        <div class="max-h-80 overflow-auto" tabindex="0" role="region" aria-label="Releases, the newest first">
                            {table(drawn)}
                        </div>
                    </details>
                </figure>
            </Section>
        </div>
    })
}

fn legend(mark: Mark) -> impl IntoView {
    view! {
        <span class="flex items-center gap-1.5 text-dim">
            <svg viewBox="0 0 12 12" class="size-3" aria-hidden="true">
                {mark.shape(6, 6)}
            </svg>
            {mark.says()}
        </span>
    }
}

#[derive(Clone)]
struct Drawn {
    number: i32,
    mark: Mark,
    created_at: OffsetDateTime,
    created_by: String,
    millis: i64,
    took: String,
}

impl Drawn {
    fn of(release: &ReleaseSummary, live: Option<i32>, now: OffsetDateTime) -> Drawn {
        let ended_at = release.ended_at.unwrap_or(now);
        let took = span(release.created_at, ended_at);
        let millis = (ended_at - release.created_at).whole_milliseconds().max(0);
        Drawn {
            number: release.number,
            mark: Mark::of(release, live),
            created_at: release.created_at,
            created_by: release.created_by.clone(),
            millis: i64::try_from(millis).unwrap_or(i64::MAX),
            took: match release.ended_at {
                Some(_) => took,
                None => format!("{took} until now"),
            },
        }
    }

    /// A bar as long as the release took, on the shape of how it ended. What there is, is seen, however short it was.
    fn column(&self, place: usize, longest: i64) -> impl IntoView + use<> {
        let left = COLUMN * i64::try_from(place).unwrap_or(0);
        let part = i128::from(self.millis) * i128::from(LONGEST) / i128::from(longest.max(1));
        let height = i64::try_from(part).unwrap_or(LONGEST).max(2);
        let says = format!(
            "Release {}: {}, {}",
            self.number,
            self.mark.says(),
            self.took
        );
        view! {
            <g>
                <title>{says}</title>
                <rect class=self.mark.bar() x=left + 4 y=LONGEST + 2 - height width=COLUMN - 8 height=height />
                {self.mark.shape(left + COLUMN / 2, HEIGHT - 8)}
            </g>
        }
    }
}

fn table(drawn: Vec<Drawn>) -> impl IntoView {
    view! {
        <table class="table w-auto text-sm" aria-label="Releases and how long each took">
            <thead>
                <tr>
                    <th scope="col">"Release"</th>
                    <th scope="col">"How it ended"</th>
                    <th scope="col">"Took"</th>
                    <th scope="col">"Begun"</th>
                </tr>
            </thead>
            <tbody>
                {drawn
                    .into_iter()
                    .rev()
                    .map(|it| {
                        view! {
                            <tr>
                                <th scope="row" class="font-normal">{it.number}</th>
                                <td>{it.mark.says()}</td>
                                <td>{it.took}</td>
                                <td>
                                    <When at=it.created_at /> " by " {it.created_by}
                                </td>
                            </tr>
                        }
                    })
                    .collect_view()}
            </tbody>
        </table>
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);

    fn release(number: i32, state: ReleaseState, took_secs: i64) -> ReleaseSummary {
        let created_at = NOW - Duration::hours(1);
        let is_open = matches!(state, ReleaseState::Queued | ReleaseState::Running);
        ReleaseSummary {
            number,
            state,
            reason: None,
            created_at,
            ended_at: (!is_open).then(|| created_at + Duration::seconds(took_secs)),
            created_by: "ada".into(),
            commit: None,
            code_of: None,
            steps: Vec::new(),
            versions: Vec::new(),
        }
    }

    #[test]
    fn each_end_has_a_shape_and_words_of_its_own() {
        let all = [
            (ReleaseState::Live, Some(1), Mark::Runs),
            (ReleaseState::Live, Some(2), Mark::Ran),
            (ReleaseState::Live, None, Mark::Ran),
            (ReleaseState::Failed, None, Mark::Failed),
            (ReleaseState::Superseded, None, Mark::Overtaken),
            (ReleaseState::Queued, None, Mark::UnderWay),
            (ReleaseState::Running, None, Mark::UnderWay),
        ];
        let mut drawn = std::collections::BTreeMap::new();
        for (state, live, mark) in all {
            assert_eq!(Mark::of(&release(1, state, 1), live), mark, "{state:?}");
            drawn.insert(mark, (mark.says(), mark.shape(6, 6).to_html()));
        }
        let says: std::collections::BTreeSet<_> = drawn.values().map(|it| it.0).collect();
        let shapes: std::collections::BTreeSet<_> = drawn.values().map(|it| &it.1).collect();
        assert_eq!((says.len(), shapes.len()), (5, 5), "{drawn:?}");
    }

    #[test]
    fn a_bar_is_as_long_as_the_release_took() {
        let of = |secs| Drawn::of(&release(1, ReleaseState::Live, secs), Some(1), NOW);
        let html = |secs| of(secs).column(1, 100_000).to_html();
        for (secs, height) in [(100, LONGEST), (50, LONGEST / 2), (0, 2)] {
            let html = html(secs);
            assert!(html.contains(&format!(r#"height="{height}""#)), "{html}");
        }
        assert!(html(50).contains("Release 1: live, 50 s"), "{}", html(50));
        let open = Drawn::of(&release(2, ReleaseState::Queued, 0), None, NOW);
        assert_eq!(open.took, "60 min 0 s until now");
    }
}

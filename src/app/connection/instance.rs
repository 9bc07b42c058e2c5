//! What one's own instance is doing, and what it said.

use leptos::prelude::*;

use super::super::deployment::log_lines;
use super::super::frame::Section;
use crate::model::connections::OwnInstance;
use crate::model::deployments::LogLine;

/// What one's own instance said. Nobody else reads it.
pub fn log(lines: Vec<LogLine>, instance: &OwnInstance) -> impl IntoView + use<> {
    let (class, says) = match instance {
        OwnInstance::Runs(usage) => (
            "text-dim",
            format!(
                "It runs, and takes {} MiB of memory and {} MiB of disk.",
                usage.memory_mib, usage.disk_mib
            ),
        ),
        OwnInstance::Stopped => (
            "text-dim",
            "It does not run now. Your next call starts it.".to_owned(),
        ),
        OwnInstance::Failed(why) => (
            "text-amber whitespace-pre-wrap wrap-anywhere",
            format!("It ended. A call starts it again, after a while if it keeps ending. {why}"),
        ),
    };
    view! {
        <Section title="Your instance" id="log">
            <p class=class>{says}</p>
            {if lines.is_empty() {
                view! { <p class="text-dim">"Nothing yet: your instance starts at your first call, and its log with it."</p> }
                    .into_any()
            } else {
                view! {
                    {log_lines(lines)}
                    <p class="text-sm text-dim">
                        "Only you can read it. Keys are masked as [sealed] before a line is kept. The newest 100 lines stand here."
                    </p>
                }
                    .into_any()
            }}
        </Section>
    }
}

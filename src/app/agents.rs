//! How an agent is connected to Sealport itself: a configuration for its client, and what to tell it.

use leptos::prelude::*;

use super::clients::{Clients, Copied, NO_TOKEN};
use super::frame::Folding;
use crate::model::errors::Refusal;

/// What an agent should know, ready to paste; MCP clients are told it too.
pub const INSTRUCTIONS: &str = include_str!("agents.txt");

/// The name by which clients shall know it.
pub const SERVER_NAME: &str = "meta";

/// Where agents reach this installation.
#[server(prefix = "/_fn", endpoint = "mcp_address")]
pub async fn mcp_address() -> Result<String, Refusal> {
    super::wire::caller().await?;
    Ok(format!("{}mcp", expect_context::<url::Url>()))
}

/// `mcp_url` is this installation's `/mcp`.
#[component]
pub fn ConnectAgent(#[prop(into)] mcp_url: String) -> impl IntoView {
    view! {
        <Folding title="Connect an agent" id="agents" icon="ship" open=false>
            <p>
                "Agents list, bind and deploy secrets over MCP, at " <code class="break-all font-mono select-all">{mcp_url.clone()}</code>
                ". Make a token for each: with " <strong>"use"</strong>
                " no tool tells it a value. One that may deploy can make a server give away what is bound to it: let it deploy only where you would trust it with the values."
            </p>
            <Clients name=SERVER_NAME url=mcp_url token=NO_TOKEN open=false />
            <h3 class="font-semibold">"Tell your agent"</h3>
            <p class="text-sm text-dim">"For CLAUDE.md, AGENTS.md, rules or a system prompt."</p>
            <div class="flex flex-col gap-2" data-copy="">
                <Copied text=INSTRUCTIONS />
            </div>
        </Folding>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_same_instructions() {
        let said = include_str!("../../docs/agents.md");
        assert!(
            said.contains(INSTRUCTIONS),
            "docs/agents.md has other instructions than agents.txt"
        );
        for tool in [
            "get_secret",
            "set_secret",
            "list_secrets",
            "deploy",
            "deployment_status",
            "deployment_logs",
        ] {
            assert!(INSTRUCTIONS.contains(tool), "{tool}");
        }
        // Clients name tools each in its own way.
        assert!(!INSTRUCTIONS.contains("mcp__"));
    }
}

//! What each MCP client wants to be told, ready to copy. Tokens stand in configurations, never in links.

use leptos::prelude::*;

use super::islands::copy::Copy;

/// Where a token stands in a configuration that has none yet.
pub const NO_TOKEN: &str = "YOUR_TOKEN";

/// A server as clients shall call it, one folded block a client. `open`: the first is unfolded.
#[component]
pub fn Clients(
    #[prop(into)] name: String,
    #[prop(into)] url: String,
    #[prop(into)] token: String,
    open: bool,
) -> impl IntoView {
    view! {
        <div class="flex flex-col gap-2">
            {configurations(&name, &url, &token)
                .into_iter()
                .enumerate()
                .map(|(i, (client, place, text))| {
                    view! {
                        <details name="client" class="rounded-box border border-base-300" open=open && i == 0>
                            <summary class="cursor-pointer px-3 py-2 font-medium">{client}</summary>
                            <div class="flex flex-col gap-2 border-t border-base-300 p-3" data-copy="">
                                <p class="text-sm text-dim">{place}</p>
                                <Copied text />
                            </div>
                        </details>
                    }
                })
                .collect_view()}
        </div>
    }
}

/// A text with a button that copies it.
#[component]
pub fn Copied(#[prop(into)] text: String) -> impl IntoView {
    view! {
        <pre tabindex="0" class="overflow-x-auto rounded-field bg-base-200 p-3 font-mono text-xs" data-copy-from="">
            {text}
        </pre>
        <div>
            <Copy />
        </div>
    }
}

/// Client, where it goes, and the text itself.
pub fn configurations(
    name: &str,
    url: &str,
    token: &str,
) -> Vec<(&'static str, &'static str, String)> {
    vec![
        (
            "Claude Code",
            // No command with the token in it: that would stay in the shell's history, and stand in the list of processes.
            "In .mcp.json, with the token in the environment variable SEALPORT_TOKEN.",
            format!(
                "{{\n  \"mcpServers\": {{\n    \"{name}\": {{\n      \"type\": \"http\",\n      \"url\": \"{url}\",\n      \"headers\": {{ \"Authorization\": \"Bearer ${{SEALPORT_TOKEN}}\" }}\n    }}\n  }}\n}}"
            ),
        ),
        (
            "Claude Desktop",
            "In claude_desktop_config.json.",
            format!(
                "{{\n  \"mcpServers\": {{\n    \"{name}\": {{\n      \"command\": \"npx\",\n      \"args\": [\"-y\", \"mcp-remote\", \"{url}\", \"--header\", \"Authorization:${{AUTH_HEADER}}\"],\n      \"env\": {{ \"AUTH_HEADER\": \"Bearer {token}\" }}\n    }}\n  }}\n}}"
            ),
        ),
        (
            "Cursor",
            "In .cursor/mcp.json, with the token in the environment variable SEALPORT_TOKEN.",
            format!(
                "{{\n  \"mcpServers\": {{\n    \"{name}\": {{\n      \"url\": \"{url}\",\n      \"headers\": {{ \"Authorization\": \"Bearer ${{env:SEALPORT_TOKEN}}\" }}\n    }}\n  }}\n}}"
            ),
        ),
        (
            "VS Code",
            "In .vscode/mcp.json; it asks for the token once.",
            format!(
                "{{\n  \"inputs\": [{{ \"type\": \"promptString\", \"id\": \"token\", \"description\": \"Sealport token for {name}\", \"password\": true }}],\n  \"servers\": {{\n    \"{name}\": {{\n      \"type\": \"http\",\n      \"url\": \"{url}\",\n      \"headers\": {{ \"Authorization\": \"Bearer ${{input:token}}\" }}\n    }}\n  }}\n}}"
            ),
        ),
        (
            "Windsurf",
            "In mcp_config.json, with the token in the environment variable SEALPORT_TOKEN.",
            format!(
                "{{\n  \"mcpServers\": {{\n    \"{name}\": {{\n      \"serverUrl\": \"{url}\",\n      \"headers\": {{ \"Authorization\": \"Bearer ${{env:SEALPORT_TOKEN}}\" }}\n    }}\n  }}\n}}"
            ),
        ),
    ]
}

// Real MCP clients from npm and PyPI, as processes of their own.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import { ROOT } from "./sealport.ts";

const run = promisify(execFile);
const CLIENTS = join(ROOT, "tests/fixtures/clients");
/** Installing them, the first time on a machine, takes a while. */
const TIMEOUT_MS = 300_000;

export type ToolResult = {
  isError?: boolean;
  content: { type: string; text: string }[];
};

/** Calls a tool with the SDK from npm. */
export async function callByNode(url: string, token: string, tool: string, args: unknown = {}): Promise<ToolResult> {
  return parsed(await run("node", [join(CLIENTS, "call-tool.mjs"), url, token, tool, JSON.stringify(args)], { timeout: TIMEOUT_MS }));
}

/** Calls a tool with the SDK from PyPI. */
export async function callByPython(url: string, token: string, tool: string, args: unknown = {}): Promise<ToolResult> {
  const { stdout } = await run("node", [join(CLIENTS, "install.mjs")], { timeout: TIMEOUT_MS });
  const { python } = JSON.parse(stdout) as { python: string };
  return parsed(await run(python, [join(CLIENTS, "call_tool.py"), url, token, tool, JSON.stringify(args)], { timeout: TIMEOUT_MS }));
}

function parsed({ stdout }: { stdout: string }): ToolResult {
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as ToolResult;
}

export function textOf(result: ToolResult): string {
  return result.content.map((part) => part.text).join("\n");
}

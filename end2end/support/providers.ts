// Render and Railway as tests want them, in a process of their own (fixtures/providers.rs). What a service there runs is the real
// `sealport bridge` in front of a server over standard input and output.

import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

import { PROGRAM, ROOT } from "./sealport.ts";

/** Built beside the server by `scripts/build dev`. */
const FAKES = join(dirname(PROGRAM), "examples/fake-providers");
/** Gives its environment away. */
const ECHO = join(ROOT, "end2end/fixtures/echo/server.mjs");

export type ProviderName = "render" | "railway";

/** What a provider has. */
export type There = {
  services: { name: string; variables: Record<string, string>; stopped: boolean }[];
  projects: string[];
  /** What was wrong with requests so far. */
  wrong: string[];
};

export class Providers {
  #child: ChildProcess;
  #lines: AsyncIterator<string>;
  #places: Record<ProviderName, string> = { render: "", railway: "" };

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** With the keys that open them, and the server that every service runs. */
  static async started(keys: Record<ProviderName, string>, server = ECHO): Promise<Providers> {
    const child = spawn(FAKES, [PROGRAM, "bridge", "--host", "127.0.0.1", "--", process.execPath, server], {
      env: { PATH: process.env.PATH, RENDER_KEY: keys.render, RAILWAY_KEY: keys.railway },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const failed = new Promise<never>((_, reject) => child.once("error", reject));
    const providers = new Providers(child);
    providers.#places = (await Promise.race([providers.#next(), failed])) as Record<ProviderName, string>;
    return providers;
  }

  /** What a Sealport has to be told so that it deploys there. */
  get settings(): Record<string, string> {
    return {
      SEALPORT_RENDER_API: this.#places.render,
      SEALPORT_RAILWAY_API: this.#places.railway,
      SEALPORT_SOURCE_HOSTS: "127.0.0.1",
      SEALPORT_BRIDGE_IMAGE: "registry.example/sealport-bridge:1",
    };
  }

  async there(provider: ProviderName): Promise<There> {
    return (await this.#ask(`${provider} state`)) as There;
  }

  /** The next such request is refused with all that it sent: `POST /v1/services`, or a field of GraphQL. */
  async willEcho(provider: ProviderName, what: string): Promise<void> {
    await this.#ask(`${provider} echo ${what}`);
  }

  /** At the end of its input it ends what its services run too; a signal would leave them behind. */
  close(): void {
    this.#child.stdin!.end();
  }

  async #ask(line: string): Promise<unknown> {
    this.#child.stdin!.write(`${line}\n`);
    return this.#next();
  }

  async #next(): Promise<unknown> {
    const line = await this.#lines.next();
    if (line.done) throw new Error("the providers' program has ended");
    return JSON.parse(line.value);
  }
}

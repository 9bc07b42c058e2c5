// A Sealport of a test's own: its own data directory, database, key and port.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";

export const ROOT = resolve(import.meta.dirname, "../..");
export const PROGRAM =
  process.env.SEALPORT_PROGRAM ??
  join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/sealport");
/** What each of them said, for looking into a test that failed. */
const LOGS = join(ROOT, "end2end/out/logs");
/** The machine of a test run may be busy with builds. */
const START_TIMEOUT_MS = 180_000;

export class Sealport {
  readonly dir = mkdtempSync(join(tmpdir(), "sealport-e2e-"));
  url = "";
  /** The one-time link of the first administrator. */
  welcome = "";
  /** Everything that it wrote to its standard output and its log. */
  said = "";
  #child: ChildProcess | undefined;
  #env: Record<string, string> = {};
  /** Where it listens, whatever stands in front of it. */
  port = 0;

  constructor() {
    // Guests and PostgreSQL are other users: they must be able to pass through.
    chmodSync(this.dir, 0o711);
  }

  static async started(env: Record<string, string> = {}): Promise<Sealport> {
    const sealport = new Sealport();
    try {
      await sealport.start(env);
    } catch (error) {
      await sealport.remove();
      throw error;
    }
    return sealport;
  }

  get data(): string {
    return join(this.dir, "data");
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts it, again with what it was started with before, and waits until it says where it is. */
  async start(env: Record<string, string> = this.#env): Promise<void> {
    this.#env = env;
    const isFirst = this.url === "";
    if (isFirst) this.port = await freePort();
    const child = spawn(PROGRAM, ["serve", "--data", this.data, "--addr", `127.0.0.1:${this.port}`], {
      cwd: ROOT,
      env: { ...withoutSealport(process.env), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const from = this.said.length;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((done, failed) => {
        const read = (piece: Buffer) => {
          this.said += piece.toString();
          const now = this.said.slice(from);
          const url = /Sealport is at (\S+)\n/.exec(now)?.[1];
          // The link, where there is one, is written right after the address.
          const link = /(http\S+\/welcome\/\S+)\n/.exec(now)?.[1];
          if (url && (link || !isFirst)) {
            this.url = url.replace(/\/$/, "");
            this.welcome = link ?? this.welcome;
            done();
          }
        };
        child.stdout?.on("data", read);
        child.stderr?.on("data", read);
        child.once("error", failed);
        child.once("exit", (code) => failed(new Error(`sealport ended with ${code}:\n${this.said}`)));
        timer = setTimeout(() => failed(new Error(`sealport did not start:\n${this.said}`)), START_TIMEOUT_MS);
      });
    } finally {
      clearTimeout(timer);
      child.removeAllListeners("exit");
    }
  }

  /** Ends it and waits for its end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill(signal);
    await ended;
  }

  /** Ends it, and leaves nothing but what it said: a test that failed is looked into by that. */
  async remove(): Promise<void> {
    await this.stop();
    mkdirSync(LOGS, { recursive: true });
    writeFileSync(join(LOGS, `${basename(this.dir)}.log`), this.said);
    // Where only the output of a test run is kept, what went wrong inside stands in it.
    const errors = this.said.split("\n").filter((line) => line.includes('"level":"ERROR"'));
    if (errors.length > 0) console.log(`${basename(this.dir)} said:\n${errors.slice(0, 20).join("\n")}`);
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Adds a person by the operator's command. */
  async addUser(email: string, password: string): Promise<void> {
    await this.command(["user", "add", email, "--password-stdin"], password);
  }

  /** Runs an operator's command on this data directory; returns what it wrote. */
  async command(args: string[], input = ""): Promise<string> {
    const running = promisify(execFile)(PROGRAM, [...args, "--data", this.data], {
      cwd: ROOT,
      env: { ...withoutSealport(process.env), ...this.#env },
    });
    running.child.stdin?.end(input);
    const { stdout } = await running;
    return stdout;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

function withoutSealport(env: NodeJS.ProcessEnv): Record<string, string> {
  const kept = Object.entries(env).filter(
    ([name, value]) => value !== undefined && !/^(SEALPORT_|DATABASE_)/.test(name),
  );
  return Object.fromEntries(kept) as Record<string, string>;
}

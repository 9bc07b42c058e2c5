// Looks for values, and for any 8 characters of them in a row, in everything that Sealport lets out.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createReadStream, existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "@playwright/test";

import type { Answers } from "./recorder.ts";
import { PROGRAM, type Sealport } from "./sealport.ts";

/** What is no secret and stands in all places: a search that does not find it proves nothing. */
export const CONTROL = "CONTROL_THAT_MUST_BE_FOUND";
/** As many characters in a row are a leak. */
const WINDOW = 8;
/** Every form of a window is longer than this; so many bytes of it are looked up. */
const PREFIX = 8;
const TABLE_BITS = 22;
/** A stream whose last event has not come by then does not tell what it should. */
const STREAM_TIMEOUT_MS = 60_000;

/** 40 characters that stand nowhere else, with some that other forms write differently. */
export function random(): string {
  const text = randomBytes(28).toString("base64").replace(/=+$/, "");
  return `${text.slice(0, 20)}+/${text.slice(20)}`;
}

/** Finds pieces of values, in plain, base64 (at three alignments), base64url, hex and URL form. */
export class Searcher {
  /** The first bytes of each form → the forms that begin so, with what they are. */
  #forms = new Map<string, { form: string; what: string }[]>();
  /** A bit for the hash of each form's first four bytes: most places of a text are passed over by it. */
  #table = new Uint8Array(1 << TABLE_BITS);

  constructor(values: Record<string, string>) {
    for (const [name, value] of Object.entries(values)) {
      for (let at = 0; at + WINDOW <= value.length; at++) {
        const piece = value.slice(at, at + WINDOW);
        for (const [kind, form] of formsOf(piece)) this.#add(form, `${name}, characters ${at} to ${at + WINDOW}, ${kind}`);
      }
    }
  }

  #add(form: string, what: string): void {
    const prefix = form.slice(0, PREFIX);
    const known = this.#forms.get(prefix) ?? [];
    if (known.some((other) => other.form === form)) return;
    known.push({ form, what });
    this.#forms.set(prefix, known);
    const bytes = Buffer.from(form, "latin1");
    this.#table[hash(bytes, 0)] = 1;
  }

  /** What was found in the text, at most a few. */
  in(text: Buffer | string): string[] {
    const bytes = typeof text === "string" ? Buffer.from(text) : text;
    const found: string[] = [];
    for (let at = 0; at + PREFIX <= bytes.length && found.length < 5; at++) {
      if (this.#table[hash(bytes, at)] === 0) continue;
      const known = this.#forms.get(bytes.toString("latin1", at, at + PREFIX));
      for (const { form, what } of known ?? []) {
        if (bytes.toString("latin1", at, at + form.length) === form) found.push(`${what}, at byte ${at}`);
      }
    }
    return found;
  }

  /** What was found in a file, which may be large. */
  async inFile(path: string): Promise<string[]> {
    const found: string[] = [];
    let kept = Buffer.alloc(0);
    for await (const piece of createReadStream(path, { highWaterMark: 4 << 20 })) {
      const now = Buffer.concat([kept, piece as Buffer]);
      found.push(...this.in(now));
      if (found.length > 5) break;
      kept = Buffer.from(now.subarray(Math.max(0, now.length - 3 * WINDOW - 1)));
    }
    return found;
  }
}

function hash(bytes: Buffer, at: number): number {
  const four = (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  return Math.imul(four, 0x9e3779b1) >>> (32 - TABLE_BITS);
}

function formsOf(piece: string): [string, string][] {
  const bytes = Buffer.from(piece);
  const forms: [string, string][] = [
    ["in plain", piece],
    ["in hex", bytes.toString("hex")],
    ["in capital hex", bytes.toString("hex").toUpperCase()],
    ["in URL form", encodeURIComponent(piece)],
    ["with every byte in URL form", [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")],
    ["in JSON form", JSON.stringify(piece).slice(1, -1)],
  ];
  for (const alignment of [0, 1, 2]) {
    // The first and last characters of base64 also hold bits of what stands beside the piece.
    const padded = Buffer.concat([Buffer.alloc(alignment), bytes]);
    const text = padded.toString("base64").replace(/=+$/, "");
    const known = text.slice(Math.ceil((alignment * 8) / 6), Math.floor((padded.length * 8) / 6));
    forms.push([`in base64 at ${alignment}`, known]);
    forms.push([`in base64url at ${alignment}`, known.replaceAll("+", "-").replaceAll("/", "_")]);
  }
  return forms;
}

/** The command lines of all processes, looked at again and again; one of them holds the control. */
export class CommandLines {
  readonly seen = new Set<string>();
  #timers: NodeJS.Timeout[];
  #marker: ChildProcess;

  constructor() {
    this.#marker = spawn(process.execPath, ["-e", "setTimeout(() => {}, 600_000)", CONTROL], { stdio: "ignore" });
    this.#timers = [setInterval(() => this.#look(), 40), setInterval(() => this.#ps(), 2_000)];
  }

  #look(): void {
    for (const pid of readdirSync("/proc")) {
      if (!/^\d+$/.test(pid)) continue;
      try {
        this.seen.add(readFileSync(`/proc/${pid}/cmdline`, "latin1"));
      } catch {
        // It has ended since.
      }
    }
  }

  #ps(): void {
    this.seen.add(execFileSync("ps", ["auxww"], { encoding: "latin1", maxBuffer: 64 << 20 }));
  }

  end(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#marker.kill();
  }
}

/** What a stream of events says, with its headers, to its event `end` or to another that is its last. */
export async function readStream(
  url: string,
  headers: Record<string, string>,
  isLast = (event: string) => event.startsWith("event: end\n"),
): Promise<string> {
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(STREAM_TIMEOUT_MS) });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let [text, unfinished] = [JSON.stringify([...response.headers.entries()]), ""];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`${url} ended before its last event: ${text}`);
    text += value;
    const events = (unfinished + value).split("\n\n");
    unfinished = events.pop()!;
    if (events.some(isLast)) break;
  }
  await reader.cancel();
  return text;
}

/** What the page of a deployment is sent as it happens, which has no end: to the last line that the page shows by itself. */
export async function readEvents(page: string, cookie: string): Promise<string> {
  const shown = await (await fetch(page, { headers: { cookie } })).text();
  const last = /data-after="(\d+)"/.exec(shown)?.[1];
  if (!last) throw new Error(`${page} does not say where its log ends`);
  return readStream(`${page}/events`, { cookie }, (event) => event.includes(`\nid: ${last}\n`));
}

/** What was written while it was looked at. */
export type Written = {
  sealport: Sealport;
  answers: Answers;
  commandLines: CommandLines;
  /** What was shown once, so that answers hold it; nothing that is kept does. */
  tokens: Record<string, string>;
};

/** That nothing which was written, and is there now, holds a piece of a value, though all of it holds the control. Ends the looking. */
export async function nothingHolds(values: Record<string, string>, { sealport, answers, commandLines, tokens }: Written): Promise<void> {
  const answered = await answers.all();
  commandLines.end();
  const searcher = new Searcher(values);
  const control = new Searcher({ control: CONTROL });
  const secrets = new Searcher({ ...values, ...tokens });

  await test.step(`answers to a browser and to clients (${answered.length})`, async () => {
    const leaks = answered.flatMap(({ what, text }) => searcher.in(text).map((found) => `${what}: ${found}`));
    expect(leaks).toEqual([]);
    expect(answered.some(({ text }) => control.in(text).length > 0)).toBe(true);
  });
  await test.step("log lines", async () => {
    expect(secrets.in(sealport.said)).toEqual([]);
    expect(new Searcher({ route: "/_fn/secret_add" }).in(sealport.said)).not.toEqual([]);
  });
  await test.step(`command lines (${commandLines.seen.size})`, async () => {
    const leaks = [...commandLines.seen].flatMap((line) => searcher.in(Buffer.from(line, "latin1")).map((found) => `${line.slice(0, 200)}: ${found}`));
    expect(leaks).toEqual([]);
    expect([...commandLines.seen].some((line) => control.in(line).length > 0)).toBe(true);
    expect([...commandLines.seen].some((line) => line.includes("server.mjs"))).toBe(true);
  });
  await test.step("the database, dumped", async () => {
    const text = dump(sealport);
    expect(secrets.in(text)).toEqual([]);
    expect(control.in(text)).not.toEqual([]);
  });
  await test.step("every file, while it runs", () => nothingInFiles({ ...values, ...tokens }, sealport));
}

/** The same of its files alone. */
export async function nothingInFiles(secrets: Record<string, string>, sealport: Sealport): Promise<void> {
  const searcher = new Searcher(secrets);
  const control = new Searcher({ control: CONTROL });
  const leaks: string[] = [];
  let controls = 0;
  for (const path of filesOf(sealport)) {
    try {
      leaks.push(...(await searcher.inFile(path)).map((found) => `${path}: ${found}`));
      controls += (await control.inFile(path)).length;
    } catch (error) {
      // PostgreSQL removes files while it runs.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  expect(leaks).toEqual([]);
  expect(controls).toBeGreaterThan(0);
}

/** All that belongs to a data directory, also what lies elsewhere because other users must reach it. */
function filesOf(sealport: Sealport): string[] {
  const note = join(sealport.data, "where-the-rest-is.txt");
  const places = [sealport.data];
  if (existsSync(note)) {
    const place = readFileSync(note, "utf8").split("\n").find((line) => line !== "" && !line.startsWith("#"));
    if (place) places.push(place.trim());
  }
  return places.flatMap(filesUnder).filter((path) => !isProgram(path));
}

/** The copy of the program that starts servers: it is older than any value, and so large that pieces of hex stand in it by chance. */
function isProgram(path: string): boolean {
  if (!/\/\.launcher\/[^/]+\/sealport$/.test(path)) return false;
  return lstatSync(path, { throwIfNoEntry: false })?.size === statSync(PROGRAM).size;
}

function filesUnder(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isFile());
}

/** Everything that the database holds, as the cluster's superuser sees it, in text and in binary forms. */
function dump(sealport: Sealport): string {
  const pidFile = filesOf(sealport).find((path) => path.endsWith("/postmaster.pid"));
  if (!pidFile) throw new Error("no PostgreSQL runs in this data directory");
  // Lines as in PostgreSQL's pidfile.h: 4 is the port, 5 the socket directory.
  const lines = readFileSync(pidFile, "utf8").split("\n");
  const args = ["--host", lines[4] ?? "", "--port", lines[3] ?? "", "--username", "postgres"];
  const env = { PATH: `${process.env.PATH}:${postgresBin()}` };
  const run = (program: string, more: string[], input = "") =>
    execFileSync(program, [...args, ...more], { encoding: "latin1", env, input, maxBuffer: 1 << 30 });
  // Bytes stand in hex in a dump; once more as they are escaped, so that text inside them shows.
  const tables = `select format('select %L, t.* from %I.%I t', table_name, table_schema, table_name)
    from information_schema.tables
    where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE' \\gexec`;
  const escaped = run(
    "psql",
    ["--dbname=sealport", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"],
    `set bytea_output = 'escape';\n${tables}\n`,
  );
  return run("pg_dump", ["sealport"]) + escaped;
}

function postgresBin(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions.map((version) => join(root, version, "bin")).join(":");
}

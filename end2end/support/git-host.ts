// A git repository over https on this machine, with a certificate of its own.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ROOT } from "./sealport.ts";

export class GitHost {
  readonly place = mkdtempSync(join(tmpdir(), "sealport-git-"));
  port = 0;
  #process: ChildProcess | undefined;

  static async open(fetchKey: string): Promise<GitHost> {
    const host = new GitHost();
    const at = (name: string) => join(host.place, name);
    // The guest that fetches is another user, and reads the certificate.
    chmodSync(host.place, 0o755);
    execFileSync("openssl", [
      "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a host for tests",
      "-addext", "subjectAltName=DNS:localhost,DNS:host.sealport.internal,IP:127.0.0.1",
      "-keyout", at("key.pem"), "-out", at("ca.pem"),
    ], { stdio: "ignore" });
    chmodSync(at("ca.pem"), 0o644);
    for (const folder of ["git", "npm"]) mkdirSync(at(folder));
    const script = join(ROOT, "tests/fixtures/sources/host.py");
    const child = spawn("python3", [script, host.place, at("ca.pem"), at("key.pem"), "-"], { env: { ...process.env, FETCH_KEY: fetchKey }, stdio: ["ignore", "pipe", "ignore"] });
    host.#process = child;
    host.port = await new Promise<number>((done, failed) => {
      child.stdout?.once("data", (line: Buffer) => done(Number(line.toString())));
      child.once("exit", () => failed(new Error("the git host did not start")));
    });
    return host;
  }

  /** What Sealport has to be told so that sources may come from here. */
  get settings(): Record<string, string> {
    return { SEALPORT_SOURCE_HOSTS: `127.0.0.1,localhost:${this.port}`, GIT_SSL_CAINFO: join(this.place, "ca.pem") };
  }

  /** A repository with what `from` holds in `folder`, on this branch. Returns its address. */
  repository(name: string, branch: string, folder: string, from: string): string {
    const tree = join(this.place, `tree-${name}`);
    cpSync(from, join(tree, folder), { recursive: true });
    const git = (...args: string[]) => execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@t.example", ...args], { cwd: tree, stdio: "ignore" });
    git("init", "--quiet", `--initial-branch=${branch}`);
    git("add", "--all");
    git("commit", "--quiet", "--message=one");
    git("clone", "--quiet", "--bare", ".", join(this.place, "git", `${name}.git`));
    return `https://localhost:${this.port}/git/${name}.git`;
  }

  close(): void {
    this.#process?.kill();
    rmSync(this.place, { recursive: true, force: true });
  }
}

// Stands between whoever asks and Sealport, passes everything on as it is, and keeps every byte of every answer: of redirects, of streams
// and of what was given up half-way too, which a browser does not show to a test.

import { createServer, type IncomingMessage, request as ask, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { brotliDecompressSync, constants, gunzipSync, inflateSync } from "node:zlib";

/** What has not come to its end by then never will. */
const SETTLE_TIMEOUT_MS = 10_000;

export type Answer = { what: string; text: Buffer };

/** An answer while it comes. */
type Coming = { what: string; headers: string; encoding: string; isStream: boolean; pieces: Buffer[]; ended: boolean };

/** Every answer, headers and body. */
export class Answers {
  /** What a test adds of what it read in other ways. */
  readonly #added: Answer[] = [];
  readonly #coming: Coming[] = [];
  /** Asked, and not answered at all yet. */
  readonly #asked = new Set<{ what: string }>();
  readonly #server: Server = createServer((request, response) => this.#pass(request, response));
  #port = 0;

  static async open(): Promise<Answers> {
    const answers = new Answers();
    await new Promise<void>((done) => answers.#server.listen(0, "127.0.0.1", done));
    return answers;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What a Sealport has to be told so that this is where people find it. */
  get settings(): Record<string, string> {
    return { SEALPORT_PUBLIC_URL: this.url };
  }

  /** The port on loopback of what is asked in the end. */
  leadTo(port: number): void {
    this.#port = port;
  }

  add(what: string, text: string): void {
    this.#added.push({ what, text: Buffer.from(text) });
  }

  /** All of them, once nothing but streams is still coming; of those, what has come. */
  async all(): Promise<Answer[]> {
    const unread = () => [...this.#asked, ...this.#coming.filter(({ ended, isStream }) => !ended && !isStream)];
    const deadline = Date.now() + SETTLE_TIMEOUT_MS;
    while (unread().length > 0) {
      if (Date.now() > deadline) throw new Error(`never read to their end: ${unread().map(({ what }) => what).join(", ")}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    const read = this.#coming.flatMap(({ what, headers, encoding, pieces }) => [
      { what: `${what}, headers`, text: Buffer.from(headers) },
      { what, text: decoded(Buffer.concat(pieces), encoding, what) },
    ]);
    return [...read, ...this.#added];
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #pass(request: IncomingMessage, response: ServerResponse): void {
    const { method = "", url = "", rawHeaders } = request;
    const asked = { what: `${method} ${url}` };
    this.#asked.add(asked);
    // An agent that keeps connections would meet one that a stopped server has closed.
    const onward = ask({ host: "127.0.0.1", port: this.#port, method, path: url, headers: rawHeaders, agent: false });
    const giveUp = () => {
      this.#asked.delete(asked);
      onward.destroy();
      request.socket.destroy();
    };
    onward.once("error", giveUp);
    response.once("close", giveUp);
    onward.once("response", (answer) => {
      this.#asked.delete(asked);
      response.off("close", giveUp);
      this.#keep(`${asked.what} → ${answer.statusCode}`, answer, response);
    });
    request.pipe(onward);
  }

  #keep(what: string, answer: IncomingMessage, response: ServerResponse): void {
    const { statusCode = 0, statusMessage, rawHeaders, headers } = answer;
    const isStream = headers["content-type"]?.startsWith("text/event-stream") ?? false;
    const coming: Coming = { what, headers: `${statusMessage}\n${rawHeaders.join("\n")}`, encoding: headers["content-encoding"] ?? "", isStream, pieces: [], ended: false };
    this.#coming.push(coming);
    response.writeHead(statusCode, statusMessage, rawHeaders);
    // Sent before a first piece: a stream may have nothing to say for long.
    response.flushHeaders();
    answer.on("data", (piece: Buffer) => {
      coming.pieces.push(piece);
      if (!response.write(piece)) {
        answer.pause();
        response.once("drain", () => answer.resume());
      }
    });
    answer.once("end", () => response.end());
    answer.once("error", () => response.destroy());
    response.once("close", () => answer.destroy());
    answer.once("close", () => (coming.ended = true));
  }
}

/** The text of a body, also of one that broke off. */
function decoded(body: Buffer, encoding: string, what: string): Buffer {
  if (body.length === 0) return body;
  const finishFlush = constants.Z_SYNC_FLUSH;
  switch (encoding) {
    case "":
    case "identity":
      return body;
    case "br":
      return brotliDecompressSync(body, { finishFlush: constants.BROTLI_OPERATION_FLUSH });
    case "gzip":
      return gunzipSync(body, { finishFlush });
    case "deflate":
      return inflateSync(body, { finishFlush });
    default:
      throw new Error(`${what} comes as ${encoding}, which nobody here reads`);
  }
}

// An HTTP listener on loopback that keeps what it was sent and answers each request alike.

import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** Where a guest finds the host's loopback, when that is listed in SEALPORT_SOURCE_HOSTS. */
const HOST_OF_GUESTS = "10.0.2.2";

export class Listener {
  readonly requests: { path: string; headers: IncomingMessage["headers"] }[] = [];
  #server: Server;

  private constructor(answer: unknown) {
    this.#server = createServer((request, response) => {
      this.requests.push({ path: request.url ?? "", headers: request.headers });
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(answer));
    });
  }

  static async open(answer: unknown): Promise<Listener> {
    const listener = new Listener(answer);
    await new Promise<void>((done) => listener.#server.listen(0, "127.0.0.1", done));
    return listener;
  }

  /** Its address as a guest has to say it. */
  get urlForGuests(): string {
    return `http://${HOST_OF_GUESTS}:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** A longer way to the database: a TCP proxy that hands everything on a little later, in order. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export interface Delay extends AsyncDisposable {
  readonly url: string;
  /** Each way. */
  delayMs: number;
}

/** @param url of a PostgreSQL on this machine */
export async function createDelay(url: string): Promise<Delay> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let delayMs = 0;
  const hand = (from: Socket, to: Socket): void => {
    sockets.add(from);
    // One timer after the other has the same length, and so they fire in order.
    const later = (run: () => void): void => void (delayMs === 0 ? run() : setTimeout(run, delayMs));
    from.on("data", (chunk) => later(() => void to.write(chunk)));
    from.on("error", () => to.destroy());
    from.on("close", () => {
      sockets.delete(from);
      to.destroy();
    });
  };
  const server = createServer((client) => {
    const database = connect(Number(target.port), target.hostname);
    hand(client.setNoDelay(), database);
    hand(database.setNoDelay(), client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const near = new URL(url);
  near.port = String((server.address() as { port: number }).port);
  return {
    url: near.href,
    get delayMs() {
      return delayMs;
    },
    set delayMs(value) {
      delayMs = value;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

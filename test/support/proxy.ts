/** A TCP proxy that breaks a connection in the ways that networks do. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/**
 * - `pass`: hands everything on.
 * - `refuse`: ends the connections there are, and every new one.
 * - `swallow`: takes new connections and bytes, and hands nothing on in either direction: no answer, no error.
 * - `swallowReplies`: requests arrive, answers do not.
 * - `hold`: keeps what comes in either direction, and hands it on, whole and in order, once the mode changes.
 */
type ProxyMode = "pass" | "refuse" | "swallow" | "swallowReplies" | "hold";

export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** Where to; may be set after the proxy listens, for a server that must be told the proxy's port. */
  target: { readonly host: string; readonly port: number };
  /**
   * How connections fare from now on. Leaving a swallowing mode ends the connections from which something was
   * swallowed: a stream with a hole in it would be no longer a network's fault but the proxy's.
   */
  mode: ProxyMode;
  /** Each chunk is handed on this much later, in order, in both directions. */
  delayMs: number;
  /** Bytes a second in each direction of each connection; 0 is no limit. */
  rateBytes: number;
  /** Ends the connections there are; new ones fare by `mode`. */
  cut(): void;
  /** So far. `open` is the number of connections right now, `held` that of directions in which something is kept. */
  readonly counts: {
    readonly connections: number;
    readonly open: number;
    readonly held: number;
    readonly requestBytes: number;
    readonly replyBytes: number;
    readonly swallowedBytes: number;
  };
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket | undefined;
  /** Something was swallowed: its streams are not whole any more. */
  holed: boolean;
}

/** A proxy on a free port of 127.0.0.1. `await using proxy = await createProxy({ host, port })`, or call `close`. */
export async function createProxy(target: { readonly host: string; readonly port: number }): Promise<Proxy> {
  const pairs = new Set<Pair>();
  const counts = { connections: 0, open: 0, held: 0, requestBytes: 0, replyBytes: 0, swallowedBytes: 0 };
  let released = Promise.withResolvers<void>();
  let mode: ProxyMode = "pass";
  const end = (pair: Pair): void => {
    pair.client.destroy();
    pair.server?.destroy();
    if (pairs.delete(pair)) counts.open = pairs.size;
  };
  const cut = (): void => {
    for (const pair of [...pairs]) end(pair);
  };

  const untilDue = async (chunk: Buffer): Promise<void> => {
    const waitMs = proxy.delayMs + (proxy.rateBytes > 0 ? (chunk.length / proxy.rateBytes) * 1000 : 0);
    if (waitMs > 0) await delay(waitMs);
    counts.held += 1;
    while (mode === "hold") await released.promise;
    counts.held -= 1;
  };

  const carry = (pair: Pair, from: Socket, to: Socket | undefined, count: "requestBytes" | "replyBytes"): void => {
    from.on("error", () => end(pair));
    from.on("close", () => end(pair));
    const handOn = async (chunk: Buffer): Promise<void> => {
      await untilDue(chunk);
      if (to?.destroyed) return;
      if (!to || mode === "swallow" || (mode === "swallowReplies" && count === "replyBytes")) {
        pair.holed = true;
        counts.swallowedBytes += chunk.length;
        return;
      }
      counts[count] += chunk.length;
      if (!to.write(chunk)) await new Promise<void>((drained) => to.once("drain", drained).once("close", drained));
    };
    let before: Promise<void> = Promise.resolve();
    from.on("data", (chunk: Buffer) => {
      from.pause();
      before = before.then(() => handOn(chunk)).then(() => void from.resume());
    });
  };

  const listener = createServer((client) => {
    counts.connections += 1;
    if (mode === "refuse") return void client.on("error", () => undefined).destroy();
    // A swallowed connection never reaches the server.
    const server = mode === "swallow" ? undefined : connect(proxy.target.port, proxy.target.host);
    const pair: Pair = { client, server, holed: server === undefined };
    pairs.add(pair);
    counts.open = pairs.size;
    client.setNoDelay(true);
    server?.setNoDelay(true);
    carry(pair, client, server, "requestBytes");
    if (server) carry(pair, server, client, "replyBytes");
  }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");

  const close = async (): Promise<void> => {
    const closed = once(listener, "close");
    listener.close();
    cut();
    await closed;
  };
  const proxy: Proxy = {
    port: address.port,
    target,
    get mode() {
      return mode;
    },
    set mode(next: ProxyMode) {
      mode = next;
      released.resolve();
      released = Promise.withResolvers();
      if (next === "refuse") cut();
      if (next === "pass") for (const pair of [...pairs]) if (pair.holed) end(pair);
    },
    delayMs: 0,
    rateBytes: 0,
    cut,
    counts,
    close,
    [Symbol.asyncDispose]: close,
  };
  return proxy;
}

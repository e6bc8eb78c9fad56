/** A TCP proxy that lengthens or breaks a connection in the ways that networks do. */
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

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Where to; may be set after the proxy listens, for a server that must be told the proxy's port. */
  target: { readonly host: string; readonly port: number };
  /**
   * How connections fare from now on. Leaving a swallowing mode ends the connections from which something was
   * swallowed: a stream with a hole in it would be no longer a network's fault but the proxy's.
   */
  mode: ProxyMode;
  /** Everything is handed on this much later, in order, in both directions: a longer way, and as wide as before. */
  delayMs: number;
  /** Bytes a second in each direction of each connection; 0 is no limit. */
  rateBytes: number;
  /** Ends the connections there are; new ones fare by `mode`. */
  cut(): void;
  /**
   * So far. `open` is the number of connections right now, `held` that of directions in which something is kept by `hold`,
   * `waitingBytes` what was taken and is not handed on yet.
   */
  readonly counts: {
    readonly connections: number;
    readonly open: number;
    readonly held: number;
    readonly waitingBytes: number;
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

/** On their way in one direction of one connection: 8 MiB are 160 MiB a second at 50 ms. */
export const DELAYED_BYTES_MAX = 8 * 1024 * 1024;

/** A proxy on a free port of 127.0.0.1. `await using proxy = await createProxy({ host, port })`, or call `close`. */
export async function createProxy(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  const counts = {
    connections: 0,
    open: 0,
    held: 0,
    waitingBytes: 0,
    requestBytes: 0,
    replyBytes: 0,
    swallowedBytes: 0,
  };
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

  const untilDue = async (chunk: Buffer, dueMs: number): Promise<void> => {
    await rest(dueMs - performance.now());
    if (proxy.rateBytes > 0) await rest((chunk.length / proxy.rateBytes) * 1000);
    counts.held += 1;
    while (mode === "hold") await released.promise;
    counts.held -= 1;
  };

  const carry = (pair: Pair, from: Socket, to: Socket | undefined, way: "requestBytes" | "replyBytes"): void => {
    const handOn = async (chunk: Buffer, dueMs: number): Promise<void> => {
      await untilDue(chunk, dueMs);
      if (to?.destroyed) return;
      if (!to || mode === "swallow" || (mode === "swallowReplies" && way === "replyBytes")) {
        pair.holed = true;
        counts.swallowedBytes += chunk.length;
        return;
      }
      counts[way] += chunk.length;
      if (!to.write(chunk)) await new Promise<void>((drained) => to.once("drain", drained).once("close", drained));
    };
    let before: Promise<void> = Promise.resolve();
    let waitingBytes = 0;
    const count = (bytes: number): void => {
      waitingBytes += bytes;
      counts.waitingBytes += bytes;
      // Without a delay one chunk at a time: whoever sends feels at once what keeps it.
      if (waitingBytes > (proxy.delayMs > 0 ? DELAYED_BYTES_MAX : 0)) from.pause();
      else from.resume();
    };
    from.on("data", (chunk: Buffer) => {
      const dueMs = performance.now() + proxy.delayMs;
      count(chunk.length);
      before = before.then(() => handOn(chunk, dueMs)).then(() => count(-chunk.length));
    });
    from.on("error", () => end(pair));
    // What came before the end arrives before it.
    from.on("close", () => void before.then(() => end(pair)));
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
  const proxy: TcpProxy = {
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

/** Without keeping the process alive: a proxy may be closed while something is on its way. */
const rest = async (ms: number): Promise<void> => {
  if (ms > 0) await delay(Math.ceil(ms), undefined, { ref: false });
};

/** A proxy before a PostgreSQL, and the URL that leads through it. */
export async function proxiedPostgres(url: string): Promise<{ readonly proxy: TcpProxy; readonly url: string }> {
  const near = new URL(url);
  const proxy = await createProxy({ host: near.hostname, port: Number(near.port || 5432) });
  near.hostname = "127.0.0.1";
  near.port = String(proxy.port);
  return { proxy, url: near.href };
}

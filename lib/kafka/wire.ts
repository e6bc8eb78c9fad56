/** The sockets of one client. kafkajs waits for answers before it closes one; an owner who gives up must not. */
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ISocketFactoryArgs } from "kafkajs";

const KEEP_ALIVE_MS = 60_000;
/** Kafka's protocol: a request is its size (int32), then its kind (int16); 0 is Produce. */
const KIND_AT = 4;
const PRODUCE = 0;

export class Wire {
  readonly #brokers: readonly string[];
  readonly #sockets = new Set<Socket>();
  #closed = false;
  #produceRequests = 0;

  /** @param brokers `host:port` of each */
  constructor(brokers: readonly string[]) {
    this.#brokers = brokers;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** How many Produce requests were handed to the network so far: none since a moment means nothing was stored since. */
  get produceRequests(): number {
    return this.#produceRequests;
  }

  /** For kafkajs: an empty list is the one answer after which it stops retrying, so nothing outlives `close`. */
  readonly brokers = (): string[] => (this.#closed ? [] : [...this.#brokers]);

  /** For kafkajs. */
  readonly open = ({ host, port, ssl, onConnect }: ISocketFactoryArgs): Socket => {
    if (this.#closed) throw new Error("this client was closed");
    const socket = isTls(ssl)
      ? connectTls({ host, port, ...(isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
      : connect({ host, port }, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    this.#countProduceRequests(socket);
    letGoQuietly(socket);
    return socket;
  };

  /** Breaks the connections: what waits for an answer fails, and the next request connects anew. */
  reset(why: string): void {
    // kafkajs listens to `error` and `end` only: without an error it would not notice.
    for (const socket of this.#sockets) socket.destroy(new Error(why));
  }

  /** Breaks the connections for good. */
  close(): void {
    this.#closed = true;
    this.reset("closed by its owner");
  }

  #countProduceRequests(socket: Socket): void {
    const write = socket.write.bind(socket) as (chunk: Buffer, encoding: BufferEncoding) => boolean;
    socket.write = ((chunk: Buffer, encoding: BufferEncoding): boolean => {
      if (chunk.length > KIND_AT + 2 && chunk.readInt16BE(KIND_AT) === PRODUCE) this.#produceRequests++;
      return write(chunk, encoding);
    }) as Socket["write"];
  }
}

/**
 * kafkajs lets go of a connection each time that it finds it broken. On a socket that never connected, Node keeps each
 * `unref` for the day when it does: eleven tries at a broker that is away, and it warns of a leak.
 */
function letGoQuietly(socket: Socket): void {
  const unref = socket.unref.bind(socket);
  socket.unref = () => (socket.destroyed ? socket : unref());
}

/** kafkajs hands on what it was given: `true`, options, or nothing. */
function isTls(ssl: unknown): ssl is object | true {
  return ssl !== undefined && ssl !== null && ssl !== false;
}

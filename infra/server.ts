/** What every way of providing Kafka or Postgres gives: a server that can be started, stopped, restarted and killed. */

/** Prints one line for the person at the terminal. */
export type Say = (line: string) => void;

export interface Server {
  /** One line: what was chosen, where its data lies, on which ports. */
  readonly what: string;
  /** The process that `kill` kills; undefined while it does not run here or is not known (given servers, containers). */
  readonly pid: number | undefined;
  /** Resolves when it answers. A server that runs already stays as it is. @throws with the end of its log, nothing left running */
  start(): Promise<void>;
  /** Ends it in its own orderly way, by force after a limit. A start that is under way is cut short, and rejects. */
  stop(limitMs?: number): Promise<void>;
  /** `stop`, then `start`, on the same ports and data. */
  restart(): Promise<void>;
  /** SIGKILL; resolves when the process is gone. `start` afterwards brings it back on the same ports and data. */
  kill(): Promise<void>;
  /** Kills it and deletes its data; for throw-away servers. */
  remove(): Promise<void>;
}

export interface KafkaServer extends Server {
  /** `host:port`, as KAFKA_BROKERS wants it. */
  readonly brokers: string;
  /** The port it listens on, which differs from the one in `brokers` behind a proxy. Undefined for a given one. */
  readonly ownPort?: number;
}

export interface PostgresServer extends Server {
  /** As DATABASE_URL wants it. */
  readonly url: string;
  /** The command by which a person deletes what Spillway keeps in it. */
  readonly deletion: string;
}

/** What a server is made from, whichever way provides it. */
export interface ServerOptions {
  /** A folder of its own; created when missing, kept by `stop`. */
  readonly dataDir: string;
  readonly say: Say;
  /** Called when the server ends without having been told to. */
  readonly onDeath?: (how: string) => void;
}

export interface KafkaOptions extends ServerOptions {
  /** The port that clients are told to use, when it is not the broker's own: that of a proxy in front of it. */
  readonly advertisedPort?: number;
  /** What else a native broker has: for tests of what it demands of clients. */
  readonly guarded?: Guarded;
}

/** Listeners beside the usual one, which asks nothing of anybody. */
export interface Guarded {
  /** By name. */
  readonly listeners: Readonly<Record<string, { readonly port: number; readonly protocol: string }>>;
  /** The broker's own settings, on top of the usual ones. */
  readonly settings: Readonly<Record<string, string>>;
  /** Name → password, for both mechanisms of SCRAM. */
  readonly users: Readonly<Record<string, string>>;
}

export interface PostgresOptions extends ServerOptions {
  /** Postgres' own settings on top of the defaults here, such as `{ fsync: "off" }` for throw-away data. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** This way of providing a server cannot work on this machine; the message says what is missing and how to get it. */
export class Missing extends Error {}

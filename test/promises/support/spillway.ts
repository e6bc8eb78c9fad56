/** A small Spillway under test: real role processes on free ports, with a topic and a database of its own. */
import { freePorts } from "../../../infra/ports.ts";
import { sharedBrokers, uniqueTopic } from "../../support/kafka.ts";
import { type Database, freshDatabase, queryOnce } from "../../support/postgres.ts";
import { type App, startApp } from "../../support/process.ts";
import { type Counts, check, shortened, tooSeldom } from "./checker.ts";
import { History } from "./history.ts";
import { Producer } from "./producer.ts";
import { Reader } from "./reader.ts";
import { type FinalRead, LogView, readTruth, type Truth, untilSaved } from "./truth.ts";

export type Kind = "ingest" | "sink" | "query" | "web" | "relay";

export interface SpillwayOptions {
  /** How many of each; default none. */
  readonly ingests?: number;
  readonly sinks?: number;
  readonly queries?: number;
  /** Default: the shared broker, as `host:port`. */
  readonly brokers?: string;
  /** The database to use, which the caller owns; default: a fresh one on the shared server. */
  readonly databaseUrl?: string;
  /** What the roles are told for DATABASE_URL, when a proxy stands before the database; the test itself goes past it. */
  readonly rolesDatabaseUrl?: string;
  readonly rolesBrokers?: string;
  readonly topic?: string;
  /** On top of what every role gets, for all of them. */
  readonly env?: Readonly<Record<string, string>>;
}

/** 4 partitions are enough to have several lanes, and keep the shared broker small. */
const PARTITIONS = 4;
const SESSION_TIMEOUT_MS = 6_000;

/** A role's process, which can die and come back on the same port. */
export class Role {
  /** `ingest-1` */
  readonly name: string;
  readonly url: string;
  readonly #main: string;
  readonly #env: Readonly<Record<string, string>>;
  #app: App | undefined;
  #killed: App | undefined;

  constructor(name: string, kind: Kind, port: number, env: Readonly<Record<string, string>>) {
    this.name = name;
    this.url = `http://127.0.0.1:${port}`;
    this.#main = `apps/${kind}/main.ts`;
    this.#env = { ...env, PORT: String(port) };
  }

  /** The process now or last running. */
  get app(): App {
    if (this.#app === undefined) throw new Error(`${this.name} was not started`);
    return this.#app;
  }

  /** How the process ended, with its last lines, if it was not killed here and not a clean end: tells why a test fails. */
  get failure(): string | undefined {
    const { ended, lines = [] } = this.#app ?? {};
    if (ended === undefined || ended === "exit code 0" || this.#killed === this.#app) return undefined;
    const last = lines.slice(-8).map((line) => line.slice(0, 500));
    return `ended with ${ended}:\n${last.join("\n")}`;
  }

  /** Starts the process; ready or not is the caller's to wait for. */
  async launch(): Promise<App> {
    this.#app = await startApp(this.#main, this.#env);
    return this.#app;
  }

  /** Starts the process and waits for /readyz. */
  async start(): Promise<App> {
    const app = await this.launch();
    await app.ready();
    return app;
  }

  /** SIGKILL; resolves when it is gone. A frozen process too. */
  async kill(): Promise<void> {
    this.#killed = this.#app;
    await this.#app?.kill();
  }

  /** SIGKILL, then `start`. */
  async restart(): Promise<App> {
    await this.kill();
    return this.start();
  }
}

export class Spillway implements AsyncDisposable {
  readonly topic: string;
  readonly brokers: string;
  readonly database: Database;
  readonly history = new History();
  readonly producer = new Producer(this.history);
  readonly reader = new Reader(this.history);
  readonly roles: Role[] = [];
  readonly #env: Readonly<Record<string, string>>;
  /** Of the log in use. */
  #view: LogView | undefined;
  /** Of those before it. */
  readonly #before: LogView[] = [];

  constructor(topic: string, brokers: string, database: Database, env: Readonly<Record<string, string>>) {
    this.topic = topic;
    this.brokers = brokers;
    this.database = database;
    this.#env = env;
  }

  get ingests(): readonly Role[] {
    return this.#all("ingest");
  }

  get sinks(): readonly Role[] {
    return this.#all("sink");
  }

  get queries(): readonly Role[] {
    return this.#all("query");
  }

  /** The first ingest node. */
  get ingest(): Role {
    return first(this.ingests, "ingest");
  }

  /** The first sink. */
  get sink(): Role {
    return first(this.sinks, "sink");
  }

  /** The first query node. */
  get query(): Role {
    return first(this.queries, "query");
  }

  /** One more role; its process is not started yet. */
  async add(kind: Kind, env: Readonly<Record<string, string>> = {}): Promise<Role> {
    const [port] = await freePorts(1);
    if (port === undefined) throw new Error("no free port");
    const role = new Role(`${kind}-${this.#all(kind).length + 1}`, kind, port, { ...this.#env, ...env });
    this.roles.push(role);
    return role;
  }

  /** One more role, ready. */
  async start(kind: Kind, env: Readonly<Record<string, string>> = {}): Promise<Role> {
    const role = await this.add(kind, env);
    await role.start();
    return role;
  }

  /** The topic as it is, past the product's own code paths. */
  async log(): Promise<LogView> {
    this.#view ??= await LogView.open(this.brokers, this.topic);
    return this.#view;
  }

  /** From now on another topic is the log. */
  async adopted(topic: string): Promise<void> {
    const view = await this.log();
    this.#before.push(view);
    this.#view = await LogView.open(this.brokers, topic, view.epoch + 1);
  }

  /** Resolves once every record of the topic lies below its checkpoint. */
  async saved(limitMs?: number): Promise<void> {
    await untilSaved(await this.log(), this.database, limitMs);
  }

  /**
   * The truth, with a fresh walk of every client on every running query node. Nothing may be under way any more.
   * @param nodes to walk on; default all query nodes
   */
  async truth(nodes: readonly Role[] = this.queries): Promise<Truth> {
    const clients = new Set(this.history.entries.map(({ clientId }) => clientId));
    const finals: FinalRead[] = [];
    for (const node of nodes)
      for (const clientId of clients) {
        const { pages } = await this.reader.walk(node, { clientId, limit: 1_000 });
        finals.push({ node: node.name, clientId, events: pages.flatMap(({ events }) => events) });
      }
    return { ...(await readTruth([...this.#before, await this.log()], this.database)), finals };
  }

  /**
   * Judges the whole history against the truth.
   * @param atLeast what must have happened for the verdict to mean anything
   * @throws with the first violations of each invariant, or with what happened too seldom
   */
  async check(atLeast: Partial<Counts>, nodes?: readonly Role[]): Promise<Counts> {
    const { violations, counts } = check(this.history, await this.truth(nodes));
    const seldom = tooSeldom(counts, atLeast);
    if (violations.length + seldom.length > 0)
      throw new Error([...shortened(violations), ...seldom, `topic ${this.topic}`].join("\n"));
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { name, failure } of this.roles) if (failure !== undefined) console.log(`${name} ${failure}`);
    // SIGKILL: how roles drain is not what these tests ask, and nothing needs to be kept.
    await Promise.all(this.roles.map((role) => role.kill()));
    for (const view of [...this.#before, this.#view]) await view?.[Symbol.asyncDispose]().catch(() => undefined);
    await this.database.drop().catch(() => undefined);
  }

  #all(kind: Kind): readonly Role[] {
    return this.roles.filter(({ name }) => name.startsWith(`${kind}-`));
  }
}

/**
 * Starts the roles wanted and waits until they are ready: `await using spillway = await startSpillway({ ingests: 1 })`.
 * Everything is stopped at the end of the block, also when the test fails.
 */
export async function startSpillway(options: SpillwayOptions): Promise<Spillway> {
  const { ingests = 0, sinks = 0, queries = 0, brokers = sharedBrokers(), topic = uniqueTopic() } = options;
  const { databaseUrl } = options;
  const database = databaseUrl === undefined ? await freshDatabase() : foreign(databaseUrl);
  const spillway = new Spillway(topic, brokers, database, {
    KAFKA_BROKERS: options.rolesBrokers ?? brokers,
    DATABASE_URL: options.rolesDatabaseUrl ?? database.url,
    SPILLWAY_TOPIC: topic,
    SPILLWAY_PARTITIONS: String(PARTITIONS),
    SPILLWAY_SESSION_TIMEOUT_MS: String(SESSION_TIMEOUT_MS),
    SPILLWAY_HEARTBEAT_MS: "200",
    ...options.env,
  });
  try {
    const wanted: Kind[] = [
      ...Array<Kind>(ingests).fill("ingest"),
      ...Array<Kind>(queries).fill("query"),
      ...Array<Kind>(sinks).fill("sink"),
    ];
    for (const kind of wanted) await (await spillway.add(kind)).launch();
    await Promise.all(spillway.roles.map(({ app }) => app.ready()));
    return spillway;
  } catch (error) {
    await spillway[Symbol.asyncDispose]();
    throw error;
  }
}

function foreign(url: string): Database {
  const nothing = (): Promise<void> => Promise.resolve();
  return { url, query: (text, values) => queryOnce(url, text, values), drop: nothing, [Symbol.asyncDispose]: nothing };
}

function first(roles: readonly Role[], kind: Kind): Role {
  const [role] = roles;
  if (role === undefined) throw new Error(`there is no ${kind}`);
  return role;
}

/**
 * Writers of an application that keeps its own books: with each event, in the same transaction, a line in a table of its own, numbered
 * by client under a row lock. So what was committed, and in which order, is known without a look at the event buffer.
 */
import { once } from "node:events";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { type Database, queryOnce } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";
import { seeded } from "./workload.ts";

const BOOKS = `
  CREATE TABLE app (client text PRIMARY KEY, n int NOT NULL DEFAULT 0);
  CREATE TABLE book (client text NOT NULL, n int NOT NULL, id text NOT NULL, PRIMARY KEY (client, n));`;

/** Where another transaction must be over before this one ends: so many more commits of others, or the end of the writing. */
const LONG_COMMITS = 40;

export interface Outcomes {
  commits: number;
  rollbacks: number;
  savepointRollbacks: number;
  /** The connection was lost: the books tell. */
  unknown: number;
}

type Way = "emit" | "emit_many" | "insert" | "copy";
const WAYS: readonly Way[] = ["emit", "emit_many", "insert", "copy"];

export class BufferWriters {
  readonly outcomes: Outcomes = { commits: 0, rollbacks: 0, savepointRollbacks: 0, unknown: 0 };
  /** Every id that was ever written, committed or not. */
  readonly tried = new Set<string>();
  readonly #url: string;
  readonly #clients: readonly string[];
  readonly #done = new AbortController();
  readonly #running: Promise<void>[] = [];

  private constructor(url: string, clients: readonly string[]) {
    this.#url = url;
    this.#clients = clients;
  }

  /** Makes the books, and begins. @param url of a database with the event buffer */
  static async start(url: string, clients: readonly string[], writers: number, seed: number): Promise<BufferWriters> {
    await queryOnce(url, BOOKS);
    await queryOnce(url, "INSERT INTO app (client) SELECT unnest($1::text[])", [clients]);
    const all = new BufferWriters(url, clients);
    for (let n = 0; n < writers; n++) all.#running.push(all.#write(`w${n}`, seeded(seed + n)));
    for (const one of all.#running) one.catch(() => undefined);
    return all;
  }

  /** Resolves when every writer has ended its transaction. */
  async stop(): Promise<void> {
    this.#done.abort();
    await Promise.all(this.#running);
  }

  /** Resolves once so many more transactions have committed. */
  async commits(more: number): Promise<void> {
    const goal = this.outcomes.commits + more;
    await until(`${more} more commits`, () => this.outcomes.commits >= goal, { limitMs: 90_000 });
  }

  async #write(name: string, random: () => number): Promise<void> {
    let client: pg.Client | null = null;
    for (let n = 0; !this.#done.signal.aborted; n++) {
      try {
        client ??= await this.#connect();
        await this.#transaction(client, `${name}-${n}`, random);
      } catch (error) {
        const refused =
          error instanceof pg.DatabaseError && !/^57P/.test(error.code ?? "") && error.severity === "ERROR";
        if (client !== null && refused) {
          // 40P01 as a rule: writers of several clients in different orders.
          this.outcomes.rollbacks++;
          await client.query("ROLLBACK").catch(() => undefined);
          continue;
        }
        this.outcomes.unknown++;
        await client?.end().catch(() => undefined);
        client = null;
      }
    }
    await client?.end();
  }

  async #connect(): Promise<pg.Client> {
    return until(
      "a connection",
      async () => {
        const client = new pg.Client({ connectionString: this.#url, application_name: "writer" });
        client.on("error", () => undefined);
        await client.connect();
        return client;
      },
      { limitMs: 60_000 },
    );
  }

  async #transaction(client: pg.Client, name: string, random: () => number): Promise<void> {
    await client.query("BEGIN");
    const steps = 1 + Math.floor(random() * 3);
    for (let step = 0; step < steps; step++) {
      const undone = random() < 0.15;
      await client.query("SAVEPOINT step");
      await this.#step(client, `${name}-${step}`, random);
      if (!undone) continue;
      await client.query("ROLLBACK TO SAVEPOINT step");
      this.outcomes.savepointRollbacks++;
    }
    if (random() < 0.03) {
      const goal = this.outcomes.commits + LONG_COMMITS;
      // Others may all wait for this one's clients: then it goes on by itself.
      await until("others commit", () => this.#done.signal.aborted || this.outcomes.commits >= goal, {
        limitMs: 1_500,
      }).catch(() => undefined);
    }
    if (random() < 0.2) {
      await client.query("ROLLBACK");
      this.outcomes.rollbacks++;
    } else {
      await client.query("COMMIT");
      this.outcomes.commits++;
    }
  }

  /** One to three events of one client, and their lines in the books. */
  async #step(client: pg.Client, name: string, random: () => number): Promise<void> {
    const clientId = this.#clients[Math.floor(random() * this.#clients.length)] ?? "";
    const way = WAYS[Math.floor(random() * WAYS.length)] ?? "emit";
    const ids = Array.from({ length: way === "emit" ? 1 : 1 + Math.floor(random() * 3) }, (_, n) => `${name}-${n}`);
    for (const id of ids) this.tried.add(id);
    const { rows } = await client.query<{ n: number }>("UPDATE app SET n = n + $2 WHERE client = $1 RETURNING n", [
      clientId,
      ids.length,
    ]);
    const last = rows[0]?.n ?? 0;
    const first = last - ids.length + 1;
    await client.query(
      "INSERT INTO book SELECT $1, $2::int + n - 1, id FROM unnest($3::text[]) WITH ORDINALITY AS t (id, n)",
      [clientId, first, ids],
    );
    await WRITE[way](client, clientId, ids);
  }
}

const WRITE: Readonly<Record<Way, (client: pg.Client, clientId: string, ids: readonly string[]) => Promise<unknown>>> =
  {
    emit: (client, clientId, [id]) =>
      client.query("SELECT spillway.emit($1, 't', $2, $3)", [clientId, JSON.stringify({ id, one: 1.0 }), id]),
    emit_many: (client, clientId, ids) =>
      client.query("SELECT spillway.emit_many($1)", [JSON.stringify(ids.map((id) => ({ clientId, type: "t", id })))]),
    insert: (client, clientId, ids) =>
      client.query("INSERT INTO spillway.event_buffer (client_id, type, id) SELECT $1, 't', unnest($2::text[])", [
        clientId,
        ids,
      ]),
    copy: async (client, clientId, ids) => {
      const stream = client.query(copyFrom("COPY spillway.event_buffer (client_id, type, id) FROM STDIN"));
      stream.end(ids.map((id) => `${clientId}\tt\t${id}\n`).join(""));
      await once(stream, "finish");
    },
  };

/** Ids by client in the order of the commits, as the application's own books have them. */
export async function booked(database: Pick<Database, "query">): Promise<Map<string, string[]>> {
  const rows = await database.query<{ client: string; ids: string[] }>(
    "SELECT client, array_agg(id ORDER BY n) AS ids FROM book GROUP BY client ORDER BY client",
  );
  return new Map(rows.map(({ client, ids }) => [client, ids]));
}

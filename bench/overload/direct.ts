/**
 * The designs that Spillway replaces, as one Fastify process of the usual kind: an INSERT for each request through a pool, or a queue
 * in the process that is flushed in batches. Reads come out of the same table. A process of its own.
 */
import { fastify } from "fastify";
import pg from "pg";
import type { PlainEvent } from "./load.ts";

const { DATABASE_URL, PORT, PLAIN_POOL = "10", PLAIN_QUEUE } = process.env;
/** As long as a request waits for a connection before it is refused, and as long as Spillway's do for the log. */
const CONNECT_TIMEOUT_MS = 4_500;
/** 100,000 events of 300 bytes: who has no bound fills memory instead. */
const QUEUE_MAX = 100_000;
const FLUSH_EVERY_MS = 100;
const FLUSH_ROWS = 1_000;

const pool = new pg.Pool({
  connectionString: DATABASE_URL,
  max: Number(PLAIN_POOL),
  connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
});
pool.on("error", () => undefined);
const queue: PlainEvent[] = [];

const INSERT =
  "INSERT INTO plain_event (id, client_id, type, data) VALUES ($1, $2, $3, $4::jsonb) ON CONFLICT (id) DO NOTHING";
const INSERT_MANY = `INSERT INTO plain_event (id, client_id, type, data)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]) ON CONFLICT (id) DO NOTHING`;
const NEWEST = "SELECT id, client_id, type, data FROM plain_event WHERE client_id = $1 ORDER BY seq DESC LIMIT $2";

async function insert({ id, clientId, type, data }: PlainEvent): Promise<void> {
  await pool.query(INSERT, [id, clientId, type, JSON.stringify(data)]);
}

async function flush(): Promise<void> {
  while (queue.length > 0) {
    const rows = queue.slice(0, FLUSH_ROWS);
    const columns = [rows.map(({ id }) => id), rows.map(({ clientId }) => clientId), rows.map(({ type }) => type)];
    await pool.query(INSERT_MANY, [...columns, rows.map(({ data }) => JSON.stringify(data))]);
    queue.splice(0, rows.length);
  }
}

const server = fastify({ logger: false });
server.get("/readyz", () => ({ ready: true }));
server.post<{ Body: PlainEvent }>("/api/v1/events", async ({ body }, reply) => {
  if (PLAIN_QUEUE !== undefined && queue.length >= QUEUE_MAX) return reply.code(503).send();
  if (PLAIN_QUEUE === undefined) await insert(body);
  else queue.push(body);
  return reply.code(201).send({ id: body.id });
});
server.get<{ Querystring: { clientId: string; limit: string } }>("/api/v1/events", async (request) => {
  const { rows } = await pool.query<object>(NEWEST, [request.query.clientId, request.query.limit]);
  return { events: rows };
});
await server.listen({ host: "127.0.0.1", port: Number(PORT) });
if (PLAIN_QUEUE !== undefined) {
  const again = (): void =>
    void setTimeout(
      () =>
        void flush()
          .catch(() => undefined)
          .finally(again),
      FLUSH_EVERY_MS,
    );
  again();
}

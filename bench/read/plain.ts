/** The yardstick for pages: Fastify and pg, the plain SELECT of the same rows, as JSON. A process of its own. */
import { fastify } from "fastify";
import pg from "pg";

const { DATABASE_URL, PORT, PLAIN_CONNECTIONS = "10" } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(PLAIN_CONNECTIONS) });
const server = fastify({ logger: false });
const SELECT = `SELECT id, client_id AS "clientId", type, occurred_at AS "occurredAt", received_at AS "receivedAt", data, seq
  FROM plain_event WHERE client_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`;
server.get("/readyz", () => ({ ready: true }));
server.get(
  "/metrics",
  () => `process_cpu_seconds_total ${(process.cpuUsage().user + process.cpuUsage().system) / 1e6}\n`,
);
server.get<{ Querystring: { clientId: string; after: string; limit: string } }>("/api/v1/events", async (request) => {
  const { clientId, after, limit } = request.query;
  const { rows } = await pool.query(SELECT, [clientId, after, limit]);
  return { events: rows };
});
await server.listen({ host: "127.0.0.1", port: Number(PORT) });

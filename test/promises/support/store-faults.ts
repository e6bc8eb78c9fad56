/** Faults of a PostgreSQL server that a test owns. */
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";
import { partitionOf } from "#lib/partition.ts";
import { queryOnce } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";

/**
 * SIGSTOP for a server's process and all its backends, which have process groups of their own.
 * @returns thaws them: SIGCONT
 */
export function freezeFamily(pid: number | undefined): () => void {
  if (pid === undefined) throw new Error("this server's process is not known");
  // The postmaster first: it starts no more backends then.
  process.kill(pid, "SIGSTOP");
  const frozen = [pid, ...childrenOf(pid)];
  const signal = (name: NodeJS.Signals): void => {
    for (const one of frozen)
      try {
        process.kill(one, name);
      } catch (error) {
        // A backend may have ended just before it was frozen.
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
  };
  signal("SIGSTOP");
  return () => signal("SIGCONT");
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((one) => {
      if (!Number.isInteger(one)) return false;
      try {
        // pid (name) state parent …; a name may hold spaces and brackets.
        const stat = readFileSync(`/proc/${one}/stat`, "utf8");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
      } catch {
        return false;
      }
    });
}

/** Ends every session of Spillway's roles in this database; other tests may use others of the same server. @returns their pids */
export async function endSessions(url: string): Promise<number[]> {
  const ended = await queryOnce<{ pid: number }>(
    url,
    // Materialized: as a condition beside the others, the ending is tried on every database's sessions.
    `WITH own AS MATERIALIZED (
       SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'spillway%'
     )
     SELECT pid FROM own WHERE pg_terminate_backend(pid)`,
  );
  return ended.map(({ pid }) => pid);
}

/** Takes every connection that the server has, those of Spillway's roles too, and keeps them until disposed of. */
export async function takeAllConnections(url: string): Promise<AsyncDisposable> {
  const taken: pg.Client[] = [];
  const fill = async (): Promise<void> => {
    for (;;) {
      const client = new pg.Client({ connectionString: url, application_name: "crowd" });
      client.on("error", () => undefined);
      try {
        await client.connect();
      } catch (error) {
        if ((error as { code?: string }).code === "53300") return;
        throw error;
      }
      taken.push(client);
    }
  };
  // All that its user may have, less what others than Spillway hold, this crowd among them.
  const left = `SELECT current_setting('max_connections')::int - CASE WHEN usesuper THEN 0 ELSE
      current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true)::int, 0)
    END - (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND application_name NOT LIKE 'spillway%')::int AS n
    FROM pg_user WHERE usename = session_user`;
  const end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'spillway%'";
  let full = 0;
  await until("every connection is taken", async () => {
    await fill();
    const [first] = taken;
    if (first === undefined) throw new Error("no connection was to be had");
    const { rows } = await first.query<{ n: number }>(left);
    // A backend that is about to go keeps its slot for a moment: two looks must agree.
    full = rows[0]?.n === 0 ? full + 1 : 0;
    if (full === 0) await first.query(end);
    return full === 2;
  });
  return {
    [Symbol.asyncDispose]: async () => {
      await Promise.all(taken.map((client) => client.end()));
    },
  };
}

/**
 * Sets the store back to an earlier moment, as a fail-over to a replica that lags does: in one transaction every
 * checkpoint to the half of where it stands, and the rows above it are gone.
 * @param clients all that have rows
 * @returns how many rows are gone
 */
export async function setBack(url: string, clients: readonly string[], partitions: number): Promise<number> {
  const places = clients.map((clientId) => `('${clientId}', ${partitionOf(Buffer.from(clientId), partitions)})`).join();
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("BEGIN");
    await client.query(
      "UPDATE spillway.checkpoint SET next_offset = next_offset / 2, last_offset = NULL, last_hash = NULL",
    );
    const gone = await client.query(
      `DELETE FROM spillway.event e USING (VALUES ${places}) AS p(client_id, partition), spillway.checkpoint c
        WHERE e.client_id = p.client_id AND c.partition = p.partition AND e."offset" >= c.next_offset`,
    );
    await client.query("COMMIT");
    return gone.rowCount ?? 0;
  } finally {
    await client.end();
  }
}

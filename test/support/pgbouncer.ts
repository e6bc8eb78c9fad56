/** The real PgBouncer before a PostgreSQL of a test's own, where it is installed. */
import { findPgBouncer, nativePgBouncer, type PgBouncer, type PgBouncerOptions } from "../../infra/pgbouncer.ts";
import { newFolder } from "./folder.ts";
import { disposable } from "./kafka.ts";

/**
 * Whether tests can have it: `describe.skipIf(!hasPgBouncer())`. Says so where not.
 * @throws where CI runs: there it is to be installed
 */
export function hasPgBouncer(): boolean {
  if (findPgBouncer() !== undefined) return true;
  const told = "PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer), so nothing behind it";
  if (process.env["CI"]) throw new Error(`${told} can be tested`);
  console.log(`SKIPPED: ${told} was tested`);
  return false;
}

/** Running: `await using pooler = await startPgBouncer({ upstream: postgres.url, poolSize: 5 })`, or call `remove` in `afterAll`. */
export async function startPgBouncer(options: Omit<PgBouncerOptions, "dataDir">): Promise<PgBouncer & AsyncDisposable> {
  const pooler = await nativePgBouncer({ dataDir: newFolder("pgbouncer"), ...options });
  await pooler.start();
  return disposable(pooler);
}

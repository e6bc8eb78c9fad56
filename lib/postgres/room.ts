/**
 * Whether the database can give the connections that are declared: asked once, when a role first reaches it. What can never
 * hold is refused; what does not hold at this moment is only told, for it passes: a role that was killed leaves its backends
 * behind for a while, and its successor must not stop for them.
 */
import type { Log } from "#lib/log.ts";
import type { Pool } from "#lib/postgres/pool.ts";

/** What one role wants of its database. */
export interface Wanted {
  /** What its pools may open. */
  readonly share: number;
  /** What they have open now. */
  readonly held: () => number;
  /** SPILLWAY_DATABASE_CONNECTIONS_MAX: all processes together; 0: not declared. */
  readonly budget: number;
  /** Where the database is, for messages. */
  readonly address: string;
}

/** One bound on connections, and how many are in use under it. */
interface Bound {
  readonly what: string;
  readonly most: number;
  readonly used: number;
}

/** The declared connections can never be had. */
export class BudgetDoesNotHold extends Error {
  constructor(why: string) {
    super(`SPILLWAY_DATABASE_CONNECTIONS_MAX: ${why}`);
    this.name = "BudgetDoesNotHold";
  }
}

const TIMEOUT_MS = 10_000;
/**
 * Everybody may see it. Backends of all users are counted, though what others' do is hidden from most. Superusers are bound by
 * neither CONNECTION LIMIT; what is reserved for them is left to people.
 */
const ASK = `SELECT current_setting('max_connections')::int AS most,
    current_setting('superuser_reserved_connections')::int +
      CASE WHEN EXISTS (SELECT FROM pg_roles p WHERE p.rolname = 'pg_use_reserved_connections' AND pg_has_role(r.oid, p.oid, 'USAGE'))
           THEN 0 ELSE coalesce(current_setting('reserved_connections', true)::int, 0) END AS reserved,
    (SELECT sum(numbackends) FROM pg_stat_database)::int AS used,
    r.rolname AS role, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END AS role_most,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)::int AS role_used,
    d.datname AS database, CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END AS database_most,
    (SELECT numbackends FROM pg_stat_database s WHERE s.datid = d.oid)::int AS database_used
  FROM pg_roles r, pg_database d WHERE r.rolname = session_user AND d.datname = current_database()`;

interface Answer extends Readonly<Record<"role" | "database", string>> {
  readonly most: number;
  readonly reserved: number;
  readonly used: number;
  readonly role_most: number;
  readonly role_used: number;
  readonly database_most: number;
  readonly database_used: number;
  readonly [name: string]: unknown;
}

/**
 * Behind a pooler all this is the server's truth, and the role's own pool says nothing of it: its connections end at the pooler,
 * whose pools are the budget then.
 * @throws BudgetDoesNotHold; what the database gives
 */
export async function requireRoom(pool: Pool, wanted: Wanted, log: Log): Promise<void> {
  const pooled = await pool.pooled(TIMEOUT_MS);
  const [answer] = await pool.query<Answer>(ASK, [], TIMEOUT_MS);
  if (answer === undefined) return;
  const bounds = boundsOf(answer);
  const tightest = bounds.reduce((least, one) => (one.most < least.most ? one : least));
  const { share, budget, address } = wanted;
  const facts = { ...wanted, held: wanted.held(), allowed: tightest.most, by: tightest.what, pooled };
  if (budget > tightest.most)
    throw new BudgetDoesNotHold(
      `${budget} connections are declared, and the database ${address} gives at most ${tightest.most} (${tightest.what}). ` +
        `Make pools and processes fit (npm run budget -- --limit ${tightest.most}) and declare what it says, or raise that limit.`,
    );
  log.info("connections reckoned", facts);
  if (pooled) return;
  if (budget > 0 && share > budget)
    throw new BudgetDoesNotHold(
      `${budget} connections are declared for all processes together, and this one alone may open ${share}. ` +
        "Make its pool smaller (SPILLWAY_QUERY_CONNECTIONS_MAX), or declare more.",
    );
  if (share > tightest.most)
    log.warn(
      "database gives fewer connections than this role may open: make the pool smaller or raise the limit",
      facts,
    );
  for (const { what, most, used } of bounds)
    if (share - facts.held > most - used && share <= most)
      log.warn("database has too few connections left at this moment: those who wait for one may have to give up", {
        ...{ what, most, used },
        ...{ share, held: facts.held },
      });
}

function boundsOf(answer: Answer): Bound[] {
  const server = {
    what: `max_connections ${answer.most}, less ${answer.reserved} reserved`,
    most: answer.most - answer.reserved,
    used: answer.used,
  };
  const limits = [
    { what: `CONNECTION LIMIT of role ${answer.role}`, most: answer.role_most, used: answer.role_used },
    { what: `CONNECTION LIMIT of database ${answer.database}`, most: answer.database_most, used: answer.database_used },
  ];
  return [server, ...limits.filter(({ most }) => most >= 0)];
}

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
  /** For `npm run budget`: the limit as it is set, and what of it is not for pools. */
  readonly flags: string;
  /** Another way to make the budget hold, than a smaller one and a higher limit. */
  readonly otherwise: string;
}

/** The declared connections can never be had. */
export class BudgetDoesNotHold extends Error {
  constructor(why: string) {
    super(`SPILLWAY_DATABASE_CONNECTIONS_MAX: ${why}`);
    this.name = "BudgetDoesNotHold";
  }
}

const TIMEOUT_MS = 10_000;
/** A person, a backup and a monitor; docs/budget reckons with them too. */
const KEPT_FOR_PEOPLE = 3;
const NO_RIGHT = "42501";
/**
 * Everybody may see it, unless somebody has taken that right away. Backends of all users are counted, though what others' do
 * is hidden from most. Superusers are bound by neither CONNECTION LIMIT; what is reserved for them is left to people.
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
  const { share, budget, address } = wanted;
  const pooled = await pool.pooled(TIMEOUT_MS);
  if (!pooled && budget > 0 && share > budget)
    throw new BudgetDoesNotHold(
      `${budget} connections are declared for all processes together, and this one alone may open ${share}. ` +
        "Make its pool smaller (SPILLWAY_QUERY_CONNECTIONS_MAX), or declare more.",
    );
  const bounds = await ask(pool, address, log);
  const [first] = bounds;
  if (first === undefined) return;
  const tightest = bounds.reduce((least, one) => (one.most < least.most ? one : least), first);
  const facts = { ...wanted, held: wanted.held(), allowed: tightest.most, by: tightest.what, pooled };
  if (budget > tightest.most)
    throw new BudgetDoesNotHold(
      `${budget} connections are declared, and the database ${address} gives at most ${tightest.most} (${tightest.what}). ` +
        `Make pools and processes fit (npm run budget -- ${tightest.flags}) and declare what it says, or raise that limit${tightest.otherwise}.`,
    );
  log.info("connections reckoned", facts);
  if (pooled) return;
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

/** @returns none where that may not be read: whoever may use the tables can do the work all the same */
async function ask(pool: Pool, address: string, log: Log): Promise<Bound[]> {
  try {
    const answers = await pool.query<Answer>(ASK, [], TIMEOUT_MS);
    return answers.flatMap(boundsOf);
  } catch (error) {
    if ((error as { code?: unknown }).code !== NO_RIGHT) throw error;
    log.warn(
      "connections not reckoned: its user may not read what tells of limits. " +
        "GRANT SELECT ON pg_roles, pg_database, pg_stat_activity, pg_stat_database to it",
      { error: (error as Error).message, address },
    );
    return [];
  }
}

function boundsOf(answer: Answer): Bound[] {
  const server = {
    what: `max_connections ${answer.most}, less ${answer.reserved} reserved`,
    most: answer.most - answer.reserved,
    used: answer.used,
    flags: `--limit ${answer.most} --reserve ${answer.reserved + KEPT_FOR_PEOPLE}`,
    otherwise: "",
  };
  const limits = [
    {
      what: `CONNECTION LIMIT of role ${answer.role}`,
      most: answer.role_most,
      used: answer.role_used,
      otherwise: "; of processes with a user of their own declare the sum by themselves",
    },
    {
      what: `CONNECTION LIMIT of database ${answer.database}`,
      most: answer.database_most,
      used: answer.database_used,
      otherwise: "",
    },
  ];
  // Superusers' connections are not among those.
  const bounded = limits.map((one) => ({ ...one, flags: `--limit ${one.most} --reserve ${KEPT_FOR_PEOPLE}` }));
  return [server, ...bounded.filter(({ most }) => most >= 0)];
}

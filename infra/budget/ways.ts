/** What to change where a plan does not fit its limit. */
import { whole } from "../figures.ts";
import {
  connectionsFor,
  connectionsNeeded,
  deployStep,
  limitFor,
  type Plan,
  poolThatFits,
  processesThatFit,
  type Role,
  roleConnections,
  room,
  verdictOn,
} from "./budget.ts";
import { SPILLWAYS } from "./roles.ts";

/** The most that PostgreSQL takes for `max_connections`. */
const POSTGRES_MOST = 262_143;

/** `1 process`, `2 processes` */
export function counted(value: number, what: "connection" | "process"): string {
  return `${whole(value)} ${what}${value === 1 ? "" : what === "process" ? "es" : "s"}`;
}

/** Lines that name the changes; each is enough by itself. */
export function changes(plan: Plan, limit: number): string[] {
  const taking = plan.roles.filter((role) => roleConnections(role, true) > 0);
  const ways = [
    stepWay(plan, limit),
    smallerStepWay(plan, limit),
    ...taking.flatMap((role) => roleWays(plan, role, limit)),
    poolerWay(plan, limit),
  ];
  const least = limitFor(connectionsNeeded(plan, true), plan.reserved);
  const raise =
    least > POSTGRES_MOST
      ? ""
      : `raise the limit to ${whole(least)} where you may (max_connections: each connection is a process of the database)`;
  return [
    "  Change one of these, and run it again for what to set:",
    ...[...ways, raise].filter((way) => way !== "").map((way) => `  - ${way}`),
  ];
}

/** New processes of each role at a time, while no other is deployed; null: the roles do not even fit at rest. */
function steps(plan: Plan, limit: number): (readonly [Role, number])[] | null {
  if (verdictOn(connectionsNeeded(plan, false), plan.reserved, limit) !== "fits") return null;
  return plan.roles
    .filter((role) => !role.standing && roleConnections(role, false) > 0)
    .map((role) => [role, deployStep(plan, role, limit)] as const);
}

/** The deploy is what breaks the budget. The setting is what is there at rest, and the most that are new at a time. */
function stepWords(plan: Plan, found: readonly (readonly [Role, number])[]): string {
  const stopped = found.filter(([, step]) => step === 0).map(([{ name }]) => name);
  const words = found.filter(([, step]) => step > 0).map(([{ name }, step]) => `${name} ${whole(step)} at a time`);
  if (stopped.length > 0) words.push(`${stopped.join(" and ")} by stopping one first, if your host can`);
  const own = plan.roles.filter(({ name }) => SPILLWAYS.has(name));
  const rest = own.reduce((sum, role) => sum + roleConnections(role, false), 0);
  const most = Math.max(
    0,
    ...found.filter(([role]) => own.includes(role)).map(([{ connectionsEach }, step]) => step * connectionsEach),
  );
  const declared = rest === 0 ? "" : `: SPILLWAY_DATABASE_CONNECTIONS_MAX=${rest + most}`;
  return `deploy one role after another (${words.join(", ")})${declared}`;
}

function stepWay(plan: Plan, limit: number): string {
  const found = steps(plan, limit);
  return found === null ? "" : stepWords(plan, found);
}

/** Where one role after another is not enough for all of them: with query pools that are smaller, as little as it takes. */
function smallerStepWay(plan: Plan, limit: number): string {
  const query = plan.roles.find(({ name }) => name === "query");
  if (query === undefined || query.processes === 0 || steps(plan, limit)?.every(([, step]) => step > 0)) return "";
  for (let each = query.connectionsEach - 1; each >= query.connectionsMin; each -= 1) {
    const roles = plan.roles.map((role) => (role === query ? { ...query, connectionsEach: each } : role));
    const found = steps({ ...plan, roles }, limit);
    if (found?.every(([, step]) => step > 0))
      return `query: ${counted(each, "connection")} each (SPILLWAY_QUERY_CONNECTIONS_MAX), and ${stepWords({ ...plan, roles }, found)}`;
  }
  return "";
}

function roleWays(plan: Plan, role: Role, limit: number): string[] {
  const pool = poolThatFits(plan, role, limit);
  const processes = processesThatFit(plan, role, limit);
  const setting = role.name === "query" ? " (SPILLWAY_QUERY_CONNECTIONS_MAX)" : "";
  return [
    pool === null || pool >= role.connectionsEach
      ? ""
      : `${role.name}: ${counted(pool, "connection")} each instead of ${whole(role.connectionsEach)}${setting}`,
    processes === null || processes >= role.processes
      ? ""
      : `${role.name}: ${whole(processes)} instead of ${counted(role.processes, "process")}`,
  ];
}

function poolerWay(plan: Plan, limit: number): string {
  const upstream = room(limit, plan.reserved);
  if (upstream < 1) return "";
  const loads = connectionsFor(plan.loads, plan.utilisation);
  const most = `put PgBouncer (transaction mode) before the database, for all of the above, with at most ${whole(upstream)} connections to it over all PgBouncer processes`;
  if (plan.loads.length === 0) return `${most}; --load tells how many the work needs`;
  const enough = loads <= upstream ? "" : ", so make statements fewer or faster, or take a larger database";
  return `${most}; the work needs ${whole(loads)}${enough}`;
}

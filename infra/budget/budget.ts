/** The arithmetic of a connection budget. Pure: what is needed, what fits a limit, and the nearest numbers that would. */

/** In a rolling deploy the new process opens its pool before the old one closes its own: for that time a role counts twice. */
const DEPLOY_FACTOR = 2;
/** Not for pools: 3 that PostgreSQL keeps for superusers (`superuser_reserved_connections`), and 3 for a person, a backup and a monitor. */
export const RESERVED = 6;
/** Half: from there on waiting for a connection grows steeply (in a queue with one server it is as long as the statement itself). */
export const UTILISATION = 0.5;
/** A twentieth of the limit stays free: less is used up by a few backends that outlive their clients. */
const SPARE_SHARE = 20;
/** Sinks may take a quarter of the connections; the others are for those who wait for an answer. */
const SINK_SHARE = 4;
/** Rounding of products such as 0.1 * 3 must not add a connection. */
const ROUNDING = 1e-9;

/** Processes of one kind, each with a pool of its own. */
export interface Role {
  readonly name: string;
  readonly processes: number;
  readonly connectionsEach: number;
  /** Of these, connections that its load does not use (a query node's look-ups). */
  readonly asideEach: number;
  /** The fewest connections with which one process works. */
  readonly connectionsMin: number;
  /** Not deployed with the others, as a pooler beside the database: never counted twice. */
  readonly standing: boolean;
}

/** Statements of one kind. With the name of a role they go through its pools; others need connections of their own. */
export interface Load {
  readonly name: string;
  readonly perSecond: number;
  readonly ms: number;
}

export interface Plan {
  readonly roles: readonly Role[];
  readonly loads: readonly Load[];
  readonly utilisation: number;
  readonly reserved: number;
}

export type Verdict = "fits" | "thin" | "over";

/** A load that its role's pools cannot carry. */
export interface Shortage {
  readonly role: Role;
  readonly busy: number;
  readonly needed: number;
  readonly has: number;
  readonly processes: number;
}

/**
 * Connections busy at once, on average. Little's law: L = λ × W, with λ statements a second, each W seconds on its connection.
 * Summed over kinds of statements it is the method of query-milliseconds: rate × milliseconds is what a kind asks for in each
 * second, and one connection has 1,000 of them to give.
 */
export function busyConnections(loads: readonly Load[]): number {
  return loads.reduce((sum, { perSecond, ms }) => sum + perSecond * ms, 0) / 1_000;
}

/** Busy connections, over the share of its time that one may be busy: L / u, rounded up. */
export function connectionsFor(loads: readonly Load[], utilisation: number): number {
  return Math.max(0, Math.ceil(busyConnections(loads) / utilisation - ROUNDING));
}

/** Processes × pool size, twice during a rolling deploy. @param deploying old and new processes are there together */
export function roleConnections({ processes, connectionsEach, standing }: Role, deploying: boolean): number {
  return processes * connectionsEach * (deploying && !standing ? DEPLOY_FACTOR : 1);
}

/** Loads that go through no role's pools: a pooler's upstream, or whatever else serves them. */
export function ownLoads({ roles, loads }: Plan): Load[] {
  return loads.filter(({ name }) => !roles.some((role) => role.name === name));
}

/** Σ of all roles, and what loads without a role need; these are not doubled, a deploy brings no more statements. */
export function connectionsNeeded(plan: Plan, deploying: boolean): number {
  const pools = plan.roles.reduce((sum, role) => sum + roleConnections(role, deploying), 0);
  return pools + connectionsFor(ownLoads(plan), plan.utilisation);
}

/** What may be in use under a limit: all but the reserved ones, and all but a twentieth. */
export function room(limit: number, reserved: number): number {
  return limit - Math.max(reserved, Math.ceil(limit / SPARE_SHARE));
}

/** Whether connections hold under a limit: Σ + reserved ≤ `max_connections`, with a margin. */
export function verdictOn(connections: number, reserved: number, limit: number): Verdict {
  if (connections + reserved > limit) return "over";
  return connections > room(limit, reserved) ? "thin" : "fits";
}

/** The least `max_connections` under which so many fit. */
export function limitFor(connections: number, reserved: number): number {
  const fromShare = Math.ceil((connections * SPARE_SHARE) / (SPARE_SHARE - 1) - ROUNDING);
  return Math.max(connections + reserved, fromShare);
}

/** What the others leave to one role, shared by its processes. @returns the largest pool that fits; null: even the least does not */
export function poolThatFits(plan: Plan, role: Role, limit: number): number | null {
  const perConnection = roleConnections({ ...role, connectionsEach: 1 }, true);
  const each = Math.floor(leftFor(plan, role, limit) / perConnection);
  return each >= role.connectionsMin ? each : null;
}

/** The same with the pool as it is. @returns how many processes fit; null: none */
export function processesThatFit(plan: Plan, role: Role, limit: number): number | null {
  const processes = Math.floor(leftFor(plan, role, limit) / roleConnections({ ...role, processes: 1 }, true));
  return processes > 0 ? processes : null;
}

function leftFor(plan: Plan, role: Role, limit: number): number {
  return room(limit, plan.reserved) - connectionsNeeded(plan, true) + roleConnections(role, true);
}

/** How many processes of a role may be new at a time while nothing else is deployed: what is free at rest, over its pool. 0: none. */
export function deployStep(plan: Plan, role: Role, limit: number): number {
  const free = room(limit, plan.reserved) - connectionsNeeded(plan, false);
  return Math.max(0, Math.min(role.processes, Math.floor(free / role.connectionsEach)));
}

/** Statements a second that a role's pools carry: connections × utilisation × 1,000 ms over what one takes. */
export function statementsPerSecond({ processes, connectionsEach, asideEach }: Role, ms: number, utilisation: number) {
  return (processes * (connectionsEach - asideEach) * utilisation * 1_000) / ms;
}

/** Roles whose pools are too small for their load, with the processes that would carry it. */
export function shortages({ roles, loads, utilisation }: Plan): Shortage[] {
  return roles.flatMap((role) => {
    const own = loads.filter(({ name }) => name === role.name);
    const needed = connectionsFor(own, utilisation);
    const each = role.connectionsEach - role.asideEach;
    const has = role.processes * each;
    if (needed <= has) return [];
    return [{ role, busy: busyConnections(own), needed, has, processes: each > 0 ? Math.ceil(needed / each) : 0 }];
  });
}

/** Sinks drain faster only while the database has a core for each. @param cores null: not known */
export function sinksMax(limit: number, cores: number | null): number {
  return Math.max(1, Math.min(Math.floor(limit / SINK_SHARE), cores ?? Number.POSITIVE_INFINITY));
}

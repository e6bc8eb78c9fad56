/** Spillway's roles as the budget knows them, and sizes of them for databases of common limits. */
import type { Plan, Role } from "./budget.ts";
import { RESERVED, UTILISATION } from "./budget.ts";

/** Connections of one query process: by default, at least, at most. As SPILLWAY_QUERY_CONNECTIONS_MAX is declared; a test compares. */
const QUERY_CONNECTIONS = 4;
export const QUERY_CONNECTIONS_MIN = 2;
export const QUERY_CONNECTIONS_MAX = 100;
/** Look-ups have one of a query node's for themselves. */
const LOOK_UP_CONNECTIONS = 1;

export interface Sizes {
  readonly query: number;
  readonly queryConnections: number;
  readonly sinks: number;
  readonly relays: number;
}

/** Each role once, with its defaults. */
export const SMALLEST: Sizes = { query: 1, queryConnections: QUERY_CONNECTIONS, sinks: 1, relays: 1 };

/** The roles that take connections. A web process counts as a query node; a relay's is to the application's database. */
export function spillwayRoles({ query, queryConnections, sinks, relays }: Sizes): Role[] {
  const one = { connectionsEach: 1, asideEach: 0, connectionsMin: 1, standing: false };
  return [
    {
      name: "query",
      processes: query,
      connectionsEach: queryConnections,
      asideEach: LOOK_UP_CONNECTIONS,
      connectionsMin: QUERY_CONNECTIONS_MIN,
      standing: false,
    },
    { ...one, name: "sink", processes: sinks },
    { ...one, name: "relay", processes: relays },
  ];
}

/** By name. */
export const SPILLWAYS: ReadonlySet<string> = new Set(spillwayRoles(SMALLEST).map(({ name }) => name));

/** A plan of Spillway's roles alone, with the usual reserve and utilisation. */
export function planOf(sizes: Sizes): Plan {
  return { roles: spillwayRoles(sizes), loads: [], utilisation: UTILISATION, reserved: RESERVED };
}

export interface Ready {
  readonly limit: number;
  readonly why: string;
  readonly sizes: Sizes;
}

/** From 120 on at least two of each, so that one may die; Spillway takes less than a third, the rest is the application's. */
export const READY: readonly Ready[] = [
  { limit: 20, why: "Spillway alone", sizes: SMALLEST },
  { limit: 20, why: "alone, two of each", sizes: { query: 2, queryConnections: 2, sinks: 2, relays: 1 } },
  { limit: 20, why: "beside an application", sizes: { ...SMALLEST, queryConnections: 2 } },
  { limit: 120, why: "beside an application", sizes: { query: 3, queryConnections: 4, sinks: 2, relays: 2 } },
  { limit: 400, why: "beside an application", sizes: { query: 8, queryConnections: 4, sinks: 4, relays: 2 } },
  { limit: 500, why: "beside an application", sizes: { query: 10, queryConnections: 4, sinks: 4, relays: 2 } },
];

/** What a limit is judged by where none is named. */
export const LIMITS: readonly number[] = [...new Set(READY.map(({ limit }) => limit))];

/** The budget in words and tables. */
import { whole } from "../figures.ts";
import {
  connectionsFor,
  connectionsNeeded,
  ownLoads,
  type Plan,
  processesThatFit,
  RESERVED,
  type Role,
  roleConnections,
  room,
  type Shortage,
  shortages,
  sinksMax,
  statementsPerSecond,
  verdictOn,
} from "./budget.ts";
import { planOf, READY, type Ready, SPILLWAYS } from "./roles.ts";
import { changes, counted } from "./ways.ts";

/** A round figure to compare by; what yours take, --load tells. */
const PAGE_MS = 10;

const HEAD = [
  "max_connections",
  "for",
  "query × pool",
  "sinks",
  "relays",
  "at rest",
  "in a rolling deploy",
  `and ${RESERVED} reserved`,
  "left to others",
  "query nodes at most",
  `page statements/s of ${PAGE_MS} ms`,
];

/** The ready table, in Markdown: as docs/budget has it, and as a terminal can read it. */
export function readyTable(): string {
  const rows = READY.map((one) => readyRow(one));
  const widths = HEAD.map((head, nth) => Math.max(head.length, ...rows.map((row) => row[nth]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, nth) => cell.padEnd(widths[nth] ?? 0)).join(" | ")} |`;
  return [line(HEAD), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

function readyRow({ limit, why, sizes }: Ready): string[] {
  const plan = planOf(sizes);
  const [query] = plan.roles as [Role];
  const deploying = connectionsNeeded(plan, true);
  const together = deploying + plan.reserved;
  return [
    whole(limit),
    why,
    `${sizes.query} × ${sizes.queryConnections}`,
    whole(sizes.sinks),
    whole(sizes.relays),
    whole(connectionsNeeded(plan, false)),
    whole(deploying),
    whole(together),
    whole(room(limit, plan.reserved) - deploying),
    whole(processesThatFit(plan, query, limit) ?? 0),
    whole(statementsPerSecond(query, PAGE_MS, plan.utilisation)),
  ];
}

/** What a plan needs, role by role. */
export function needLines(plan: Plan): string[] {
  const loads = ownLoads(plan);
  const forLoads = connectionsFor(loads, plan.utilisation);
  const [rest, deploy] = [connectionsNeeded(plan, false), connectionsNeeded(plan, true)];
  const rows = [
    ["", "at rest", "in a rolling deploy"],
    ...plan.roles
      .filter(({ processes }) => processes > 0)
      .map((role) => [
        `${role.name}: ${whole(role.processes)} × ${whole(role.connectionsEach)}`,
        whole(roleConnections(role, false)),
        whole(roleConnections(role, true)),
      ]),
    ...(loads.length === 0
      ? []
      : [[`${loads.map(({ name }) => name).join(", ")}: ${arithmetic(plan)}`, whole(forLoads), whole(forLoads)]]),
    ["reserved", whole(plan.reserved), whole(plan.reserved)],
    ["together", whole(rest + plan.reserved), whole(deploy + plan.reserved)],
  ];
  const widths = [0, 1, 2].map((nth) => Math.max(...rows.map((row) => row[nth]?.length ?? 0)));
  return rows.map(([name = "", ...figures]) =>
    [name.padEnd(widths[0] ?? 0), ...figures.map((figure, nth) => figure.padStart(widths[nth + 1] ?? 0))].join("  "),
  );
}

function arithmetic(plan: Plan): string {
  const terms = ownLoads(plan).map(({ perSecond, ms }) => `${whole(perSecond)}/s × ${ms} ms`);
  return `${terms.join(" + ")}, busy ${plan.utilisation} of the time`;
}

/**
 * What to set, where the plan holds under one of the limits at least, and carries its load: else something is to be changed first.
 * @param limits that it was judged by
 */
export function settingLines(plan: Plan, limits: readonly number[]): string[] {
  const own = plan.roles.filter(({ name, processes }) => SPILLWAYS.has(name) && processes > 0);
  const declared = own.reduce((sum, role) => sum + roleConnections(role, true), 0);
  const needed = connectionsNeeded(plan, true);
  const held = limits.filter((limit) => verdictOn(needed, plan.reserved, limit) !== "over");
  if (declared === 0 || held.length === 0 || shortages(plan).length > 0) return [];
  const where = held.length === limits.length ? "" : ` on ${held.map(whole).join(", ")} connections,`;
  return [
    `Set,${where} in each process of Spillway that uses this database:`,
    `  SPILLWAY_DATABASE_CONNECTIONS_MAX=${declared}`,
    ...own
      .filter(({ name }) => name === "query")
      .map(({ connectionsEach }) => `  SPILLWAY_QUERY_CONNECTIONS_MAX=${connectionsEach} (query and web)`),
  ];
}

/** Whether all limits bear the plan with a margin, and its pools carry its loads. */
export function holds(plan: Plan, limits: readonly number[]): boolean {
  const needed = connectionsNeeded(plan, true);
  return limits.every((limit) => verdictOn(needed, plan.reserved, limit) === "fits") && shortages(plan).length === 0;
}

/** Whether a plan fits a limit, and what to change where it does not. */
export function limitLines(plan: Plan, limit: number, cores: number | null): string[] {
  const [rest, deploy] = [connectionsNeeded(plan, false), connectionsNeeded(plan, true)];
  const found = verdictOn(deploy, plan.reserved, limit);
  const told =
    rest === deploy
      ? verdictWords(plan, deploy, limit)
      : `in a rolling deploy ${verdictWords(plan, deploy, limit)}; at rest ${verdictWords(plan, rest, limit)}`;
  return [
    `On ${whole(limit)} connections: ${told}.`,
    ...(found === "fits" ? [] : changes(plan, limit)),
    ...sinkLines(plan, limit, cores),
  ];
}

function verdictWords({ reserved }: Plan, connections: number, limit: number): string {
  const sum = `${whole(connections)} and ${whole(reserved)} reserved are ${whole(connections + reserved)}`;
  switch (verdictOn(connections, reserved, limit)) {
    case "fits":
      return `it fits (${sum})`;
    case "thin":
      return `the margin is too thin (${whole(connections)} leave ${whole(limit - connections)}; a twentieth, ${whole(limit - room(limit, 0))}, should stay free)`;
    case "over":
      return `it does not fit (${sum}, ${whole(connections + reserved - limit)} too many)`;
  }
}

function sinkLines(plan: Plan, limit: number, cores: number | null): string[] {
  const sinks = plan.roles.find(({ name }) => name === "sink")?.processes ?? 0;
  const most = sinksMax(limit, cores);
  if (sinks <= most) return [];
  return [
    `  ${whole(sinks)} sinks are too many: at most ${whole(most)}, a quarter of the connections and one for each core of the database.`,
  ];
}

/** Roles whose pools cannot carry their load. */
export function shortageLines(plan: Plan): string[] {
  return shortages(plan).map((one) => shortageLine(one, plan.utilisation));
}

function shortageLine({ role, busy, needed, has, processes }: Shortage, utilisation: number): string {
  const remedy =
    processes > 0
      ? `take ${counted(processes, "process")} of ${whole(role.connectionsEach)}`
      : "give each process a larger pool";
  return (
    `${role.name}: the pools do not carry the load. It keeps ${busy.toLocaleString("en-US")} connections busy, and needs ${whole(needed)} where one is busy ` +
    `${utilisation} of the time; it has ${whole(has)} for that: ${remedy}.`
  );
}

/** What the command line says of a deployment, as a plan. */
import { type Load, type Plan, RESERVED, type Role, UTILISATION } from "./budget.ts";
import { LIMITS, QUERY_CONNECTIONS_MAX, QUERY_CONNECTIONS_MIN, SMALLEST, spillwayRoles } from "./roles.ts";

/** Far beyond any deployment, and far below where products lose digits. */
const COUNT_MAX = 1_000_000;

/** Less would ask for more connections than any database has. */
export const UTILISATION_MIN = 0.01;

/** Flags as `parseArgs` gives them. */
export interface Given {
  readonly limit?: readonly string[];
  readonly query?: string;
  readonly "query-connections"?: string;
  readonly sink?: string;
  readonly relay?: string;
  readonly role?: readonly string[];
  readonly standing?: readonly string[];
  readonly load?: readonly string[];
  readonly utilisation?: string;
  readonly reserve?: string;
  readonly cores?: string;
}

interface Asked {
  readonly plan: Plan;
  readonly limits: readonly number[];
  /** Null: not known. */
  readonly cores: number | null;
}

/** @throws Error naming the flag, its value and what it should be */
export function planGiven(given: Given): Asked {
  const spillway = spillwayRoles({
    query: count("query", given.query, SMALLEST.query, 0),
    queryConnections: count(
      "query-connections",
      given["query-connections"],
      SMALLEST.queryConnections,
      QUERY_CONNECTIONS_MIN,
      QUERY_CONNECTIONS_MAX,
    ),
    sinks: count("sink", given.sink, SMALLEST.sinks, 0),
    relays: count("relay", given.relay, SMALLEST.relays, 0),
  });
  const roles = [
    ...spillway,
    ...(given.role ?? []).map((text) => roleFrom("role", text, false)),
    ...(given.standing ?? []).map((text) => roleFrom("standing", text, true)),
  ];
  const twice = roles.find(({ name }, nth) => roles.findIndex((role) => role.name === name) !== nth);
  if (twice !== undefined)
    throw new Error(
      `There are two roles named "${twice.name}": name one otherwise; Spillway's own have --query, --sink, --relay`,
    );
  const loads = (given.load ?? []).map(loadFrom);
  return {
    plan: {
      roles,
      loads,
      utilisation: share(given.utilisation),
      reserved: count("reserve", given.reserve, RESERVED, 0),
    },
    limits: given.limit?.map((text) => count("limit", text, 0, 1)) ?? LIMITS,
    cores: given.cores === undefined ? null : count("cores", given.cores, 1, 1),
  };
}

function count(flag: string, text: string | undefined, fallback: number, least: number, most = COUNT_MAX): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new Error(`--${flag} "${text}": give a whole number from ${least} to ${most}`);
  return value;
}

function share(text: string | undefined): number {
  if (text === undefined) return UTILISATION;
  const value = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || value < UTILISATION_MIN || value > 1)
    throw new Error(`--utilisation "${text}": give a share of time, from ${UTILISATION_MIN} to 1`);
  return value;
}

/** `web=80x4x32`: all but the last number are processes, which multiply. */
function roleFrom(flag: string, text: string, standing: boolean): Role {
  const [, name = "", product = ""] = /^([\w.-]{1,60})=(\d+(?:x\d+)*)$/.exec(text) ?? [];
  const numbers = product.split("x").map(Number);
  const connectionsEach = numbers.pop() ?? 0;
  const processes = numbers.reduce((all, one) => all * one, 1);
  if (name === "" || processes < 1 || connectionsEach < 1 || processes * connectionsEach > COUNT_MAX)
    throw new Error(
      `--${flag} "${text}": give NAME=PROCESSESxCONNECTIONS, as app=3x5, of 1 to ${COUNT_MAX} connections`,
    );
  return { name, processes, connectionsEach, asideEach: 0, connectionsMin: 1, standing };
}

function loadFrom(text: string): Load {
  const [, name = "", perSecond = "", ms = ""] =
    /^([\w.-]{1,60})=(\d{1,9}(?:\.\d{1,6})?)x(\d{1,9}(?:\.\d{1,6})?)$/.exec(text) ?? [];
  if (name === "")
    throw new Error(`--load "${text}": give NAME=RATExMS, statements a second and milliseconds each, as query=500x35`);
  if (name === "sink" || name === "relay")
    throw new Error(
      `--load "${text}": a ${name} has one connection, and saves or sends at the pace of that. Name query, or others`,
    );
  return { name, perSecond: Number(perSecond), ms: Number(ms) };
}

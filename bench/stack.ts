/** A throw-away stack for one bench: real Kafka, real PostgreSQL when wanted, and processes of ours. All ends with it. */
import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Kafka, logLevel } from "kafkajs";
import pg from "pg";
import { freePorts } from "../infra/ports.ts";
import { type Child, endProcess, spawnGuarded } from "../infra/process.ts";
import type { KafkaServer, PostgresServer } from "../infra/server.ts";
import { provideKafka, providePostgres } from "../infra/stack.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 30_000;
const LINES_MAX = 200;

export interface BenchStack {
  /** Empty without Kafka. */
  readonly brokers: string;
  readonly topic: string;
  readonly partitions: number;
  /** Undefined without a database. */
  readonly databaseUrl: string | undefined;
  /** In a line: what is used and where it comes from. */
  readonly what: readonly string[];
  readonly postgresVersion: string | undefined;
  /** The servers themselves, for whoever wants to stop them. Undefined where there is none. */
  readonly kafka: KafkaServer | undefined;
  readonly postgres: PostgresServer | undefined;
  /** A folder for whatever runs beside it; it goes with the stack. */
  folder(name: string): string;
  /** Starts a server program on a free port or on `env.PORT`, and waits until it is ready or, if that is not wanted, until it answers. */
  serve(program: string, env?: Readonly<Record<string, string>>, ready?: boolean): Promise<Served>;
  /** Runs a program of this folder to its end. @returns what its last line says, as JSON. @throws when it fails */
  measure<T>(program: string, order: object): Promise<T>;
  close(): Promise<void>;
}

/** A server that runs; it is stopped with the stack if not before. */
export interface Served {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

/** What a bench needs. */
export interface Needs {
  readonly kafka?: boolean;
  /** With settings of its own. */
  readonly postgres?: Readonly<Record<string, string>>;
}

export async function startStack(needs: Needs): Promise<BenchStack> {
  const folder = mkdtempSync(join(tmpdir(), "spillway-bench-"));
  chmodSync(folder, 0o755);
  const what: string[] = [];
  const toClose: (() => Promise<unknown>)[] = [async () => rmSync(folder, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const step of toClose.splice(0)) await step();
  };
  const say = (line: string): void => void what.push(line);
  const name = `bench_${randomUUID().slice(0, 8)}`;
  const topic = `${name}.events`;
  try {
    const kafka = needs.kafka ? await provideKafka({ dataDir: join(folder, "kafka"), say }) : undefined;
    if (kafka) toClose.unshift(() => kafka.remove());
    await kafka?.start();
    if (kafka) toClose.unshift(() => dropTopics(kafka.brokers, topic));
    const settings = needs.postgres;
    const postgres = settings && (await providePostgres({ dataDir: join(folder, "postgres"), say, settings }));
    if (postgres) toClose.unshift(() => postgres.remove());
    await postgres?.start();
    const database = postgres && (await newDatabase(postgres.url, name));
    if (database) toClose.unshift(database.drop);
    const env = {
      ...(kafka && { KAFKA_BROKERS: kafka.brokers }),
      SPILLWAY_TOPIC: topic,
      ...(database && { DATABASE_URL: database.url }),
    };
    return {
      brokers: kafka?.brokers ?? "",
      topic,
      partitions: 12,
      databaseUrl: database?.url,
      what,
      postgresVersion: database?.version,
      kafka,
      postgres: postgres && Object.create(postgres, { url: { value: database?.url } }),
      folder: (own) => {
        const path = mkdtempSync(join(folder, `${own}-`));
        chmodSync(path, 0o777);
        return path;
      },
      serve: async (program, more = {}, ready = true) => {
        const { url, child } = await serve(program, { ...env, ...more }, ready);
        const stop = (): Promise<void> => endProcess(child, "SIGTERM", STOP_LIMIT_MS);
        toClose.unshift(stop);
        return { url, pid: child.pid, stop, kill: () => endProcess(child, "SIGKILL", STOP_LIMIT_MS) };
      },
      measure,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function serve(
  program: string,
  env: Readonly<Record<string, string>>,
  ready: boolean,
): Promise<{ url: string; child: Child }> {
  const port = env["PORT"] ?? (await freePorts(1))[0];
  const lines: string[] = [];
  const output = (line: string): void => {
    lines.push(line);
    if (lines.length > LINES_MAX) lines.shift();
  };
  const own = { ...process.env, LOG_LEVEL: "warn", ...env, PORT: String(port) };
  const child = await spawnGuarded({ file: process.execPath, args: [program], cwd: ROOT, env: own, output });
  const url = `http://127.0.0.1:${port}`;
  for (let waitedMs = 0; ; waitedMs += 50) {
    const answer = await fetch(`${url}/${ready ? "readyz" : "healthz"}`).catch(() => undefined);
    if (answer?.ok) return { url, child };
    if (child.ended !== undefined || waitedMs > READY_LIMIT_MS) {
      await endProcess(child, "SIGKILL", STOP_LIMIT_MS);
      throw new Error(`${program} is not ready: ${child.ended}\n${lines.slice(-15).join("\n")}`);
    }
    await delay(50);
  }
}

async function measure<T>(program: string, order: object): Promise<T> {
  const lines: string[] = [];
  const child = await spawnGuarded({
    file: process.execPath,
    args: ["--disable-warning=TimeoutNegativeWarning", program, JSON.stringify(order)],
    cwd: ROOT,
    output: (line) => void lines.push(line),
  });
  const code = await child.exited;
  const last = lines.findLast((line) => line.startsWith("{"));
  if (code !== 0 || last === undefined)
    throw new Error(`${program} ended with ${child.ended}:\n${lines.slice(-15).join("\n")}`);
  return JSON.parse(last) as T;
}

/** A database of the bench's own, also on a server that is not. */
async function newDatabase(
  serverUrl: string,
  name: string,
): Promise<{ url: string; version: string; drop: () => Promise<void> }> {
  const run = async (text: string): Promise<string> => {
    const client = new pg.Client({ connectionString: serverUrl });
    await client.connect();
    try {
      const { rows } = await client.query<Record<string, string>>(text);
      return Object.values(rows[0] ?? {})[0] ?? "";
    } finally {
      await client.end();
    }
  };
  await run(`CREATE DATABASE ${name}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    version: (await run("SHOW server_version")).split(" ")[0] ?? "",
    drop: async () => void (await run(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)),
  };
}

/** Matters on a broker that is not the bench's own; there, what was written would stay. */
async function dropTopics(brokers: string, topic: string): Promise<void> {
  if (!process.env["KAFKA_BROKERS"]) return;
  const admin = new Kafka({ brokers: brokers.split(","), logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  try {
    const made = (await admin.listTopics()).filter((name) => name.startsWith(topic));
    await admin.deleteTopics({ topics: made });
  } finally {
    await admin.disconnect();
  }
}

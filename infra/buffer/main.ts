/** `npm run relay -- install|status|uninstall`: the event buffer in an application's own database. */
import { parseArgs } from "node:util";
import { systemClock } from "#lib/clock.ts";
import { createLog } from "#lib/log.ts";
import { Pool } from "#lib/postgres/pool.ts";
import { databaseAddress, FORMS } from "#lib/setting-forms.ts";
import { refusedFlag } from "../flags.ts";
import { install, status, uninstall } from "./install.ts";
import { FILES, installSql, type Roles } from "./script.ts";
import { remedy, statusLines } from "./words.ts";

const USAGE = `npm run relay -- install [--relay-role NAME] [--writer-role NAME] [--print]
npm run relay -- status
npm run relay -- uninstall

  install        makes the event buffer in the schema spillway of your application's database (PostgreSQL 13 or newer), all or
                 nothing; a second time it only brings it up to date. No superuser is needed, the database's owner will do.
  status         what waits, since when, and who holds writers up
  uninstall      takes it away again, unless rows wait or were set aside

  --database-url your application's database, as postgres://user:password@host:port/database; without it, DATABASE_URL
  --relay-role   a role that exists: may read the buffer, stamp its rows and remove recorded ones; may be repeated
  --writer-role  a role that exists: may call spillway.emit and spillway.emit_many, and nothing else; may be repeated
  --print        prints the SQL for an empty database instead, and connects to nothing
`;

const OPTIONS = {
  "database-url": { type: "string" },
  "relay-role": { type: "string", multiple: true },
  "writer-role": { type: "string", multiple: true },
  print: { type: "boolean" },
  help: { type: "boolean" },
} as const;

const CONNECT_TIMEOUT_MS = 10_000;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const wrong = (what: string): Error => new Error(`${what}. What it accepts:\n\n${USAGE}`);

function readFlags() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw refusedFlag(error, USAGE);
  }
}

async function onDatabase(
  given: string | undefined,
  work: (pool: Pool, where: string) => Promise<void>,
): Promise<void> {
  const url = given ?? process.env["DATABASE_URL"] ?? "";
  if (!FORMS.postgres.has(url))
    throw wrong(
      "Which database? Set DATABASE_URL, or give --database-url, as postgres://user:password@host:port/database",
    );
  const where = databaseAddress(url);
  const pool = new Pool({
    url,
    max: 1,
    name: "spillway-install",
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    log: createLog("install", "silent"),
    clock: systemClock,
  });
  try {
    await work(pool, where);
  } catch (cause) {
    throw new Error(`${where}: ${cause instanceof Error ? cause.message : String(cause)}${remedy(cause)}`, { cause });
  } finally {
    await pool.close();
  }
}

async function installed(pool: Pool, where: string, roles: Roles): Promise<void> {
  const files = await install(pool, roles);
  say(
    files.length === 0
      ? `${where}: the event buffer was there and up to date.`
      : `${where}: the event buffer is there now (schema spillway: ${files.join(", ")}).`,
  );
  for (const role of roles.relay) say(`${role} may read it, stamp its rows and remove recorded ones: a relay's role.`);
  for (const role of roles.writers) say(`${role} may call spillway.emit and spillway.emit_many: a writer's role.`);
  say("Write with: SELECT spillway.emit('client', 'type', '{\"any\": \"json\"}')");
}

async function main(): Promise<void> {
  const { values, positionals } = readFlags();
  if (values.help) return say(USAGE);
  const [verb, ...rest] = positionals;
  const roles: Roles = { relay: values["relay-role"] ?? [], writers: values["writer-role"] ?? [] };
  const given = values["database-url"];
  const toInstall = values.print === true || roles.relay.length + roles.writers.length > 0;
  if (rest.length > 0) throw wrong(`"${rest.join(" ")}" means nothing here`);
  if (verb === "install") {
    if (values.print) return say(`BEGIN;\n${installSql(FILES, roles)}\nCOMMIT;`);
    return onDatabase(given, (pool, where) => installed(pool, where, roles));
  }
  if (toInstall) throw wrong("--print, --relay-role and --writer-role are for install");
  if (verb === "status")
    return onDatabase(given, async (pool, where) => {
      for (const line of statusLines(where, await status(pool))) say(line);
    });
  if (verb === "uninstall")
    return onDatabase(given, async (pool, where) => {
      const gone = await uninstall(pool);
      say(gone ? `${where}: the event buffer is gone.` : `${where}: there is no event buffer.`);
    });
  throw wrong(verb === undefined ? "Say what to do" : `"${verb}" is not known`);
}

await main().catch((error: unknown) => {
  process.stderr.write(`relay: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

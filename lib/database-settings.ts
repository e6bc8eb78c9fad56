/** Settings of roles that use the database. */
import { type Clock, systemClock } from "#lib/clock.ts";
import { ConfigError, integer, text } from "#lib/config.ts";
import { type PemKind, type PemPair, pairProblems, readPem } from "#lib/pem.ts";
import { databaseUrl as parse } from "#lib/setting-forms.ts";

export const databaseSettings = {
  DATABASE_URL: text(
    "PostgreSQL, as `postgres://user:password@host:port/database`, with `#` `/` `?` `@` `%` of a password as `%23` `%2F` `%3F` `%40` `%25`; TLS by `?sslmode=verify-full&sslrootcert=FILE`.",
    {
      format: "postgres",
      secret: true,
    },
  ),
  SPILLWAY_DATABASE_CONNECTIONS_MAX: integer(
    "The connection budget: what all of Spillway's processes may open in this database together (`npm run budget`). A role refuses a " +
      "database that cannot give it, or that it could exceed alone. 0: none declared; a role warns where its own pool cannot be had.",
    { default: 0, minimum: 0, maximum: 1_000_000 },
  ),
};

/** As node-postgres takes them: all but the first two check the certificate and its host. */
const SSL_MODES = ["disable", "no-verify", "prefer", "require", "verify-ca", "verify-full"];
const FILES: Readonly<Record<string, PemKind>> = {
  sslrootcert: "CERTIFICATE",
  sslcert: "CERTIFICATE",
  sslkey: "PRIVATE KEY",
};

const PAIR: PemPair = { cert: "sslcert", key: "sslkey" };

/** @throws ConfigError when what a DATABASE_URL says of TLS is unknown, does not go together, or its files cannot be read */
export function requireDatabaseTls(databaseUrl: string, clock: Pick<Clock, "now"> = systemClock): void {
  const parameters = parse(databaseUrl)?.searchParams ?? new URLSearchParams();
  const { pems, problems } = readFiles(parameters);
  if (parameters.has("sslcert") !== parameters.has("sslkey"))
    problems.push("sslcert and sslkey belong together: name both, or none.");
  const mode = parameters.get("sslmode") ?? "";
  if (mode !== "" && !SSL_MODES.includes(mode))
    problems.push(`sslmode is ${mode}: it is one of ${SSL_MODES.join(", ")}.`);
  const { sslcert: cert, sslkey: key } = pems;
  if (cert && key) problems.push(...pairProblems({ cert, key }, PAIR, clock.now()));
  if (problems.length > 0) throw new ConfigError(problems.map((one) => `DATABASE_URL: ${one}`));
}

/** By the parameters' names. node-postgres takes files alone. */
function readFiles(parameters: URLSearchParams): { pems: Record<string, string>; problems: string[] } {
  const pems: Record<string, string> = {};
  const problems: string[] = [];
  for (const [name, kind] of Object.entries(FILES)) {
    const value = parameters.get(name);
    if (value === null) continue;
    const read = readPem(value, kind);
    if ("problem" in read) problems.push(`${name} ${read.problem}`);
    else if (read.isText)
      problems.push(`${name} is a text of ${value.length} characters: it must be the path of a file.`);
    else pems[name] = read.pem;
  }
  return { pems, problems };
}

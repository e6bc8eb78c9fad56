/** Settings of roles that use the database. */
import { ConfigError, integer, text } from "#lib/config.ts";
import { type PemKind, readPem } from "#lib/pem.ts";

export const databaseSettings = {
  DATABASE_URL: text(
    "PostgreSQL, as `postgres://user:password@host:port/database`; TLS by `?sslmode=verify-full&sslrootcert=FILE`.",
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

/** @throws ConfigError when what a DATABASE_URL says of TLS is unknown, or its files cannot be read */
export function requireDatabaseTls(databaseUrl: string): void {
  const parameters = URL.parse(databaseUrl)?.searchParams ?? new URLSearchParams();
  const mode = parameters.get("sslmode") ?? "";
  const problems = Object.entries(FILES).flatMap(([name, kind]) => {
    const value = parameters.get(name);
    const read = value === null ? {} : readPem(value, kind);
    return "problem" in read ? [`DATABASE_URL: ${name} ${read.problem}`] : [];
  });
  if (mode !== "" && !SSL_MODES.includes(mode))
    problems.push(`DATABASE_URL: sslmode is ${mode}: it is one of ${SSL_MODES.join(", ")}.`);
  if (problems.length > 0) throw new ConfigError(problems);
}

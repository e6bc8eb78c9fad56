/** Settings of roles that use the database. */
import { integer, text } from "#lib/config.ts";

export const databaseSettings = {
  DATABASE_URL: text("PostgreSQL, as `postgres://user:password@host:port/database`.", {
    format: "postgres",
    secret: true,
  }),
  SPILLWAY_DATABASE_CONNECTIONS_MAX: integer(
    "The connection budget: what all of Spillway's processes may open in this database together (`npm run budget`). A role refuses a " +
      "database that cannot give it, or that it could exceed alone. 0: none declared; a role warns where its own pool cannot be had.",
    { default: 0, minimum: 0, maximum: 1_000_000 },
  ),
};

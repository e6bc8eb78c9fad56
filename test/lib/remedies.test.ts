import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:tls";
import { expect, test } from "vitest";
import { classify } from "#lib/postgres/sqlstate.ts";
import { withDatabaseRemedy, withKafkaRemedy } from "#lib/remedies.ts";
import { newAuthority } from "../support/certificates.ts";
import { newFolder } from "../support/folder.ts";

test("what needs no remedy stays as it is", () => {
  for (const why of ["connect ECONNREFUSED 127.0.0.1:9092", 'password authentication failed for user "me"', ""]) {
    expect(withKafkaRemedy(why)).toBe(why);
    expect(withDatabaseRemedy(why)).toBe(why);
  }
});

test("a remedy does not change what an error of the database means", () => {
  for (const why of [
    "unable to verify the first certificate",
    "self-signed certificate in certificate chain",
    "Hostname/IP does not match certificate's altnames: IP: 127.0.0.1 is not in the cert's list: ",
    'no pg_hba.conf entry for host "127.0.0.1", user "me", database "x", no encryption',
    "The server does not support SSL connections",
    "SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string",
    "connection requires a valid client certificate",
  ]) {
    expect(withDatabaseRemedy(why)).toMatch(/DATABASE_URL/);
    expect(classify(new Error(withDatabaseRemedy(why)))).toBe(classify(new Error(why)));
  }
});

test("what Node.js says of a server's certificate is met with what to do", async () => {
  const folder = newFolder("remedies");
  const authority = newAuthority(folder, "one");
  const ca = readFileSync(authority.cert, "utf8");
  const here = ["IP:127.0.0.1"];
  const said = async ({ cert, key }: { cert: string; key: string }, trusted: string | undefined): Promise<string> => {
    const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const socket = connect({
      port: (server.address() as AddressInfo).port,
      host: "127.0.0.1",
      ...(trusted && { ca: trusted }),
    });
    const [error] = (await once(socket, "error", { signal: AbortSignal.timeout(10_000) }).catch((reason) => [
      reason,
    ])) as [Error];
    server.close();
    return error.message;
  };
  const expired = await said(authority.issue("expired", here, -1), ca);
  expect([expired, withKafkaRemedy(expired), withDatabaseRemedy(expired)]).toEqual([
    "certificate has expired",
    expect.stringMatching(/KAFKA_TRUSTED_CERT.*clock/),
    expect.stringMatching(/sslrootcert.*clock/),
  ]);
  expect(withKafkaRemedy("certificate is not yet valid")).toMatch(/clock/);
  const unknown = await said(authority.issue("unknown", here), undefined);
  expect([withKafkaRemedy(unknown), withDatabaseRemedy(unknown)]).toEqual([
    expect.stringMatching(/: KAFKA_TRUSTED_CERT must hold/),
    expect.stringMatching(/: name the file of its authority/),
  ]);
  const elsewhere = await said(authority.issue("elsewhere", ["DNS:elsewhere"]), ca);
  expect([withKafkaRemedy(elsewhere), withDatabaseRemedy(elsewhere)]).toEqual([
    expect.stringMatching(/: name the brokers as their certificates do/),
    expect.stringMatching(/: name the host as its certificate does/),
  ]);
  rmSync(folder, { recursive: true });
});

test("who shows a password where none is asked for is told so", () => {
  expect(withKafkaRemedy("Request is not valid given the current SASL state")).toMatch(/unset KAFKA_USERNAME/);
});

test("who finds no connection left is told where they are, and how to reckon them", () => {
  for (const why of [
    "sorry, too many clients already",
    // As PostgreSQL 15 and 18 say it.
    "remaining connection slots are reserved for non-replication superuser connections",
    'remaining connection slots are reserved for roles with privileges of the "pg_use_reserved_connections" role',
    'too many connections for role "me"',
    'too many connections for database "x"',
  ]) {
    expect(withDatabaseRemedy(why)).toBe(
      `${why}: pg_stat_activity tells who has them, npm run budget what all may open together`,
    );
    const error = (message: string): Error => Object.assign(new Error(message), { code: "53300" });
    expect(classify(error(withDatabaseRemedy(why)))).toBe(classify(error(why)));
  }
});

import { expect, test } from "vitest";
import { classify } from "#lib/postgres/sqlstate.ts";
import { withDatabaseRemedy, withKafkaRemedy } from "#lib/remedies.ts";

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
  ]) {
    expect(withDatabaseRemedy(why)).toMatch(/DATABASE_URL/);
    expect(classify(new Error(withDatabaseRemedy(why)))).toBe(classify(new Error(why)));
  }
});

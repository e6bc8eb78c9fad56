/** How the brokers are reached, from settings as operators write them. */
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError, readSettings } from "#lib/config.ts";
import { readKafkaAccess } from "#lib/kafka-access.ts";
import { logSettings } from "#lib/log-settings.ts";
import { newAuthority } from "../support/certificates.ts";
import { newFolder } from "../support/folder.ts";

const folder = newFolder("kafka-access");
afterAll(() => rmSync(folder, { recursive: true }));
const authority = newAuthority(folder, "one");
const client = authority.issue("client");
const other = newAuthority(folder, "other");
const pem = (path: string): string => readFileSync(path, "utf8");

const TLS = "kafka+ssl://a:9096,kafka+ssl://b:9096";
const HEROKU = {
  KAFKA_BROKERS: TLS,
  // While an authority is replaced there are two.
  KAFKA_TRUSTED_CERT: pem(authority.cert) + pem(other.cert),
  KAFKA_CLIENT_CERT: pem(client.cert),
  KAFKA_CLIENT_CERT_KEY: pem(client.key),
};
const access = (given: Readonly<Record<string, string>>) => readKafkaAccess(readSettings(logSettings, given));

function problemsOf(given: Readonly<Record<string, string>>): readonly string[] {
  try {
    access(given);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe("brokers", () => {
  test("are reached without TLS and SASL unless that is asked for", () => {
    expect(access({ KAFKA_BROKERS: "a:9092, b:9092" })).toEqual({ brokers: ["a:9092", "b:9092"] });
  });

  test("are reached over TLS with what Node.js trusts when their scheme says so", () => {
    expect(access({ KAFKA_BROKERS: TLS })).toEqual({ brokers: ["a:9096", "b:9096"], ssl: {} });
  });

  test("get certificates from texts, as Heroku gives them, from one line with \\n in it, and from files alike", () => {
    const { ssl } = access(HEROKU);
    expect(ssl).toEqual({
      ca: HEROKU.KAFKA_TRUSTED_CERT,
      cert: HEROKU.KAFKA_CLIENT_CERT,
      key: HEROKU.KAFKA_CLIENT_CERT_KEY,
    });
    const trusted = join(folder, "both.pem");
    writeFileSync(trusted, HEROKU.KAFKA_TRUSTED_CERT);
    const files = { KAFKA_TRUSTED_CERT: trusted, KAFKA_CLIENT_CERT: client.cert, KAFKA_CLIENT_CERT_KEY: client.key };
    expect(access({ KAFKA_BROKERS: TLS, ...files }).ssl).toEqual(ssl);
    const lines = Object.entries(HEROKU).map(([name, value]) => [name, value.replaceAll("\n", "\\n")]);
    expect(access(Object.fromEntries(lines)).ssl).toEqual(ssl);
    const windows = Object.entries(HEROKU).map(([name, value]) => [name, value.replaceAll("\n", "\\r\\n")]);
    expect(access(Object.fromEntries(windows)).ssl).toEqual(ssl);
  });

  test("get a chain of certificates, the client's first, and line ends as Windows writes them", () => {
    const chain = pem(client.cert) + pem(authority.cert);
    expect(access({ ...HEROKU, KAFKA_CLIENT_CERT: chain }).ssl).toMatchObject({ cert: chain });
    const { cert } = access({ ...HEROKU, KAFKA_CLIENT_CERT: chain.replaceAll("\n", "\r\n") }).ssl as { cert: string };
    expect(cert.replaceAll("\r", "")).toBe(chain);
  });

  test("get certificates without quotes that a file of settings left around them, and what else stands there", () => {
    const quoted = Object.entries(HEROKU).map(([name, value]) => [name, `"${value.replaceAll("\n", "\\n")}"`]);
    expect(access({ ...Object.fromEntries(quoted), KAFKA_BROKERS: TLS }).ssl).toEqual(access(HEROKU).ssl);
    const both = { KAFKA_CLIENT_CERT: `Subject: me\n${pem(client.cert)}${pem(client.key)}` };
    expect(access({ ...HEROKU, ...both }).ssl).toMatchObject({ cert: pem(client.cert) });
  });

  test("need not be named by their certificates with verify-ca, and only then", () => {
    expect(access({ ...HEROKU, KAFKA_SSLMODE: "verify-ca" }).ssl).toHaveProperty("checkServerIdentity");
    expect(access(HEROKU).ssl).not.toHaveProperty("checkServerIdentity");
  });

  test.each(["plain", "scram-sha-256", "scram-sha-512"])("get user and password by %s", (mechanism) => {
    const login = { KAFKA_USERNAME: "me", KAFKA_PASSWORD: "hunter2", KAFKA_SASL_MECHANISM: mechanism };
    const sasl = { mechanism, username: "me", password: "hunter2" };
    expect(access({ KAFKA_BROKERS: "a:1", ...login })).toEqual({ brokers: ["a:1"], sasl });
    expect(access({ KAFKA_BROKERS: TLS, ...login })).toMatchObject({ ssl: {}, sasl });
  });
});

describe("names that Kafka would not take, or not as they are meant, end the start:", () => {
  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    [
      "one topic for events and control, which would be made compacted",
      { SPILLWAY_CONTROL_TOPIC: "spillway.events" },
      /both spillway\.events: .*Unset/,
    ],
    ["a name that means a folder", { SPILLWAY_TOPIC: ".." }, /SPILLWAY_TOPIC .*is \.\./],
    ["a name that is too long with what stands behind it", { SPILLWAY_TOPIC: "t".repeat(242) }, /has 250 characters/],
    ["a name that is too long with its prefix", { KAFKA_PREFIX: "p".repeat(240) }, /has 255 characters/],
  ])("%s", (_what, given, said) => {
    expect(problemsOf({ KAFKA_BROKERS: "a:1", ...given })[0]).toMatch(said);
  });

  test("the longest are taken", () => {
    expect(problemsOf({ KAFKA_BROKERS: "a:1", SPILLWAY_TOPIC: "t".repeat(241) })).toEqual([]);
  });
});

describe("a start is refused, with the setting, its value and what to write, when", () => {
  const none = join(folder, "none.pem");
  const empty = join(folder, "empty.pem");
  writeFileSync(empty, "");
  const closed = join(folder, "closed.key");
  execFileSync("openssl", ["pkey", "-in", client.key, "-aes256", "-passout", "pass:hunter2", "-out", closed]);
  const torn = pem(client.cert).replace(/\n\w{8}/, "\n????????");
  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    [
      "a file is not there",
      { KAFKA_TRUSTED_CERT: none },
      /^KAFKA_TRUSTED_CERT is .*none\.pem: it cannot be read \(ENOENT\).*path of a file/,
    ],
    [
      "a file has no certificate",
      { KAFKA_TRUSTED_CERT: empty },
      /^KAFKA_TRUSTED_CERT is .*empty\.pem: there is no CERT/,
    ],
    ["a key is where a certificate belongs", { KAFKA_TRUSTED_CERT: client.key }, /^KAFKA_TRUSTED_CERT is .*no CERT/],
    [
      "a certificate is torn",
      { KAFKA_TRUSTED_CERT: torn },
      /^KAFKA_TRUSTED_CERT is a text of \d+ characters: .*It is PEM/,
    ],
    ["a certificate has no key", { KAFKA_CLIENT_CERT_KEY: "" }, /^KAFKA_CLIENT_CERT and .* set both, or none\.$/],
    ["a key has no certificate", { KAFKA_CLIENT_CERT: "" }, /^KAFKA_CLIENT_CERT and .* set both, or none\.$/],
    ["the key is another's", { KAFKA_CLIENT_CERT: other.issue("x").cert }, /^KAFKA_CLIENT_CERT_KEY is not the key of/],
    ["the key has a passphrase", { KAFKA_CLIENT_CERT_KEY: closed }, /^KAFKA_CLIENT_CERT_KEY .*removes a passphrase\.$/],
    [
      "certificate and key are swapped",
      { KAFKA_CLIENT_CERT: client.key, KAFKA_CLIENT_CERT_KEY: client.key },
      /^KAFKA_CLIENT_CERT is .*: there is no CERTIFICATE in it/,
    ],
    [
      "the authority's certificate comes before the client's",
      { KAFKA_CLIENT_CERT: pem(authority.cert) + pem(client.cert) },
      /the key that the first certificate in KAFKA_CLIENT_CERT was made for/,
    ],
    [
      "a PEM was made base64 once more",
      { KAFKA_TRUSTED_CERT: Buffer.from(pem(authority.cert)).toString("base64") },
      /^KAFKA_TRUSTED_CERT is a text of \d+ characters: .*It is PEM/,
    ],
    [
      "no authority is named for verify-ca",
      { KAFKA_SSLMODE: "verify-ca", KAFKA_TRUSTED_CERT: "" },
      /^KAFKA_SSLMODE is/,
    ],
    ["a user has no password", { KAFKA_USERNAME: "me" }, /^KAFKA_USERNAME is set and KAFKA_PASSWORD is not: set both/],
    [
      "a password has the line end that echo gave it",
      { KAFKA_USERNAME: "me", KAFKA_PASSWORD: "hunter2\n" },
      /^KAFKA_PASSWORD ends with a line end/,
    ],
    ["a password has no user", { KAFKA_PASSWORD: "hunter2" }, /^KAFKA_PASSWORD is set and KAFKA_USERNAME is not: set/],
  ])("%s", (_what, given, said) => {
    const problems = problemsOf({ ...HEROKU, ...given });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(said);
    expect(problems.join()).not.toContain("hunter2");
  });

  test("certificates are set and the brokers are not asked for TLS, once for each", () => {
    const problems = problemsOf({ ...HEROKU, KAFKA_BROKERS: "a:9092,b:9092" });
    expect(problems).toHaveLength(3);
    expect(problems[0]).toMatch(
      /^KAFKA_TRUSTED_CERT is set.*write kafka\+ssl:\/\/a:9092,kafka\+ssl:\/\/b:9092, or unset/,
    );
  });

  test.each(["KAFKA_CLIENT_CERT_KEY", "KAFKA_CLIENT_CERT", "KAFKA_TRUSTED_CERT"])(
    "a key was pasted into %s without its head, which is not repeated",
    (name) => {
      const bare = pem(client.key).split("\n")[1] ?? "";
      const problems = problemsOf({ ...HEROKU, [name]: bare });
      expect(problems).toEqual([expect.stringMatching(new RegExp(`^${name} is a text of 64 characters`))]);
      expect(problems.join()).not.toContain(bare);
    },
  );

  test("the client's certificate is not valid now", () => {
    const settings = readSettings(logSettings, HEROKU);
    const dayMs = 86_400_000;
    for (const days of [-1, 4])
      expect(() => readKafkaAccess(settings, { now: () => Date.now() + days * dayMs })).toThrow(
        /KAFKA_CLIENT_CERT is valid from \d{4}-.* to \d{4}-.*: renew it, or set this machine's clock/,
      );
    expect(() => readKafkaAccess(settings, { now: () => Date.now() + dayMs })).not.toThrow();
  });
});

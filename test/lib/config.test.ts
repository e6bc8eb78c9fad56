import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { tokenHash } from "#lib/access.ts";
import {
  ConfigError,
  choice,
  flag,
  httpSettings,
  integer,
  list,
  port,
  printable,
  processSettings,
  readKeys,
  readSettings,
  settingRows,
  text,
} from "#lib/config.ts";
import { databaseSettings, requireDatabaseTls } from "#lib/database-settings.ts";
import { logSettings, topicNames } from "#lib/log-settings.ts";
import { databaseAddress } from "#lib/setting-forms.ts";
import { newAuthority } from "../support/certificates.ts";

const DECLARED = {
  NAME: text("Whose it is."),
  PASSWORD: text("What opens it.", { secret: true, default: "x" }),
  WAIT_MS: integer("How long.", { default: 10, minimum: 1, maximum: 100 }),
  OPEN: flag("Whether.", { default: false }),
  KIND: choice("Which.", ["a", "b"], { default: "a" }),
  PLACES: list("Where.", { default: "here" }),
};

function problemsOf(run: () => unknown): readonly string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe("settings", () => {
  test("have their defaults", () => {
    expect(readSettings(DECLARED, { NAME: "n" })).toEqual({
      NAME: "n",
      PASSWORD: "x",
      WAIT_MS: 10,
      OPEN: false,
      KIND: "a",
      PLACES: ["here"],
    });
  });

  test("become what they are declared to be", () => {
    const given = { NAME: "n", WAIT_MS: "100", OPEN: "true", KIND: "b", PLACES: " a:1 ,b:2,, " };
    expect(readSettings(DECLARED, given)).toMatchObject({
      WAIT_MS: 100,
      OPEN: true,
      KIND: "b",
      PLACES: ["a:1", "b:2"],
    });
  });

  test("count as unset when they are empty, blank where they have a form, or a list of nothing", () => {
    for (const blank of ["", " ", " , "])
      expect(problemsOf(() => readSettings(logSettings, { KAFKA_BROKERS: blank, SPILLWAY_TOPIC: "" }))).toEqual([
        expect.stringMatching(/^KAFKA_BROKERS is not set\./),
      ]);
    expect(readSettings(httpSettings, { HOST: " " }).HOST).toBe("127.0.0.1");
  });

  test("tell all their problems at once, by name, value and purpose", () => {
    const given = { WAIT_MS: "101", OPEN: "yes", KIND: "c" };
    expect(problemsOf(() => readSettings(DECLARED, given)).toSorted()).toEqual([
      'KIND must be one of a, b, but is "c". Which.',
      "NAME is not set. Whose it is.",
      'OPEN must be boolean, but is "yes". Whether.',
      'WAIT_MS must be <= 100, but is "101". How long.',
    ]);
  });

  test.each(["", "1.5", "1x", "0", "-1", "1e9"])("refuse the number %j unless it is in range", (value) => {
    const problems = problemsOf(() => readSettings(DECLARED, { NAME: "n", WAIT_MS: value }));
    expect(problems).toHaveLength(value === "" ? 0 : 1);
  });

  test("never repeat a secret that is wrong", () => {
    const problems = problemsOf(() => readSettings(databaseSettings, { DATABASE_URL: "hunter2" }));
    expect(problems).toHaveLength(1);
    expect(problems.join()).toContain("DATABASE_URL");
    expect(problems.join()).not.toContain("hunter2");
  });

  test.each<[string, string, string]>([
    [
      "KAFKA_BROKERS",
      "kafka-1",
      'such as kafka-1:9092,kafka-2:9092, or all with kafka+ssl:// before them, but is "kafka-1". Kafka brokers',
    ],
    ["KAFKA_BROKERS", "a:9092, b", 'but is "a:9092,b"'],
    ["KAFKA_BROKERS", "kafka+ssl://a:9092,b:9092", 'but is "kafka+ssl://a:9092,b:9092"'],
    ["KAFKA_BROKERS", "kafka+ssl://a", 'but is "kafka+ssl://a"'],
    ["KAFKA_BROKERS", "a:0", 'but is "a:0"'],
    ["KAFKA_BROKERS", "a:65536", 'but is "a:65536"'],
    ["KAFKA_BROKERS", "kafka://a:9092", 'but is "kafka://a:9092"'],
    // kafkajs would look for a host called "[".
    ["KAFKA_BROKERS", "[::1]:9092", "IPv6 by a name"],
    ["KAFKA_BROKERS", "kafka+ssl://me:hunter2@a:9092", "but is a text of 29 characters, not shown since"],
    ["KAFKA_PREFIX", "a/b.", 'A-Z a-z 0-9 . _ -, but is "a/b."'],
    ["SPILLWAY_TOPIC", "my events", 'A-Z a-z 0-9 . _ -, but is "my events"'],
    ["DATABASE_URL", "postgres://me:hunter2#@db/x", "as `%23` `%2F` `%3F` `%40` `%25`"],
    ["DATABASE_URL", "nonsense", "names one server, but is a text of 8 characters, not shown"],
    ["DATABASE_URL", "db:5432/x", "`postgres://user:password@host:port/database`"],
    ["DATABASE_URL", "mysql://me:hunter2@db/x", "names one server, but is mysql://me:***@db/x."],
    ["DATABASE_URL", "me:hunter2@db:5432/x", "begins with postgres://"],
    ["DATABASE_URL", "postgres://me:pw@db-1:5432,db-2:5432/x", "names one server"],
    ["DATABASE_URL", "postgres://me:pw@db-1,db-2/x", "names one server"],
    // Figures before a bare sign, and it would be another URL: of a server "me", with the rest of the password in its name.
    ["DATABASE_URL", "postgres://me:12#hunter2@db/x", "names one server, but is a text"],
    ["DATABASE_URL", "postgres://me:12/hunter2@db/x", "names one server, but is a text"],
    ["DATABASE_URL", "postgres://me:12?hunter2@db/x", "names one server, but is a text"],
    ["DATABASE_URL", "postgres://me:1@2/hunter2@db/x", "names one server, but is a text"],
    ["DATABASE_URL", "mysql://me:12/hunter2@db/x", "begins with postgres://"],
  ])("refuse %s=%s with what it is and what to write", (name, value, said) => {
    const declarations = name === "DATABASE_URL" ? databaseSettings : logSettings;
    const problems = problemsOf(() => readSettings(declarations, { KAFKA_BROKERS: "a:1", [name]: value }));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${name} must `));
    expect(problems[0]).toContain(said);
    expect(problems[0]).not.toContain("hunter2");
  });

  test("take brokers by name, by address and several, and both schemes of PostgreSQL", () => {
    const brokers = "kafka:1,10.0.0.1:9092, localhost:65535,my_host.example.org:19092";
    expect(readSettings(logSettings, { KAFKA_BROKERS: brokers }).KAFKA_BROKERS).toHaveLength(4);
    const [first = "", ...others] = [
      "postgres://me:p%23%2F%3F%40%25@db/x",
      "postgres://me:p@ss:w[o]r%d@db/x",
      "postgresql://me:pw@db:5432/x?sslmode=require",
      "postgres://me:pw@[::1]:5432/x",
      "postgres:///x?host=/run",
      "postgres://me:pw@/x?host=/run",
      "postgres://%2Frun/x",
    ];
    for (const url of [first, ...others])
      expect(readSettings(databaseSettings, { DATABASE_URL: url }).DATABASE_URL).toBe(url);
    // As files and secrets hold it.
    expect(readSettings(databaseSettings, { DATABASE_URL: ` ${first}\n` }).DATABASE_URL).toBe(first);
  });

  test("tell where a database is, and never its password", () => {
    const shown = (url: string) => printable(readSettings(databaseSettings, { DATABASE_URL: url }))["DATABASE_URL"];
    for (const [url, printed, address] of [
      ["postgres://me:p%2Fw@db:5432/x", "postgres://me:***@db:5432/x", "db:5432/x"],
      ["postgres://me:p/w@/x?host=/run", "postgres://me:***@/x?host=/run", "/run/x"],
      ["postgres:///x?host=/run&password=p/w", "(set)", "/run/x"],
    ] as const) {
      const clean = url.replace("p/w", "pw");
      expect([shown(clean), databaseAddress(clean)]).toEqual([printed, address]);
    }
    expect(databaseAddress("postgres://me:12/hunter2@db/x")).toBe("PostgreSQL");
  });

  test("of the database name an sslmode that there is, and files of PEM that can be read", () => {
    for (const mode of ["", "?sslmode=verify-full", "?sslmode=no-verify", "?sslmode=require"])
      expect(() => requireDatabaseTls(`postgres://me:hunter2@db/x${mode}`)).not.toThrow();
    const problems = problemsOf(() =>
      requireDatabaseTls("postgres://me:hunter2@db/x?sslmode=on&sslrootcert=/none.pem&sslkey=/none.key"),
    );
    expect(problems).toEqual([
      expect.stringMatching(/^DATABASE_URL: sslrootcert is \/none\.pem: it cannot be read \(ENOENT\)\. It is PEM/),
      expect.stringMatching(/^DATABASE_URL: sslkey is \/none\.key: it cannot be read/),
      "DATABASE_URL: sslcert and sslkey belong together: name both, or none.",
      "DATABASE_URL: sslmode is on: it is one of disable, no-verify, prefer, require, verify-ca, verify-full.",
    ]);
  });

  test("of the database name certificate and key that belong together, as files", () => {
    const folder = mkdtempSync(join(tmpdir(), "spillway-database-tls-"));
    const authority = newAuthority(folder, "one");
    const [mine, another] = [authority.issue("mine"), authority.issue("another")];
    const problems = (search: string, days = 0) =>
      problemsOf(() =>
        requireDatabaseTls(`postgres://me@/x?host=/run&${search}`, { now: () => Date.now() + days * 86_400_000 }),
      );
    const pair = `sslcert=${mine.cert}&sslkey=${mine.key}`;
    expect(problems(pair, 1)).toEqual([]);
    expect(problems(pair, 4)).toEqual([expect.stringMatching(/^DATABASE_URL: sslcert is valid from .*: renew it, or/)]);
    expect(problems(`sslcert=${mine.cert}`)).toEqual([
      expect.stringMatching(/^DATABASE_URL: sslcert and sslkey belong/),
    ]);
    expect(problems(`sslcert=${mine.cert}&sslkey=${another.key}`)).toEqual([
      expect.stringMatching(/^DATABASE_URL: sslkey is not the key of sslcert, has a passphrase, or is torn/),
    ]);
    const text = encodeURIComponent(readFileSync(authority.cert, "utf8"));
    expect(problems(`sslrootcert=${text}`)).toEqual([
      expect.stringMatching(/^DATABASE_URL: sslrootcert is a text of \d+ characters: it must be the path of a file/),
    ]);
    rmSync(folder, { recursive: true });
  });

  test("ignore what is not declared", () => {
    expect(readSettings({ NAME: DECLARED.NAME }, { NAME: "n", OTHER: "o" })).toEqual({ NAME: "n" });
  });

  test("can be read twice from the same declarations", () => {
    expect(readSettings(DECLARED, { NAME: "a" }).NAME).toBe("a");
    expect(readSettings(DECLARED, { NAME: "b" }).NAME).toBe("b");
  });

  test("print without secrets", () => {
    const settings = readSettings(
      { ...DECLARED, ...databaseSettings },
      { NAME: "n", PASSWORD: "hunter2", DATABASE_URL: "postgres://me:hunter2@db:5432/x?sslpassword=hunter2&a=b" },
    );
    const printed = printable(settings);
    expect(JSON.stringify(printed)).not.toContain("hunter2");
    expect(printed).toMatchObject({ NAME: "n", PASSWORD: "(set)", WAIT_MS: 10 });
    expect(printed["DATABASE_URL"]).toBe("postgres://me:***@db:5432/x?sslpassword=***&a=b");
  });

  test("do not print a password that looks like an address", () => {
    const password = "scheme://hunter2.hunter2/?x";
    const settings = readSettings(
      { NAME: DECLARED.NAME, PASSWORD: DECLARED.PASSWORD },
      { NAME: "n", PASSWORD: password },
    );
    expect(printable(settings)).toEqual({ NAME: "n", PASSWORD: "(set)" });
  });

  test("do not print as a copy, which has lost what is secret", () => {
    expect(() => printable({ ...readSettings(DECLARED, { NAME: "n" }) })).toThrow("copy");
  });

  test("describe themselves for the table of the README", () => {
    const rows = settingRows({ ...DECLARED, ...logSettings, PORT: port(3001) });
    expect(rows).toContainEqual({ name: "NAME", fallback: "must be set", sentence: "Whose it is.", secret: false });
    expect(rows).toContainEqual({ name: "WAIT_MS", fallback: "`10`", sentence: "How long.", secret: false });
    expect(rows.find(({ name }) => name === "SPILLWAY_GROUP")?.fallback).toBe("`SPILLWAY_TOPIC` + `.sink`");
    for (const { sentence } of rows) expect(sentence).toMatch(/^[A-Z].*\.$/);
  });

  test("derive control topic and group from the topic unless they are given", () => {
    const given = { KAFKA_BROKERS: "k:9092", SPILLWAY_TOPIC: "t" };
    expect(topicNames(readSettings(logSettings, given))).toEqual({ topic: "t", control: "t.control", group: "t.sink" });
    const all = { ...given, SPILLWAY_CONTROL_TOPIC: "c", SPILLWAY_GROUP: "g" };
    expect(topicNames(readSettings(logSettings, all))).toEqual({ topic: "t", control: "c", group: "g" });
    const names = (given: Readonly<Record<string, string>>) =>
      topicNames(readSettings(logSettings, { ...given, KAFKA_PREFIX: "team-1." }));
    expect(names(given)).toEqual({ topic: "team-1.t", control: "team-1.t.control", group: "team-1.t.sink" });
    expect(names(all)).toEqual({ topic: "team-1.t", control: "team-1.c", group: "team-1.g" });
  });

  test("know the levels of the log", () => {
    expect(problemsOf(() => readSettings(processSettings, { LOG_LEVEL: "loud" }))).toHaveLength(1);
  });
});

describe("keys", () => {
  const folder = mkdtempSync(join(tmpdir(), "spillway-keys-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const records = JSON.stringify([{ name: "a", sha256: tokenHash("t"), clients: [{ exact: "1" }], verbs: ["read"] }]);
  const read = (given: Readonly<Record<string, string>>) => readKeys(readSettings(httpSettings, given));

  test("come from JSON or from a file", () => {
    const file = join(folder, "keys.json");
    writeFileSync(file, records);
    for (const value of [records, file]) expect(read({ SPILLWAY_KEYS: value })?.find("t")?.name).toBe("a");
  });

  test("may be left out on loopback", () => {
    for (const host of ["127.0.0.1", "127.1.2.3", "localhost", "::1"]) expect(read({ HOST: host })).toBeNull();
  });

  test("may not be left out elsewhere, unless it was asked for", () => {
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org", "example.org"]) {
      const [problem] = problemsOf(() => read({ HOST: host }));
      expect(problem).toMatch(/npm run keys.*SPILLWAY_OPEN=true/);
      expect(read({ HOST: host, SPILLWAY_OPEN: "true" })).toBeNull();
      expect(read({ HOST: host, SPILLWAY_KEYS: records })?.size).toBe(1);
    }
  });

  test("come from a file whose name ends with a line end, as a secret often does", () => {
    const file = join(folder, "more.json");
    writeFileSync(file, records);
    expect(read({ SPILLWAY_KEYS: `${file}\n` })?.size).toBe(1);
  });

  test("are not repeated where a token, or their JSON within quotes, is taken for a file's name", () => {
    const token = "spillway_Hunter2-Hunter2_Hunter2Hunter2Hunter2Hunter2";
    for (const value of [token, `'${records}'`]) {
      const problems = problemsOf(() => read({ SPILLWAY_KEYS: value }));
      expect(problems).toEqual([
        `SPILLWAY_KEYS: a text of ${value.length} characters is no file that can be read (ENOENT). It is a file made by ` +
          "npm run keys, or its JSON.",
      ]);
    }
    expect(problemsOf(() => read({ SPILLWAY_KEYS: "none.json" })).join()).toMatch(
      /^SPILLWAY_KEYS: none\.json is no file/,
    );
  });

  test("that cannot be read stop the start with their setting's name", () => {
    for (const value of [join(folder, "none.json"), "[nonsense", '[{"name":"a"}]'])
      expect(problemsOf(() => read({ SPILLWAY_KEYS: value })).join()).toMatch(/^SPILLWAY_KEYS: /);
  });
});

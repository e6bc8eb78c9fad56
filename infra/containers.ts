/** Kafka and PostgreSQL from their official images. Imported only when Docker is used. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Wait } from "testcontainers";
import { containerRuntime, containerServer, volumeOf } from "./container-server.ts";
import { brokerSettings } from "./kafka-native.ts";
import { keptPorts } from "./ports.ts";
import type { KafkaOptions, KafkaServer, PostgresOptions, PostgresServer } from "./server.ts";

const KAFKA_IMAGE = "apache/kafka:4.3.1";
const POSTGRES_IMAGE = "postgres:18";
const USER = "spillway";
/** Only the container itself reaches these. */
const INNER_PORT = 9_092;
const CONTROLLER_PORT = 9_093;

/** Not yet started. @throws Missing when no container runtime answers */
export async function containerKafka({ dataDir, advertisedPort }: KafkaOptions): Promise<KafkaServer> {
  const client = await containerRuntime();
  mkdirSync(dataDir, { recursive: true });
  const [port = 0] = await keptPorts(join(dataDir, "ports.json"), 1);
  const volume = volumeOf("kafka", dataDir);
  const mount = "/var/lib/kafka/data";
  const advertised = advertisedPort ?? port;
  const settings = brokerSettings({
    port,
    inner: INNER_PORT,
    controller: CONTROLLER_PORT,
    advertised,
    logDir: mount,
    host: "0.0.0.0",
  });
  const server = containerServer(
    {
      what: `Kafka: Docker image ${KAFKA_IMAGE}; data in the volume ${volume}; port ${port}`,
      image: KAFKA_IMAGE,
      dataDir,
      volume,
      mount,
      port,
      // The same as outside, so that the advertised address is right in both places.
      portInside: port,
      env: Object.fromEntries(Object.entries(settings).map(([name, value]) => [variable(name), value])),
      ready: Wait.forLogMessage(/Kafka Server started/),
    },
    client,
  );
  return Object.assign(server, { brokers: `127.0.0.1:${advertised}`, ownPort: port });
}

/** Not yet started. @throws Missing when no container runtime answers */
export async function containerPostgres({ dataDir, settings }: PostgresOptions): Promise<PostgresServer> {
  const client = await containerRuntime();
  mkdirSync(dataDir, { recursive: true });
  const [port = 0] = await keptPorts(join(dataDir, "ports.json"), 1);
  const volume = volumeOf("postgres", dataDir);
  const all = { max_connections: "100", ...settings };
  const server = containerServer(
    {
      what: `PostgreSQL: Docker image ${POSTGRES_IMAGE}; data in the volume ${volume}; port ${port}`,
      image: POSTGRES_IMAGE,
      dataDir,
      volume,
      // Since 18 the data lies in a folder per version below this.
      mount: "/var/lib/postgresql",
      port,
      portInside: 5_432,
      env: { POSTGRES_USER: USER, POSTGRES_DB: USER, POSTGRES_HOST_AUTH_METHOD: "trust" },
      command: ["postgres", ...Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      // While it initialises itself it listens on no TCP port.
      ready: Wait.forSuccessfulCommand(`pg_isready -h 127.0.0.1 -U ${USER}`),
    },
    client,
  );
  return Object.assign(server, {
    url: `postgres://${USER}@127.0.0.1:${port}/${USER}`,
    deletion: `docker volume rm ${volume}`,
  });
}

/** The image takes `log.dirs` as KAFKA_LOG_DIRS. */
function variable(setting: string): string {
  return `KAFKA_${setting.toUpperCase().replaceAll(".", "_")}`;
}

/** The life of a server in a container; Kafka and Postgres differ in the recipe only. Imported only when Docker is used. */
import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import {
  type ContainerRuntimeClient,
  GenericContainer,
  getContainerRuntimeClient,
  type WaitStrategy,
} from "testcontainers";
import { Missing, type Server } from "./server.ts";

type Container = ReturnType<ContainerRuntimeClient["container"]["getById"]>;

const STOP_LIMIT_MS = 20_000;
const START_LIMIT_MS = 120_000;
const LOG_LINES_MAX = 15;
const LABEL = "spillway.data";

/** On the loopback only, as on this machine itself: neither server asks who is there. */
class LoopbackContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    const bindings = (this.hostConfig.PortBindings ?? {}) as Record<string, { HostIp?: string }[]>;
    for (const binding of Object.values(bindings).flat()) binding.HostIp = "127.0.0.1";
  }
}

export interface ContainerRecipe {
  readonly what: string;
  readonly image: string;
  readonly dataDir: string;
  readonly volume: string;
  /** Where the data lies in the container. */
  readonly mount: string;
  /** On this machine. */
  readonly port: number;
  /** In the container. */
  readonly portInside: number;
  readonly env: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  readonly ready: WaitStrategy;
}

/** @throws Missing when no container runtime answers */
export async function containerRuntime(): Promise<ContainerRuntimeClient> {
  try {
    return await getContainerRuntimeClient();
  } catch (cause) {
    throw new Missing(
      "No container runtime answers either. Debian, Ubuntu: sudo apt-get install docker.io; macOS: Docker Desktop or Colima; then start it.",
      { cause },
    );
  }
}

/** One volume for each data folder. */
export function volumeOf(name: string, dataDir: string): string {
  return `spillway-${name}-${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}`;
}

/** Each start makes a new container on the same volume and port; one that a crash left on the volume goes first. */
export function containerServer(recipe: ContainerRecipe, client: ContainerRuntimeClient): Server {
  const { volume } = recipe;
  const { dockerode } = client.container;
  const own = async (): Promise<Container | undefined> => {
    const [found] = await dockerode.listContainers({ all: true, filters: { label: [`${LABEL}=${volume}`] } });
    return found && client.container.getById(found.Id);
  };
  const removeContainer = async (): Promise<void> => {
    const container = await own();
    await container?.remove({ force: true, v: true });
  };
  const start = async (): Promise<void> => {
    const left = await own();
    if (left && (await left.inspect()).State.Running) return;
    await removeContainer();
    const log: string[] = [];
    try {
      await describe(recipe)
        .withLogConsumer((stream) =>
          stream.on("data", (line) => {
            log.push(String(line).trimEnd());
            if (log.length > LOG_LINES_MAX) log.shift();
          }),
        )
        .start();
    } catch (cause) {
      await removeContainer();
      throw new Error(
        `${recipe.what}: the container did not start: ${String(cause)}. The end of its log:\n${log.join("\n")}`,
        { cause },
      );
    }
  };
  const stop = async (limitMs = STOP_LIMIT_MS): Promise<void> => {
    const container = await own();
    if (container) await client.container.stop(container, { timeout: limitMs });
    await removeContainer();
  };
  return {
    what: recipe.what,
    pid: undefined,
    start,
    stop,
    restart: async () => {
      await stop();
      await start();
    },
    // Removing by force is SIGKILL first.
    kill: removeContainer,
    remove: async () => {
      await removeContainer();
      await dockerode.getVolume(volume).remove({ force: true });
      rmSync(recipe.dataDir, { recursive: true, force: true });
    },
  };
}

function describe({ image, volume, mount, port, portInside, env, command, ready }: ContainerRecipe): GenericContainer {
  const container = new LoopbackContainer(image)
    .withLabels({ [LABEL]: volume })
    .withEnvironment({ ...env })
    .withExposedPorts({ container: portInside, host: port })
    .withBindMounts([{ source: volume, target: mount }])
    .withWaitStrategy(ready)
    .withStartupTimeout(START_LIMIT_MS);
  return command ? container.withCommand([...command]) : container;
}

/** Ports on the loopback that stay the same over a restart. */
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";

/**
 * Below the range from which the system takes the ports of outgoing connections (32768 on Linux, 49152 on macOS): a port
 * from there can be taken while its server is down, even by a client's own reconnecting, which then connects to itself.
 */
const FIRST = 15_000;
const LAST = 32_000;
const TRIES_MAX = 200;

/** `count` different free ports on 127.0.0.1. They are only free at this moment: the caller binds them soon. */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === TRIES_MAX) throw new Error(`no free port found on 127.0.0.1 between ${FIRST} and ${LAST}`);
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const server = await listen(port);
    if (!server) continue;
    held.push(server);
    ports.push(port);
  }
  for (const server of held) await closed(server);
  return ports;
}

/**
 * The ports noted in `file` if they are all still free, else new ones, which are noted there.
 * @param file a JSON file, such as `.spillway/kafka/ports.json`
 */
export async function keptPorts(file: string, count: number): Promise<number[]> {
  if (existsSync(file)) {
    const kept: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (Array.isArray(kept) && kept.length === count && (await allFree(kept.map(Number)))) return kept.map(Number);
  }
  const ports = await freePorts(count);
  writeFileSync(file, `${JSON.stringify(ports)}\n`);
  return ports;
}

/** Whether nobody listens on it on 127.0.0.1 at this moment. */
export async function isFree(port: number): Promise<boolean> {
  const server = await listen(port);
  if (server) await closed(server);
  return server !== undefined;
}

/**
 * Keeps a port for a process that is started later: until the function returned is called nobody else gets it. Whoever
 * connects meanwhile is turned away. Undefined when somebody has it.
 */
export async function holdPort(port: number): Promise<(() => Promise<void>) | undefined> {
  const server = await listen(port);
  server?.on("connection", (socket) => socket.destroy());
  return server && (() => closed(server));
}

async function allFree(ports: readonly number[]): Promise<boolean> {
  for (const port of ports) if (!(await isFree(port))) return false;
  return true;
}

async function listen(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
    return server;
  } catch {
    return undefined;
  }
}

async function closed(server: Server): Promise<void> {
  const done = once(server, "close");
  server.close();
  await done;
}

/** Ends a statement whose answer nobody waits for any more. */
import { connect } from "node:net";
import type pg from "pg";
import type { Clock } from "#lib/clock.ts";

/** The server answers a cancel request by closing the connection; one that is away does not hold us up. */
const CANCEL_MS_MAX = 1_000;
const CANCEL_REQUEST_CODE = 80_877_102;

/** What a client knows of its backend, though its types do not say so. */
interface Backend {
  readonly processID?: number | null;
  readonly secretKey?: number | null;
}

/**
 * Asks the server, over a connection of its own, to cancel what runs on the client's. A backend does not notice that its
 * client has left while it waits for a lock: without this, every statement given up on a locked table leaves one behind,
 * until no connection is left. Resolves when that is done or given up; never rejects.
 */
export function cancelStatement(client: pg.ClientBase, clock: Clock): Promise<void> {
  const { host, port } = client as unknown as pg.Client;
  const { processID, secretKey } = client as unknown as Backend;
  if (!processID || typeof secretKey !== "number") return Promise.resolve();
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(CANCEL_REQUEST_CODE, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = host.startsWith("/") ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  const giveUp = clock.after(CANCEL_MS_MAX, () => socket.destroy());
  // A failure is followed by `close`; flowing, so that the server's end is noticed.
  socket
    .on("error", () => undefined)
    .on("close", () => {
      giveUp();
      resolve();
    });
  socket.resume().end(request);
  return promise;
}

/** Several followers on one socket: cut together, each resumes with its own cursor. */

import { connectInTurn, type Follower } from "./follower.ts";
import { type Connection, openSocket } from "./follower-connection.ts";
import type { Node } from "./producer.ts";

export class Crowd {
  readonly followers: readonly Follower[];
  connections = 0;
  #connection: Connection | null = null;

  constructor(followers: readonly Follower[]) {
    this.followers = followers;
  }

  async connect(node: Node): Promise<void> {
    const byClient = new Map(this.followers.map((one) => [one.clientId, one]));
    for (const one of this.followers) one.begin();
    this.connections++;
    const parts = {
      headers: {},
      frame: (text: string): void => {
        const { clientId } = JSON.parse(text) as { clientId?: string };
        if (this.#connection === connection) byClient.get(clientId ?? "")?.take(text);
      },
      closed: () => undefined,
    };
    const connection = openSocket(node, { after: undefined }, parts);
    this.#connection = connection;
    await connection.opened;
    for (const { clientId, cursor } of this.followers) connection.say({ op: "subscribe", clientId, after: cursor });
  }

  reconnect(nodes: readonly Node[]): Promise<void> {
    return connectInTurn(this, nodes, `${this.followers.length} followers`);
  }

  cut(): void {
    const connection = this.#connection;
    this.#connection = null;
    connection?.terminate();
  }

  get open(): boolean {
    return this.#connection?.open === true;
  }

  get shown(): number {
    return this.followers.reduce((sum, { shown }) => sum + shown, 0);
  }

  /** Undefined while one of them has nothing to resume from. */
  get cursor(): string | undefined {
    return this.followers.every(({ cursor }) => cursor !== undefined) ? this.followers[0]?.cursor : undefined;
  }
}

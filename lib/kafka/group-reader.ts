/** Port 2 over kafkajs. */
import type { KafkaOptions } from "./connection.ts";
import type { GroupReader } from "./ports.ts";

export interface GroupReaderOptions {
  readonly topic: string;
  readonly groupId: string;
}

/** Not there yet. */
export function createGroupReader(_options: KafkaOptions, { topic }: GroupReaderOptions): GroupReader {
  throw new Error(`there is no group reader for ${topic} yet`);
}

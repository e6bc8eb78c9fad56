/** One real broker and one real PostgreSQL for all tests of a run; see test/support for what tests make of them. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { provideKafka, providePostgres } from "../../infra/stack.ts";
import { newFolder } from "../support/folder.ts";

declare module "vitest" {
  export interface ProvidedContext {
    kafkaBrokers: string;
    databaseUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = newFolder("tests");
  const say = (line: string): void => console.log(line);
  const kafka = await provideKafka({ dataDir: join(folder, "kafka"), say });
  const postgres = await providePostgres({
    dataDir: join(folder, "postgres"),
    say,
    settings: { fsync: "off", full_page_writes: "off" },
  });
  const teardown = async (): Promise<void> => {
    await Promise.all([kafka.remove(), postgres.remove()]);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await Promise.all([kafka.start(), postgres.start()]);
  } catch (error) {
    await teardown();
    throw error;
  }
  project.provide("kafkaBrokers", kafka.brokers);
  project.provide("databaseUrl", postgres.url);
  return teardown;
}

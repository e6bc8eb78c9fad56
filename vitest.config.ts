import { defineConfig } from "vitest/config";

/** It measures how sinks share the machine: what ran beside it would have its part. */
const ALONE = "test/promises/sinks-share-the-work.test.ts";

export default defineConfig({
  test: {
    globals: false,
    include: [],
    teardownTimeout: 60_000,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/promises/**", "test/real/**", "test/containers/**", "test/house.test.ts"],
          // For what hangs: some start programs, which takes long on a machine that is busy with the other projects.
          testTimeout: 60_000,
          pool: "threads",
        },
      },
      { test: { name: "house", include: ["test/house.test.ts"], testTimeout: 30_000 } },
      {
        test: {
          name: "promises",
          include: ["test/promises/**/*.test.ts", "test/real/**/*.test.ts"],
          exclude: [ALONE],
          globalSetup: ["./test/promises/setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          // Two files at a time: most of what they do is wait. Each has topics and databases of its own.
          maxWorkers: 2,
          pool: "forks",
        },
      },
      {
        test: {
          name: "alone",
          include: [ALONE],
          globalSetup: ["./test/promises/setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "containers",
          include: ["test/containers/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});

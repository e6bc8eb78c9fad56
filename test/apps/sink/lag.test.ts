import { expect, test } from "vitest";
import { createMetrics } from "#lib/metrics.ts";
import { Lag } from "../../../apps/sink/lag.ts";
import { fakeClock, settled } from "../../support/fake-clock.ts";

/** Two partitions of a sink, and a log that grows while the sink saves nothing. */
function scene() {
  const clock = fakeClock();
  const metrics = createMetrics("sink");
  const world = {
    ends: new Map([
      [0, 5n],
      [1, 7n],
    ]),
    partitions: [0, 1],
    silent: false,
  };
  const lag = new Lag({
    topic: "t",
    reader: {
      highWatermarks: () => (world.silent ? new Promise(() => undefined) : Promise.resolve(new Map(world.ends))),
    },
    lanes: {
      get partitions() {
        return world.partitions;
      },
    },
    clock,
    metrics,
  });
  const read = async (name: string): Promise<string[]> => {
    const text = metrics.registry.metrics();
    await settled();
    await clock.advance(2_000);
    return (await text).split("\n").filter((line) => line.startsWith(`spillway_sink_${name}{`));
  };
  return { world, lag, read };
}

test("the lag is what the log holds beyond the checkpoint when it is read, though no batch was written since", async () => {
  const { world, lag, read } = scene();
  expect(await read("lag_records")).toEqual([]);
  lag.moved(
    new Map([
      [0, 5n],
      [1, 3n],
    ]),
  );
  expect(await read("lag_records")).toEqual([
    'spillway_sink_lag_records{partition="0"} 0',
    'spillway_sink_lag_records{partition="1"} 4',
  ]);
  world.ends.set(0, 375n);
  expect((await read("lag_records"))[0]).toBe('spillway_sink_lag_records{partition="0"} 370');
  // A log that is silent holds no scrape up, and its end is the last one known.
  world.silent = true;
  lag.moved(new Map([[0, 100n]]));
  expect((await read("lag_records"))[0]).toBe('spillway_sink_lag_records{partition="0"} 275');
});

test("a checkpoint is there with the first look, and goes with its partition to another sink", async () => {
  const { world, lag, read } = scene();
  lag.moved(
    new Map([
      [0, 1n],
      [1, 1n],
    ]),
  );
  expect(await read("checkpoint")).toEqual([
    'spillway_sink_checkpoint{partition="0"} 1',
    'spillway_sink_checkpoint{partition="1"} 1',
  ]);
  world.partitions = [1];
  expect(await read("lag_records")).toEqual(['spillway_sink_lag_records{partition="1"} 6']);
  expect(await read("checkpoint")).toEqual(['spillway_sink_checkpoint{partition="1"} 1']);
});

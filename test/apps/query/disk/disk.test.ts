import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#lib/clock.ts";
import { Disk } from "../../../../apps/query/disk/disk.ts";
import { relieve } from "../../../../apps/query/disk/relieve.ts";
import { windowOf } from "../../../../apps/query/disk/window.ts";
import { PartitionTail } from "../../../../apps/query/partition-tail.ts";
import { ORIGIN } from "../../../../apps/query/places.ts";
import { newFolder } from "../../../support/folder.ts";
import { keptLog, silentLog, someEvent } from "../../../support/records.ts";
import { until } from "../../../support/until.ts";
import { ManualClock } from "../model.ts";

let folder: string;
beforeEach(() => {
  folder = newFolder("disk-of-tail");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const clock = systemClock;
const open = (bytesMax = 2 ** 30, time = clock): Promise<Disk> =>
  Disk.open({ folder, bytesMax, log: silentLog, clock: time });
const PLAIN = {
  after: ORIGIN,
  before: null,
  types: null,
  sinceMs: null,
  untilMs: null,
  order: "asc",
  limit: 100,
} as const;

/** Takes so many events of one client, and gives most of them to disk. */
async function filled(disk: Disk, events = 100, textBytes = 100): Promise<PartitionTail> {
  const tail = new PartitionTail(0n);
  for (let n = 0; n < events; n++) append(tail, textBytes);
  await relieve([tail], disk, clock);
  return tail;
}

function append(tail: PartitionTail, textBytes: number): void {
  const offset = tail.next;
  tail.append(
    [{ event: someEvent({ clientId: "a", id: `${offset}` }), offset, json: "x".repeat(textBytes) }],
    offset + 1n,
  );
}

const shown = async (tail: PartitionTail): Promise<number> => (await windowOf(tail.pin("a"), 1, PLAIN)).array.length;

test("what is dropped leaves the disk once its last reader is done, and a clean end leaves nothing", async () => {
  await using disk = await open(1);
  expect(readdirSync(folder)).toEqual([]);
  const tail = await filled(disk);
  const [segment] = tail.segments;
  const letGo = segment?.volume.hold();
  // Its bound is a byte: the volume is closed to others at once.
  expect([readdirSync(folder).length, await relieve([tail], disk, clock)]).toEqual([1, false]);
  const pin = tail.pin("a");
  tail.evict(tail.next);
  expect((await windowOf(pin, 1, PLAIN)).array).toHaveLength(100);
  letGo?.();
  await disk[Symbol.asyncDispose]();
  expect([readdirSync(folder), disk.bytes]).toEqual([[], 0]);
});

test("a full disk stops nothing but the spill, says so, and is tried again", async () => {
  const time = new ManualClock();
  await using disk = await open(2 ** 30, time);
  const tail = new PartitionTail(0n);
  for (let n = 0; n < 100; n++) append(tail, 100);
  expect(await relieve([tail], disk, clock)).toBe(true);
  const before = tail.segments;
  // As a LevelDB behaves whose disk is full: it takes no more, and gives what it has.
  const volume = before[0]?.volume;
  if (volume) volume.write = () => Promise.reject(new Error("IO error: No space left on device"));
  for (let n = 0; n < 100; n++) append(tail, 100);
  expect(await relieve([tail], disk, clock)).toBe(false);
  expect(disk.trouble).toContain(`${folder} does not take more: IO error: No space left on device`);
  expect([tail.segments, await shown(tail)]).toEqual([before, 101]);
  expect(await relieve([tail], disk, clock)).toBe(false);
  time.advance(1_000);
  expect(await relieve([tail], disk, clock)).toBe(true);
  expect([disk.trouble, tail.segments.length, readdirSync(folder).length]).toEqual([null, 2, 2]);
  tail.evict(before[0]?.to ?? 0n);
  await until("the volume that broke is gone", () => readdirSync(folder).length === 1);
  expect(await shown(tail)).toBe(101);
  tail.restart(0n);
});

test("its bound is kept, and there is room again once a volume is gone", async () => {
  await using disk = await open(400_000);
  const tail = await filled(disk, 200, 3_000);
  for (let n = 0; n < 200; n++) append(tail, 3_000);
  expect(await relieve([tail], disk, clock)).toBe(false);
  expect(disk.trouble).toContain(`reach SPILLWAY_TAIL_DISK_BYTES`);
  tail.evict(tail.segments.at(-1)?.to ?? 0n);
  await until("there is room", async () => relieve([tail], disk, clock));
  expect(tail.segments).toHaveLength(1);
  tail.restart(0n);
});

test("a folder that cannot be written to is told of, and no reason to end", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  await using disk = await Disk.open({ folder: file, bytesMax: 2 ** 30, log: silentLog, clock });
  const tail = await filled(disk);
  expect([tail.segments, disk.trouble?.startsWith(`${file} does not take more`)]).toEqual([[], true]);
});

test.skipIf(process.platform !== "linux")(
  "a folder that is there and takes nothing is told of before it is needed",
  async () => {
    const log = keptLog();
    // Not even root may make something there.
    await using _ = await Disk.open({ folder: "/proc/self", bytesMax: 1, log, clock });
    expect(log.lines.map(({ level, message }) => [level, message])).toEqual([
      ["warn", expect.stringMatching(/cannot be used: .* Set SPILLWAY_TAIL_FOLDER to one/)],
    ]);
    await using unused = await Disk.open({ folder: "/proc/self", bytesMax: 0, log, clock });
    expect([log.lines.length, unused.trouble !== null]).toEqual([1, true]);
  },
);

const LIVING = `
  import { Disk } from ${JSON.stringify(new URL("../../../../apps/query/disk/disk.ts", import.meta.url).href)};
  import { Volume } from ${JSON.stringify(new URL("../../../../apps/query/disk/volume.ts", import.meta.url).href)};
  await Volume.create(process.argv[1], () => undefined);
  console.log("made");
  setInterval(() => undefined, 1_000);
`;

test("what killed processes left behind is removed, and nobody else's", async () => {
  const foreign = newFolder("foreign");
  writeFileSync(join(foreign, "kept"), "");
  symlinkSync(foreign, join(folder, "spillway-tail-link"));
  mkdirSync(join(folder, "spillway-tail-other"));
  writeFileSync(join(folder, "spillway-tail-other", "kept"), "");
  const child = spawn(process.execPath, ["--input-type=module", "-e", LIVING, folder], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: new URL("../../../..", import.meta.url).pathname,
  });
  const volumes = (): string[] => readdirSync(folder).filter((name) => !/link|other/.test(name));
  try {
    await once(child.stdout, "data");
    const made = volumes();
    await (await open())[Symbol.asyncDispose]();
    expect([made.length, volumes()]).toEqual([1, made]);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  await (await open())[Symbol.asyncDispose]();
  expect(volumes()).toEqual([]);
  expect([existsSync(join(foreign, "kept")), existsSync(join(folder, "spillway-tail-other", "kept"))]).toEqual([
    true,
    true,
  ]);
  rmSync(foreign, { recursive: true });
});

/**
 * Where the unsaved tail lays down what memory does not hold: a cache, made anew by each process. Segments go into one volume
 * until that is large enough, then into the next; a volume goes with its last segment and reader.
 */
import { lstat, mkdir, mkdtemp, readdir, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import type { Clock } from "#lib/clock.ts";
import type { Log } from "#lib/log.ts";
import { type Oldest, Segment } from "./segment.ts";
import { FOLDER_PREFIX, Volume } from "./volume.ts";

export interface DiskParts {
  /** Empty: the system's for temporary files. */
  readonly folder: string;
  /** Keys and values, also of what is no longer needed and shares a volume with something that is. */
  readonly bytesMax: number;
  readonly log: Log;
  readonly clock: Clock;
}

/** What is dropped leaves the disk by whole volumes: large ones keep much that is dead; each has its open files in memory. */
const VOLUME_BYTES_MAX = 1024 * 1024 * 1024;
const VOLUMES_MIN = 8;
/** After a failure: LevelDB's own files are a few KiB, but a full disk is seldom free a moment later. */
const RETRY_MS = 1_000;

export class Disk implements AsyncDisposable {
  readonly #parts: DiskParts;
  readonly #volumes = new Set<Volume>();
  readonly #removals = new Set<Promise<void>>();
  /** Takes the next segments; null: the next one makes it. Those that it has hold it. */
  #open: Volume | null = null;
  #segments = 0;
  #failure: { readonly why: string; readonly atMs: number } | null = null;

  private constructor(parts: DiskParts) {
    this.#parts = parts;
  }

  /** Removes what processes left behind that were killed. Nothing is made until it is needed. */
  static async open({ folder, ...parts }: DiskParts): Promise<Disk> {
    const disk = new Disk({ ...parts, folder: folder === "" ? tmpdir() : folder });
    await disk.#sweep();
    return disk;
  }

  /** Takes up room, dead or alive. */
  get bytes(): number {
    let bytes = 0;
    for (const volume of this.#volumes) bytes += volume.bytes;
    return bytes;
  }

  /** Why nothing more goes to disk; null: it does. */
  get trouble(): string | null {
    const { folder, bytesMax } = this.#parts;
    if (this.#failure !== null) return `${folder} does not take more: ${this.#failure.why}`;
    return this.bytes >= bytesMax ? `${this.bytes} bytes in ${folder} reach SPILLWAY_TAIL_DISK_BYTES` : null;
  }

  /** Null: the disk takes nothing now, and `trouble` says why. */
  async write(oldest: Oldest): Promise<Segment | null> {
    const { clock, log, bytesMax } = this.#parts;
    if (this.bytes >= bytesMax) return null;
    if (this.#failure !== null && clock.elapsed() - this.#failure.atMs < RETRY_MS) return null;
    try {
      this.#open ??= await this.#create();
      const volume = this.#open;
      const segment = await Segment.write(volume, this.#segments++, oldest, () => clock.turn());
      if (volume.bytes >= Math.min(VOLUME_BYTES_MAX, bytesMax / VOLUMES_MIN)) this.#open = null;
      if (this.#failure !== null) log.info("disk takes the unsaved tail again", { folder: this.#parts.folder });
      this.#failure = null;
      return segment;
    } catch (error) {
      const why = innermost(error as Error).message;
      if (this.#failure === null) log.warn("unsaved tail not written", { folder: this.#parts.folder, error: why });
      this.#failure = { why, atMs: clock.elapsed() };
      this.#open = null;
      return null;
    }
  }

  /** Removes everything, once what is under way has ended. Nothing may be read or written any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const volume of [...this.#volumes]) this.#remove(volume);
    await Promise.all(this.#removals);
  }

  /** LevelDB's lock tells the dead from the living: a folder whose process lives is refused. */
  async #sweep(): Promise<void> {
    const { folder, bytesMax, log } = this.#parts;
    let removed = 0;
    try {
      await mkdir(folder, { recursive: true });
      // Whether it can be written shows now, and not in the outage that needs it.
      if (bytesMax > 0) await rmdir(await mkdtemp(join(folder, "spillway-probe-")));
      for (const name of await readdir(folder))
        if (name.startsWith(FOLDER_PREFIX) && (await isOwn(join(folder, name))))
          removed += await destroyed(join(folder, name));
    } catch (error) {
      log.warn(
        "folder of the unsaved tail cannot be used: what memory does not hold will not be read. Set SPILLWAY_TAIL_FOLDER to " +
          "one that this process may write",
        { folder, error: (error as Error).message },
      );
    }
    if (removed > 0) log.info("unsaved tails of dead processes removed", { folder, removed });
  }

  async #create(): Promise<Volume> {
    const volume = await Volume.create(this.#parts.folder, (gone) => this.#remove(gone));
    this.#volumes.add(volume);
    return volume;
  }

  /** In the background: nobody waits for it, and only then it no longer counts. */
  #remove(volume: Volume): void {
    if (this.#open === volume) this.#open = null;
    const removal = volume
      .remove()
      .catch((error: Error) =>
        this.#parts.log.warn("volume not removed", { folder: volume.folder, error: error.message }),
      )
      .finally(() => {
        this.#volumes.delete(volume);
        this.#removals.delete(removal);
      });
    this.#removals.add(removal);
  }
}

/** A folder, and this user's: nobody else can have one removed through a link. */
async function isOwn(folder: string): Promise<boolean> {
  const stats = await lstat(folder).catch(() => null);
  return stats?.isDirectory() === true && (process.getuid === undefined || stats.uid === process.getuid());
}

/** "Database failed to open" says less than what made it fail. */
function innermost(error: Error): Error {
  return error.cause instanceof Error ? innermost(error.cause) : error;
}

async function destroyed(folder: string): Promise<number> {
  return ClassicLevel.destroy(folder).then(
    () => 1,
    () => 0,
  );
}

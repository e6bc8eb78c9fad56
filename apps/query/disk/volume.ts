/**
 * One database on disk, for a while. Nothing in it is ever changed or deleted: it is written until it is large enough, and
 * removed with its folder once nobody holds it. So dropping costs nothing, readers need no snapshot, and one that broke (a
 * LevelDB that met a full disk takes nothing any more) is merely replaced.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type BatchOperation, ClassicLevel } from "classic-level";

type Database = ClassicLevel<Buffer, Buffer>;

/** Name of a volume's folder, less what makes it its own. */
export const FOLDER_PREFIX = "spillway-tail-";

/**
 * Files are mapped into memory while they are open, and what was read of them counts as resident. 74 is the least that
 * LevelDB takes. Its cache of blocks is left out: the system's holds them already. Files are as large as what is gathered in
 * memory before one is written: with 1 MiB of 4 a node that read pages out of three million events held 25 MB less of them.
 */
const OPTIONS = {
  keyEncoding: "buffer",
  valueEncoding: "buffer",
  maxOpenFiles: 74,
  cacheSize: 64 * 1024,
  writeBufferSize: 1024 * 1024,
} as const;

/** What was laid down cannot be had any more: the log still has it. */
export class DiskUnreadable extends Error {
  override readonly name = "DiskUnreadable";
}

export interface Pair {
  readonly key: Buffer;
  readonly value: Buffer;
}

export class Volume {
  readonly folder: string;
  readonly #database: Database;
  readonly #onGone: (volume: Volume) => void;
  #holders = 0;
  #bytes = 0;

  private constructor(folder: string, database: Database, onGone: (volume: Volume) => void) {
    this.folder = folder;
    this.#database = database;
    this.#onGone = onGone;
  }

  /**
   * Held by nobody yet.
   * @param base an existing folder; the volume's own, for this user alone, is made in it
   * @param onGone called once its last holder has let go: then it is to be removed
   * @throws Error what the system and the database give
   */
  static async create(base: string, onGone: (volume: Volume) => void): Promise<Volume> {
    const folder = await mkdtemp(join(base, FOLDER_PREFIX));
    const database: Database = new ClassicLevel(folder, OPTIONS);
    try {
      await database.open();
      return new Volume(folder, database, onGone);
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** Keys and values written. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps it from being removed until the function returned is called. */
  hold(): () => void {
    this.#holders++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holders--;
      if (this.#holders === 0) this.#onGone(this);
    };
  }

  /** @throws Error what the database gives: then it takes nothing any more, and still gives what it has */
  async write(pairs: readonly Pair[]): Promise<void> {
    for (const { key, value } of pairs) this.#bytes += key.length + value.length;
    const operations: BatchOperation<Database, Buffer, Buffer>[] = pairs.map((pair) => ({ type: "put", ...pair }));
    await this.#database.batch(operations);
  }

  /** In the order asked. @throws DiskUnreadable */
  async read(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    try {
      return await this.#database.getMany([...keys], { fillCache: false });
    } catch (cause) {
      throw new DiskUnreadable(`${this.folder}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Waits for what is under way. @throws Error what the system gives */
  async remove(): Promise<void> {
    await this.#database.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Several volumes' values at once, in the order asked. @throws DiskUnreadable */
export async function readAll(
  wanted: readonly { readonly volume: Volume; readonly key: Buffer }[],
): Promise<(Buffer | undefined)[]> {
  const values = new Array<Buffer | undefined>(wanted.length);
  const byVolume = Map.groupBy(wanted.keys(), (nth) => wanted[nth]?.volume);
  await Promise.all(
    [...byVolume].map(async ([volume, nths]) => {
      const read = await volume?.read(nths.flatMap((nth) => wanted[nth]?.key ?? []));
      for (const [at, nth] of nths.entries()) values[nth] = read?.[at];
    }),
  );
  return values;
}

/** What a segment of the tail is written to, in memory. Once nobody holds it, it is gone. */
import { DiskUnreadable, type Pair, type Volume } from "../../../../apps/query/disk/volume.ts";

export class MemoryVolume implements Pick<Volume, "folder" | "bytes" | "hold" | "read" | "write"> {
  readonly folder = "memory";
  readonly bytes = 0;
  readonly #pairs = new Map<string, Buffer>();
  readonly #wait: () => Promise<boolean>;
  #holders = 0;
  #gone = false;

  /** @param wait others have their turn; true: this time it fails */
  constructor(wait: () => Promise<boolean>) {
    this.#wait = wait;
  }

  hold(): () => void {
    this.#holders++;
    let held = true;
    return () => {
      if (held) this.#holders--;
      held = false;
      this.#gone ||= this.#holders === 0;
    };
  }

  async write(pairs: readonly Pair[]): Promise<void> {
    await this.#wait();
    for (const { key, value } of pairs) this.#pairs.set(key.toString("hex"), Buffer.from(value));
  }

  async read(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]> {
    this.#mustBeThere();
    if (await this.#wait()) throw new DiskUnreadable("an error of input or output");
    this.#mustBeThere();
    return keys.map((key) => this.#pairs.get(key.toString("hex")));
  }

  #mustBeThere(): void {
    if (this.#gone) throw new Error("a volume is read that nobody holds");
  }
}

/** Finds a key that stands twice in one JSON object. */

/** The keys of one object. Most objects have few: comparing eight takes less time than making a Set. */
export class Keys {
  readonly #few: string[] = [];
  #many: Set<string> | undefined;

  /** False when the key is there already. */
  add(key: string): boolean {
    if (this.#many) return this.#many.size < this.#many.add(key).size;
    if (this.#few.includes(key)) return false;
    this.#few.push(key);
    if (this.#few.length > 8) this.#many = new Set(this.#few);
    return true;
  }
}

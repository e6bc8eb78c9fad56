/** What a unit costs, and what it costs when nobody disturbs, learned from batch after batch. Pure. */

/** The median of so many: neither a lock nor a checkpoint's spike moves it. */
const COSTS = 5;
/** Of the way up, by the clock and not by samples: a load that stays must not become normal while it lasts. */
const HALF_LIFE_MS = 600_000;
/** Of the way down, a sample: one cheap batch may be luck, several are the truth. */
const DOWN = 0.3;

/** What a unit costs at rest, in ms, and for how long nobody has been there to see it change. */
export interface Learned {
  readonly cost: number;
  readonly ageMs: number;
}

export class Baseline {
  #costs: readonly number[] = [];
  /** Of the last costs; NaN: too few. */
  #middle = Number.NaN;
  #base = Number.NaN;
  /** When it was last confirmed; NaN: not since it was recalled, at this age. */
  #atMs = Number.NaN;
  #ageMs = 0;
  #samples = 0;

  /** How often something was learned here: whether there is news. */
  get samples(): number {
    return this.#samples;
  }

  /** How many times the baseline the last batches' cost is; null: not known yet. */
  get stretch(): number | null {
    const stretch = this.#middle / this.#base;
    return Number.isNaN(stretch) ? null : stretch;
  }

  /** null: nothing yet. */
  get learned(): Learned | null {
    return Number.isNaN(this.#base) ? null : { cost: this.#base, ageMs: Number.isNaN(this.#atMs) ? this.#ageMs : 0 };
  }

  /**
   * Goes on from what was learned before, or by another sink. Its age counts; time in which a sink runs and has next to nothing
   * to save before its first sample does not.
   * @param atMs monotonic, now
   */
  recall({ cost, ageMs }: Learned, atMs: number): void {
    this.#base = cost;
    this.#ageMs = ageMs;
    if (!Number.isNaN(this.#atMs)) this.#atMs = atMs - ageMs;
  }

  /**
   * @param cost of one unit, in ms
   * @param atMs monotonic
   * @returns the last batches' cost
   */
  learn(cost: number, atMs: number): number {
    this.#samples++;
    this.#costs = [...this.#costs, cost].slice(-COSTS);
    const middle = [...this.#costs].sort((a, b) => a - b)[this.#costs.length >> 1] as number;
    if (this.#costs.length < COSTS) return middle;
    this.#middle = middle;
    const gapMs = Number.isNaN(this.#atMs) ? this.#ageMs : atMs - this.#atMs;
    this.#atMs = atMs;
    if (Number.isNaN(this.#base)) this.#base = middle;
    else if (middle < this.#base) this.#base += DOWN * (middle - this.#base);
    else this.#base += (middle - this.#base) * (1 - 2 ** (-gapMs / HALF_LIFE_MS));
    return middle;
  }
}

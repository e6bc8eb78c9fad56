/** Questions that wait for a connection, by form: which is next, and which go with it. Pure. */

/** What may go together in one statement. The same object for the same form. */
export interface Form {
  /** Most questions of one statement. */
  readonly together: number;
  /** Each takes the database long: such statements never have all connections, if there is more than one. */
  readonly heavy: boolean;
}

/** A question that waits, or did. */
export interface Queued {
  readonly question: { readonly key: string; readonly bytes: number };
  /** In order of arrival. */
  readonly nth: number;
  /** Whose queue it is in; null: none. */
  waitsIn: Form | null;
}

/**
 * What the answers of one statement are expected to hold; a question of more than this goes alone. They are read and printed
 * in one go: 3,000 events take 5 ms, in which no live frame leaves.
 */
export const ANSWERS_BYTES_MAX = 1024 * 1024;

export class Queues<T extends Queued> {
  /** By key, in order of arrival. */
  readonly #queues = new Map<Form, Map<string, T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  find(form: Form, key: string): T | undefined {
    return this.#queues.get(form)?.get(key);
  }

  /** Nothing of its key is there. */
  put(form: Form, one: T): void {
    const queue = this.#queues.get(form) ?? new Map<string, T>();
    this.#queues.set(form, queue.set(one.question.key, one));
    one.waitsIn = form;
    this.#size++;
  }

  remove(one: T): void {
    if (one.waitsIn === null) return;
    this.#queues.get(one.waitsIn)?.delete(one.question.key);
    one.waitsIn = null;
    this.#size--;
  }

  /** The form whose first question has waited longest. @param heavyToo whether a heavy one may be it */
  next(heavyToo: boolean): Form | null {
    let first: { readonly nth: number; readonly form: Form } | null = null;
    for (const [form, queue] of this.#queues) {
      const [head] = queue.values();
      if (head === undefined || (form.heavy && !heavyToo)) continue;
      if (first === null || head.nth < first.nth) first = { nth: head.nth, form };
    }
    return first?.form ?? null;
  }

  /** Takes out as many, of those that have waited longest, as may go in one statement. */
  gather(form: Form): T[] {
    const batch: T[] = [];
    let bytes = 0;
    for (const one of this.#queues.get(form)?.values() ?? []) {
      bytes += one.question.bytes;
      if (batch.length === form.together || (batch.length > 0 && bytes > ANSWERS_BYTES_MAX)) break;
      batch.push(one);
    }
    for (const one of batch) this.remove(one);
    return batch;
  }
}

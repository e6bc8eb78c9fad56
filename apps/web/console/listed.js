/** The events that a list shows, page after page: which of them are saved, and how many. Pure. */
export class Listed {
  #events = [];

  /**
   * @param {string} cursor cursors compare as text
   * @param {(saved: boolean) => void} mark called when it becomes known, and whenever it changes
   */
  add(cursor, mark) {
    this.#events.push({ cursor, mark, saved: undefined });
  }

  /** @param {string} cursor everything up to it is saved, as the node has just told */
  savedThrough(cursor) {
    for (const event of this.#events) {
      const saved = event.cursor <= cursor;
      if (saved !== event.saved) event.mark(saved);
      event.saved = saved;
    }
  }

  /** How many are not saved, as far as is known. */
  get unsaved() {
    return this.#events.filter(({ saved }) => !saved).length;
  }

  /** In words. */
  get count() {
    const { length } = this.#events;
    if (length === 0) return "no events";
    return `${length} ${length === 1 ? "event" : "events"}: ${length - this.unsaved} saved, ${this.unsaved} unsaved`;
  }
}

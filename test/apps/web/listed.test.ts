import { expect, test } from "vitest";

interface Listed {
  readonly unsaved: number;
  readonly count: string;
  add(cursor: string, mark: (saved: boolean) => void): void;
  savedThrough(cursor: string): void;
}
/** The page's own module, as the browser loads it. */
const file = new URL("../../../apps/web/console/listed.js", import.meta.url).href;
const { Listed } = (await import(file)) as { Listed: new () => Listed };

function list(...cursors: string[]) {
  const listed = new Listed();
  const marks: Record<string, boolean[]> = {};
  const add = (cursor: string): void => {
    const told: boolean[] = [];
    marks[cursor] = told;
    listed.add(cursor, (saved) => void told.push(saved));
  };
  for (const cursor of cursors) add(cursor);
  return { listed, marks, add };
}

test("the count is of everything shown, also after the next page", () => {
  const { listed, add } = list("01", "02");
  listed.savedThrough("01");
  expect(listed.count).toBe("2 events: 1 saved, 1 unsaved");
  add("03");
  listed.savedThrough("02");
  expect(listed.count).toBe("3 events: 2 saved, 1 unsaved");
  expect([list().listed.count, list("01").listed.count]).toEqual(["no events", "1 event: 0 saved, 1 unsaved"]);
});

test("a mark changes when its event is saved, and back when the checkpoint goes back; else it is left alone", () => {
  const { listed, marks } = list("01", "02");
  for (const cursor of ["00", "00", "01", "02", "02", "01"]) listed.savedThrough(cursor);
  expect(marks).toEqual({ "01": [false, true], "02": [false, true, false] });
  expect(listed.unsaved).toBe(1);
});

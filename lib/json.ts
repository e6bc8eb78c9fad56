/**
 * Finds in JSON text what JSON.parse would change or hide, in one pass that checks the whole grammar.
 *
 * Text without a fault survives JSON.stringify(JSON.parse(text)), the one canonical form, with these respellings only:
 * no space between tokens; integer-like keys first, in ascending order; the shortest escapes; numbers as JavaScript
 * prints them: 1.0 → 1, 1E2 → 100, -0 → 0, a fraction or a number with an exponent → the nearest double.
 */
import { type JsonFault, type JsonItem, type JsonLimits, Malformed, Scanner } from "./json-scanner.ts";

export type { JsonFault, JsonLimits };

export type JsonItems =
  | { readonly ok: true; readonly array: boolean; readonly items: readonly JsonItem[]; readonly tooMany: boolean }
  | { readonly ok: false; readonly fault: JsonFault };

/** Fatal, since the default replaces bad bytes silently; a byte order mark stays, and is then refused as no JSON. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text that these bytes are; null: they are no UTF-8. */
export function fromUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

/** The first fault of `text` as one JSON value, or null. Malformed text is told before any other fault. */
export function jsonFault(text: string, limits: JsonLimits): JsonFault | null {
  const scanned = guarded(() => new Scanner(text, limits).whole());
  return scanned.ok ? scanned.value.fault : scanned.fault;
}

/**
 * Takes an array apart into its elements, each with its own fault and its own limits; any other value is the one item.
 * @param itemsMax reading stops there, with `tooMany`
 */
export function scanItems(text: string, limits: JsonLimits, itemsMax: number): JsonItems {
  const scanned = guarded(() => new Scanner(text, limits).items(itemsMax));
  return scanned.ok ? { ok: true, ...scanned.value } : scanned;
}

function guarded<T>(scan: () => T): { ok: true; value: T } | { ok: false; fault: JsonFault } {
  try {
    return { ok: true, value: scan() };
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { ok: false, fault: { code: "malformed-json", pointer: "", detail: error.message } };
  }
}

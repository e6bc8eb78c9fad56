/** The pass over JSON text behind json.ts: the grammar as recursive descent, and what is wrong besides. */
import { excerpt, pointer } from "./excerpt.ts";
import { Keys } from "./json-keys.ts";
import { numberFault } from "./json-number.ts";
import type { ProblemCode } from "./problem.ts";

export interface JsonLimits {
  /** Containers within each other; `[[]]` has 2. */
  readonly depthMax: number;
  /** Of one value, at all levels together. */
  readonly keysMax: number;
  /** False refuses space between tokens; canonical text has none. */
  readonly spaceAllowed: boolean;
}

export interface JsonFault {
  readonly code: ProblemCode;
  /** JSON pointer within the value, shortened; "" is the value itself. */
  readonly pointer: string;
  readonly detail: string;
}

/** One element of an array, or the only value. */
export interface JsonItem {
  readonly text: string;
  /** The first by position. */
  readonly fault: JsonFault | null;
}

const [QUOTE, COMMA, MINUS, ZERO, NINE, COLON, BACKSLASH] = [0x22, 0x2c, 0x2d, 0x30, 0x39, 0x3a, 0x5c];
const [ARRAY_OPEN, ARRAY_CLOSE, OBJECT_OPEN, OBJECT_CLOSE] = [0x5b, 0x5d, 0x7b, 0x7d];
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
/** Most numbers: a double keeps 15 digits. */
const SHORT_INTEGER = /(?:0|[1-9][0-9]{0,14})(?![0-9.eE])/y;
const LITERAL = /true|false|null/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const PAIR = /\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}/y;
const UNSTORABLE = "which no database text can hold; remove it, or send the bytes as base64";

/** Thrown by the scanner: the text is not JSON. */
export class Malformed extends Error {}

/** One pass over one text: call `whole` or `items` once. Both throw Malformed. */
export class Scanner {
  readonly #text: string;
  readonly #limits: JsonLimits;
  readonly #illFormed: boolean;
  #at = 0;
  #keys = 0;
  #fault: JsonFault | null = null;
  /** Key or index at each level; valid below #depth. */
  readonly #path: (string | number)[] = [];
  #depth = 0;

  constructor(text: string, limits: JsonLimits) {
    this.#text = text;
    this.#limits = limits;
    this.#illFormed = !text.isWellFormed();
  }

  whole(): JsonItem {
    this.#token();
    const start = this.#at;
    this.#value(0);
    const text = this.#text.slice(start, this.#at);
    this.#end();
    return { text, fault: this.#fault };
  }

  items(itemsMax: number): { array: boolean; items: JsonItem[]; tooMany: boolean } {
    if (this.#token() !== ARRAY_OPEN) return { array: false, items: [this.whole()], tooMany: false };
    const items: JsonItem[] = [];
    if (this.#enter(ARRAY_CLOSE)) {
      do {
        if (items.length === itemsMax) return { array: true, items, tooMany: true };
        items.push(this.#item());
      } while (this.#more(ARRAY_CLOSE));
    }
    this.#end();
    return { array: true, items, tooMany: false };
  }

  #item(): JsonItem {
    this.#keys = 0;
    this.#fault = null;
    const start = this.#at;
    this.#value(0);
    return { text: this.#text.slice(start, this.#at), fault: this.#fault };
  }

  /** @param depth containers around the value */
  #value(depth: number): void {
    const code = this.#text.charCodeAt(this.#at);
    this.#depth = depth;
    if (code === QUOTE) this.#string();
    else if (code === MINUS || (code >= ZERO && code <= NINE)) this.#number();
    else if (code !== OBJECT_OPEN && code !== ARRAY_OPEN) this.#match(LITERAL, "a value");
    else if (depth === this.#limits.depthMax) {
      this.#report("too-deep", `more than ${depth} levels of nesting; flatten it, or send the inner part as a string`);
      this.#skip();
    } else if (code === OBJECT_OPEN) this.#object(depth);
    else this.#array(depth);
  }

  #array(depth: number): void {
    let index = 0;
    if (!this.#enter(ARRAY_CLOSE)) return;
    do {
      this.#path[depth] = index++;
      this.#value(depth + 1);
    } while (this.#more(ARRAY_CLOSE));
  }

  #object(depth: number): void {
    if (!this.#enter(OBJECT_CLOSE)) return;
    const seen = new Keys();
    do {
      this.#depth = depth;
      const key = this.#key();
      this.#path[depth] = key;
      this.#depth = depth + 1;
      if (!seen.add(key)) this.#report("duplicate-key", "the key stands twice; keep one of the two");
      if (key === "__proto__") this.#report("forbidden-key", "the key __proto__ is not allowed; rename it");
      if (++this.#keys > this.#limits.keysMax)
        this.#report("too-many-keys", `more than ${this.#limits.keysMax} keys; send fewer, or lists instead of keys`);
      if (this.#token() !== COLON) throw this.#malformed("a colon");
      this.#at++;
      this.#token();
      this.#value(depth + 1);
    } while (this.#more(OBJECT_CLOSE));
  }

  #key(): string {
    const start = this.#at;
    if (this.#text.charCodeAt(start) !== QUOTE) throw this.#malformed("a key in double quotes");
    const escaped = this.#string();
    if (escaped) return JSON.parse(this.#text.slice(start, this.#at)) as string;
    return this.#text.slice(start + 1, this.#at - 1);
  }

  /** Passes a string; says whether it has escapes. */
  #string(): boolean {
    const start = this.#at;
    let escaped = false;
    let code = this.#text.charCodeAt(++this.#at);
    while (code !== QUOTE) {
      if (code === BACKSLASH) {
        escaped = true;
        this.#escape();
      } else if (code >= 0x20) this.#at++;
      else throw this.#malformed("the rest of a string, control characters escaped");
      code = this.#text.charCodeAt(this.#at);
    }
    this.#at++;
    if (this.#illFormed && !this.#text.slice(start, this.#at).isWellFormed())
      this.#report("unstorable-text", `a lone surrogate, ${UNSTORABLE}`);
    return escaped;
  }

  #escape(): void {
    const start = this.#at;
    this.#match(ESCAPE, "an escape that JSON knows");
    if (this.#at === start + 2) return;
    const code = Number.parseInt(this.#text.slice(start + 2, this.#at), 16);
    if (code === 0) this.#report("unstorable-text", `\\u0000, ${UNSTORABLE}`);
    if (code < 0xd800 || code > 0xdfff) return;
    PAIR.lastIndex = start;
    if (PAIR.test(this.#text)) this.#at = PAIR.lastIndex;
    else this.#report("unstorable-text", `a lone surrogate, ${UNSTORABLE}`);
  }

  #number(): void {
    const start = this.#at;
    SHORT_INTEGER.lastIndex = start;
    if (SHORT_INTEGER.test(this.#text)) {
      this.#at = SHORT_INTEGER.lastIndex;
      return;
    }
    this.#match(NUMBER, "a number");
    const fault = numberFault(this.#text.slice(start, this.#at));
    if (fault !== null) this.#report("inexact-number", fault);
  }

  /** Passes a container that is refused anyway: only its brackets are matched. */
  #skip(): void {
    let open = 0;
    do {
      const code = this.#text.charCodeAt(this.#at);
      if (Number.isNaN(code)) throw this.#malformed("a closing bracket");
      if (code === QUOTE) this.#string();
      else this.#at++;
      if (code === OBJECT_OPEN || code === ARRAY_OPEN) open++;
      if (code === OBJECT_CLOSE || code === ARRAY_CLOSE) open--;
    } while (open > 0);
  }

  /** Passes an opening bracket; false when the container is empty, and then passed. */
  #enter(close: number): boolean {
    this.#at++;
    if (this.#token() !== close) return true;
    this.#at++;
    return false;
  }

  /** After a member: passes the comma, or the end of the container with false. */
  #more(close: number): boolean {
    const code = this.#token();
    if (code !== COMMA && code !== close)
      throw this.#malformed(close === ARRAY_CLOSE ? "a comma or ]" : "a comma or }");
    this.#at++;
    if (code === COMMA) this.#token();
    return code === COMMA;
  }

  /** Passes space; the code of what follows, NaN at the end. */
  #token(): number {
    const start = this.#at;
    let code = this.#text.charCodeAt(start);
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) code = this.#text.charCodeAt(++this.#at);
    if (this.#at > start && !this.#limits.spaceAllowed)
      this.#report("malformed-json", "space between tokens; canonical text has none");
    return code;
  }

  #match(pattern: RegExp, expected: string): void {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#text)) throw this.#malformed(expected);
    this.#at = pattern.lastIndex;
  }

  #end(): void {
    if (!Number.isNaN(this.#token())) throw this.#malformed("the end of the text");
  }

  #malformed(expected: string): Malformed {
    const found = this.#text.codePointAt(this.#at);
    const what = found === undefined ? "the text ends" : `found ${excerpt(String.fromCodePoint(found))}`;
    return new Malformed(`at character ${this.#at + 1}: expected ${expected}, ${what}`);
  }

  #report(code: ProblemCode, detail: string): void {
    this.#fault ??= { code, pointer: pointer(this.#path.slice(0, this.#depth)), detail };
  }
}

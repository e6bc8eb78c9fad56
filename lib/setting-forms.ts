/** The forms that some settings must have, and what a value looks like without its secrets. Pure. */

interface Form {
  readonly has: (text: string) => boolean;
  /** Behind the setting's name, when a text has not this form. */
  readonly wanted: string;
}

/** By the name of JSON Schema's `format`. */
export const FORMS = {
  brokers: {
    has: isBrokers,
    wanted:
      "must name every broker with its port, such as kafka-1:9092,kafka-2:9092, or all with kafka+ssl:// before them",
  },
  host: {
    has: (text) => text === "localhost" || IPV6.test(text) || NUMBERS_OR_NAMES.test(text),
    wanted: "must be an address of this machine, such as 127.0.0.1, ::1 or 0.0.0.0",
  },
  topic: {
    has: (text) => /^[\w.-]*$/.test(text),
    wanted: "must consist of A-Z a-z 0-9 . _ -",
  },
  postgres: {
    has: (text) => /^postgres(ql)?:\/\//i.test(text) && databaseUrl(text)?.host.includes(",") === false,
    wanted: "must be a URL that begins with postgres:// and names one server",
  },
} as const satisfies Readonly<Record<string, Form>>;

const IPV6 = /^\[?[\da-f]*:[\da-f:.]*(%\w+)?\]?$/i;
/** 0.0.0.0, node-1.example.org; a name without a dot is a slip more often than a name. */
const NUMBERS_OR_NAMES = /^[\da-z-]+(\.[\da-z-]+)+$/i;

/** Before a broker's address: it wants TLS. As Heroku writes it. */
export const TLS_SCHEME = "kafka+ssl://";

function isBrokers(text: string): boolean {
  const brokers = text.split(",");
  const tls = brokers.filter((one) => one.startsWith(TLS_SCHEME)).length;
  return brokers.every((one) => isAddress(one.replace(TLS_SCHEME, ""))) && (tls === 0 || tls === brokers.length);
}

export type FormName = keyof typeof FORMS;

/** kafkajs takes an address apart at its first colon, so there are no IPv6 ones. */
const isAddress = (text: string): boolean => {
  const port = /^[^\s:/@[\]]+:(\d{1,5})$/.exec(text)?.[1];
  return port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
};

/** Where a URL names no server: node-postgres too puts one there, and goes by `host=` or its defaults. */
const NO_SERVER = "no-server";

/**
 * A database's URL as node-postgres reads it, `postgres://user@/database?host=/folder` too. Null where it is none, and where a
 * password with a bare `#`, `/` or `?` makes another URL of it: `postgres://me:1/2@db` would be the database 2@db of a server me.
 */
export function databaseUrl(text: string): URL | null {
  const url = URL.parse(text) ?? URL.parse(text.replace("@/", `@${NO_SERVER}/`));
  if (url === null) return null;
  const { hash, pathname, search, searchParams, username } = url;
  const noUser = username === "" && !searchParams.has("user");
  const torn = hash !== "" || pathname.includes("@") || (search.includes("@") && noUser);
  return torn ? null : url;
}

/** @returns "" for "", a database's URL without its passwords, and for any other text only that it is set */
export function withoutSecrets(value: string): string {
  if (value === "") return "";
  const url = databaseUrl(value);
  if (!url?.host) return "(set)";
  if (url.password) url.password = "***";
  for (const name of url.searchParams.keys()) if (/pass|secret|key/i.test(name)) url.searchParams.set(name, "***");
  return url.href.replace(`@${NO_SERVER}/`, "@/");
}

/** @returns where a database is, for messages: its servers and its name, without user and password */
export function databaseAddress(setting: string): string {
  const url = databaseUrl(setting);
  const named = url?.host === NO_SERVER ? "" : url?.host;
  const host = named || url?.searchParams.get("host");
  return host ? `${host}${url?.pathname ?? ""}` : "PostgreSQL";
}

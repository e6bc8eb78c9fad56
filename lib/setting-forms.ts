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
  postgres: {
    has: (text) => /^postgres(ql)?:$/.test(URL.parse(text)?.protocol ?? ""),
    wanted: "must be a URL that begins with postgres://",
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

const isAddress = (text: string): boolean => {
  const port = /^(?:\[[\da-f:.]+\]|[^\s:/@[\]]+):(\d{1,5})$/i.exec(text)?.[1];
  return port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
};

/** @returns "" for "", a URL without its passwords, and for any other text only that it is set */
export function withoutSecrets(value: string): string {
  if (value === "") return "";
  const url = URL.parse(value);
  if (!url?.host) return "(set)";
  if (url.password) url.password = "***";
  for (const name of url.searchParams.keys()) if (/pass|secret|key/i.test(name)) url.searchParams.set(name, "***");
  return url.href;
}

/** @returns where a database is, for messages: its servers and its name, without user and password */
export function databaseAddress(setting: string): string {
  const url = URL.parse(setting);
  const host = url?.host || url?.searchParams.get("host");
  return host ? `${host}${url?.pathname ?? ""}` : "PostgreSQL";
}

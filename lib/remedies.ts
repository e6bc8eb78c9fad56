/** What to do about a server that does not let us in, by the words of whoever refused: no code tells these apart. Pure. */

type Remedies = readonly (readonly [RegExp, string])[];

const UNKNOWN_AUTHORITY = /unable to (verify the first|get (local )?issuer) certificate|self-signed certificate/i;
const ANOTHER_NAME = /does not match certificate's altnames/i;

const KAFKA: Remedies = [
  [UNKNOWN_AUTHORITY, "KAFKA_TRUSTED_CERT must hold the authority of the broker's certificate"],
  [ANOTHER_NAME, "name the brokers as their certificates do, or set KAFKA_SSLMODE=verify-ca"],
  [
    /alert (certificate|bad certificate|unknown ca|handshake failure|unsupported certificate)/i,
    "KAFKA_CLIENT_CERT must be a certificate that the broker accepts",
  ],
  [
    /before secure TLS connection was established|wrong version number/i,
    "where brokers have no TLS, leave kafka+ssl:// out of KAFKA_BROKERS",
  ],
  [
    /SASL .*failed|SASL mechanism/i,
    "KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM must be as the broker knows them",
  ],
  [
    /authorization failed/i,
    "the broker must give that right; where it gives rights by prefix, KAFKA_PREFIX must be it",
  ],
  [
    /Closed connection|Connection closed by the server/i,
    "if it stays so, the broker may want TLS (kafka+ssl:// in KAFKA_BROKERS) or a password (KAFKA_USERNAME)",
  ],
];

const DATABASE: Remedies = [
  [
    UNKNOWN_AUTHORITY,
    "name the file of its authority in DATABASE_URL as sslrootcert=FILE, or set sslmode=no-verify to trust anybody",
  ],
  [ANOTHER_NAME, "name the host as its certificate does, or set sslmode=no-verify in DATABASE_URL to trust anybody"],
  [/no pg_hba\.conf entry .*no encryption|SSL required/i, "ask for TLS in DATABASE_URL by sslmode=verify-full"],
  [/does not support SSL/i, "where there is no TLS, leave sslmode out of DATABASE_URL"],
];

const remedied = (why: string, remedies: Remedies): string => {
  const remedy = remedies.find(([words]) => words.test(why))?.[1];
  return remedy === undefined ? why : `${why}: ${remedy}`;
};

/** @returns what a broker or the way to it said, and which setting may mend it */
export const withKafkaRemedy = (why: string): string => remedied(why, KAFKA);

/** @returns what a database or the way to it said, and what in DATABASE_URL may mend it */
export const withDatabaseRemedy = (why: string): string => remedied(why, DATABASE);

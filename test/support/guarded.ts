/** A Kafka and a PostgreSQL that demand TLS, certificates, passwords and a prefix, as hosted ones do. */
import { copyFileSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { chmod, chown } from "node:fs/promises";
import { join } from "node:path";
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  Kafka,
  logLevel,
  ResourcePatternTypes,
} from "kafkajs";
import { freePorts } from "../../infra/ports.ts";
import type { KafkaServer, PostgresServer } from "../../infra/server.ts";
import { type Authority, newAuthority } from "./certificates.ts";
import { newFolder } from "./folder.ts";
import { disposable, privateKafka } from "./kafka.ts";
import { privatePostgres, queryOnce } from "./postgres.ts";

export const USER = "me";
export const PASSWORD = "hunter2-hunter2";
/** Before all that clients with a certificate may have. */
export const PREFIX = "team-1.";

export interface GuardedKafka extends KafkaServer, AsyncDisposable {
  /** Signs the brokers' certificates and the clients'. */
  readonly authority: Authority;
  /** As KAFKA_BROKERS: certificates on both sides; on `misnamed` the broker's names another host, as on Heroku. */
  readonly certificates: string;
  readonly misnamed: string;
  /** The broker's certificate, and USER with PASSWORD by every mechanism. */
  readonly passwords: string;
}

/** Running. Those without certificate and password are let in too at `brokers`, and may do everything. */
export async function guardedKafka(): Promise<GuardedKafka> {
  const folder = newFolder("kafka-certificates");
  const authority = newAuthority(folder, "brokers-authority");
  const here = keyStore(folder, authority, "broker", ["DNS:localhost", "IP:127.0.0.1"]);
  const elsewhere = keyStore(folder, authority, "misnamed", ["DNS:a1b2c3"]);
  const [certificates = 0, misnamed = 0, passwords = 0] = await freePorts(3);
  const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
  const plain = `org.apache.kafka.common.security.plain.PlainLoginModule required user_${USER}="${PASSWORD}";`;
  const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
  const kafka = await privateKafka({
    guarded: {
      listeners: {
        CERTIFICATES: { port: certificates, protocol: "SSL" },
        MISNAMED: { port: misnamed, protocol: "SSL" },
        PASSWORDS: { port: passwords, protocol: "SASL_SSL" },
      },
      users: { [USER]: PASSWORD },
      settings: {
        ...tlsOf("certificates", here, authority),
        ...tlsOf("misnamed", elsewhere, authority),
        ...tlsOf("passwords", here),
        "listener.name.passwords.sasl.enabled.mechanisms": mechanisms.join(),
        "listener.name.passwords.plain.sasl.jaas.config": plain,
        "listener.name.passwords.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.passwords.scram-sha-512.sasl.jaas.config": scram,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": `User:ANONYMOUS;User:${USER}`,
      },
    },
  });
  await letIn(kafka.brokers, "User:CN=client");
  const remove = async (): Promise<void> => {
    await kafka.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  const at = (port: number): string => `kafka+ssl://127.0.0.1:${port}`;
  const places = { certificates: at(certificates), misnamed: at(misnamed), passwords: at(passwords) };
  return disposable({ ...kafka, brokers: kafka.brokers, ...places, authority, remove } as GuardedKafka);
}

/** Key and certificate in one file of PEM, as brokers take them. */
function keyStore(folder: string, authority: Authority, name: string, hosts: readonly string[]): string {
  const { cert, key } = authority.issue(name, hosts);
  const file = join(folder, `${name}-store.pem`);
  writeFileSync(file, readFileSync(key, "utf8") + readFileSync(cert, "utf8"));
  return file;
}

/** @param clients signs theirs; left out: they need none */
function tlsOf(listener: string, store: string, clients?: Authority): Record<string, string> {
  const name = (setting: string): string => `listener.name.${listener}.ssl.${setting}`;
  return {
    [name("keystore.type")]: "PEM",
    [name("keystore.location")]: store,
    ...(clients && {
      [name("client.auth")]: "required",
      [name("truststore.type")]: "PEM",
      [name("truststore.location")]: clients.cert,
    }),
  };
}

/** Everything below the prefix and nothing else. */
async function letIn(brokers: string, principal: string): Promise<void> {
  const admin = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING }).admin();
  await admin.connect();
  await admin.createAcls({
    acl: [AclResourceTypes.TOPIC, AclResourceTypes.GROUP].map((resourceType) => ({
      resourceType,
      resourceName: PREFIX,
      resourcePatternType: ResourcePatternTypes.PREFIXED,
      principal,
      host: "*",
      operation: AclOperationTypes.ALL,
      permissionType: AclPermissionTypes.ALLOW,
    })),
  });
  await admin.disconnect();
}

export interface GuardedPostgres extends PostgresServer, AsyncDisposable {
  readonly authority: Authority;
  /** With PASSWORD; what the URL says of TLS is the caller's. */
  readonly url: string;
}

/** Running; it lets in nobody without TLS and password. */
export async function guardedPostgres(): Promise<GuardedPostgres> {
  const folder = newFolder("postgres-certificates");
  const authority = newAuthority(folder, "database-authority");
  const { cert, key } = authority.issue("database", ["DNS:localhost", "IP:127.0.0.1"]);
  const postgres = await privatePostgres();
  const ask = <Row>(text: string): Promise<Row[]> => queryOnce<Row>(postgres.url, text);
  const [place] = await ask<{ data: string }>("SELECT current_setting('data_directory') AS data");
  const data = place?.data ?? "";
  const { uid, gid } = statSync(data);
  for (const [from, to] of [
    [cert, join(data, "server.crt")],
    [key, join(data, "server.key")],
  ] as const) {
    copyFileSync(from, to);
    await chown(to, uid, gid);
    await chmod(to, 0o600);
  }
  const url = new URL(postgres.url);
  await ask(`ALTER ROLE ${url.username} PASSWORD '${PASSWORD}'`);
  await ask("ALTER SYSTEM SET ssl = on");
  writeFileSync(join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n");
  await ask("SELECT pg_reload_conf()");
  url.password = PASSWORD;
  const remove = async (): Promise<void> => {
    await postgres.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  return disposable({ ...postgres, url: url.href, authority, remove } as GuardedPostgres);
}

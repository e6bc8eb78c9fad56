/** Port 2 over kafkajs: membership that outlasts lost connections, one kafkajs consumer after the other. */
import assert from "node:assert/strict";
import type { KafkaOptions } from "./connection.ts";
import { isWithoutCoordinator, toLogError } from "./errors.ts";
import { type Group, Member } from "./group-member.ts";
import { Leaders } from "./leaders.ts";
import { type GroupHandlers, type GroupReader, LogError } from "./ports.ts";

const BACKOFF_MIN_MS = 200;
const BACKOFF_MAX_MS = 5_000;

/** A reader that connects when it is run. */
export function createGroupReader(options: KafkaOptions, group: Group): GroupReader {
  return new Reader(options, group);
}

class Reader implements GroupReader {
  readonly #options: KafkaOptions;
  readonly #group: Group;
  #member: Member | undefined;
  #running = false;

  constructor(options: KafkaOptions, group: Group) {
    this.#options = options;
    this.#group = group;
  }

  async run(handlers: GroupHandlers, signal: AbortSignal): Promise<void> {
    assert(!this.#running, "a group reader runs once at a time");
    this.#running = true;
    const leaders = new Leaders(this.#options);
    const cut = () => leaders.cut();
    signal.addEventListener("abort", cut, { once: true });
    try {
      await this.#keepMembership(leaders, handlers, signal);
    } finally {
      signal.removeEventListener("abort", cut);
      this.#running = false;
      await leaders.close();
    }
  }

  pause(partitions: readonly number[]): void {
    this.#member?.pause(partitions);
  }

  resume(partitions: readonly number[]): void {
    this.#member?.resume(partitions);
  }

  seek(partition: number, offset: bigint): void {
    this.#member?.seek(partition, offset);
  }

  async commitHint(offsets: ReadonlyMap<number, bigint>): Promise<void> {
    await this.#member?.commitHint(offsets);
  }

  /** A member that lost its connections is replaced for as long as it takes. */
  async #keepMembership(leaders: Leaders, handlers: GroupHandlers, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    let backoffMs = BACKOFF_MIN_MS;
    /** The lost member, until the group knows that it is lost. */
    let former: string | undefined;
    while (!signal.aborted) {
      if (former === undefined || (await this.#isRemoved(leaders, former))) {
        former = await this.#runMember(leaders, handlers, signal);
        if (former !== undefined) backoffMs = BACKOFF_MIN_MS;
      }
      await clock.sleep(backoffMs * (0.5 + clock.random() / 2), signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
    }
  }

  /** One member, until it stops or is lost: then its name in the group, if it got one. @throws what waiting cannot mend */
  async #runMember(leaders: Leaders, handlers: GroupHandlers, signal: AbortSignal): Promise<string | undefined> {
    const { topic, groupId } = this.#group;
    const member = new Member(this.#options, this.#group, leaders, handlers);
    this.#member = member;
    const end = await member.run(signal);
    this.#member = undefined;
    if (end.kind === "stopped") return undefined;
    if (end.kind === "failed") throw end.error;
    const error = toLogError(`reading ${topic} in group ${groupId}`, end.error);
    if ("kind" in error && error.kind === "fatal") throw error;
    const { log } = this.#options;
    if (isWithoutCoordinator(error)) log.debug("group has no coordinator yet, joining again", { topic, groupId });
    else log.info("group member was lost, another one joins", { topic, groupId, error: error.message });
    return member.memberId;
  }

  /** A lost member counts for the group until its session times out, and whoever joins before waits for it so long. */
  async #isRemoved(leaders: Leaders, memberId: string): Promise<boolean> {
    try {
      await leaders.leaveGroup(this.#group.groupId, memberId);
      return true;
    } catch (error) {
      // The group no longer knows it, or will not let it leave: nothing more can be done.
      return isUnknownMember(error) || (error instanceof LogError && error.kind === "fatal");
    }
  }
}

function isUnknownMember(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return (cause as { type?: unknown } | undefined)?.type === "UNKNOWN_MEMBER_ID";
}

/** One client's live events over a WebSocket. A lost connection is opened again where it was, by the last cursor. */
import { query } from "./api.js";

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 10_000;
/** The node sends a cursor at least every minute; without a frame for longer the connection is dead. */
const SILENCE_MS = 90_000;
/** Closed for good: what was asked for is wrong, not allowed, or gone. */
const FINAL = new Set([4400, 4401, 4403, 4410]);

/**
 * @param {{ clientId: string, key: string, after?: string, onEvents: (events: any[]) => void,
 *   onState: (state: "good" | "wait" | "bad", text: string) => void }} wish `after` unset: from now on
 * @returns {() => void} stops it
 */
export function follow({ clientId, key, after, onEvents, onState }) {
  let cursor = after;
  let retryMs = RETRY_MS_MIN;
  let stopped = false;
  let socket = null;
  let timer = 0;

  const frame = (text) => {
    const told = JSON.parse(text);
    retryMs = RETRY_MS_MIN;
    if (told.type === "events") {
      cursor = told.events.at(-1).cursor;
      onEvents(told.events);
    } else if (told.type === "caughtUp") {
      cursor = told.cursor;
      onState("good", "following, up to date");
    } else if (told.type === "fellBehind") {
      cursor = told.cursor;
      onState("wait", "following, catching up");
    } else if (told.type === "problem") onState("bad", `${told.problem.code}: ${told.problem.detail}`);
  };
  const silence = (after) => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.close(), after);
  };
  const open = () => {
    const address = new URL(`/api/v1/events/live?${query({ clientId, after: cursor })}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    socket = new WebSocket(address);
    socket.onopen = () => {
      if (key) socket.send(JSON.stringify({ op: "authenticate", token: key }));
      silence(SILENCE_MS);
    };
    socket.onmessage = ({ data }) => {
      silence(SILENCE_MS);
      frame(data);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(timer);
      if (stopped) return;
      if (FINAL.has(code)) {
        onState("bad", `not following: ${reason || `closed with ${code}`}`);
        return;
      }
      onState("wait", `connection lost, trying again${cursor === undefined ? "" : " from the last cursor"}`);
      timer = setTimeout(open, retryMs * (0.5 + Math.random() / 2));
      retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
    };
  };
  onState("wait", "connecting");
  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket.close();
  };
}

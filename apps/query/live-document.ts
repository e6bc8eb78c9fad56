/** What the OpenAPI document says of the live route, whose frames no schema of it can tell. */
export const LIVE_DESCRIPTION =
  'Frames: {"type":"events","clientId","events":[…]}, {"type":"caughtUp"|"fellBehind","clientId","cursor"}, ' +
  '{"type":"problem","clientId","problem"}, {"type":"unsubscribed","clientId","cursor"}. caughtUp comes as soon as the ' +
  "follower is caught up, and again with every heartbeat; fellBehind when it no longer is, and with every heartbeat while it " +
  "catches up. The cursor of either, or the last event's, is where to resume. With type only events of these types come, and " +
  "the cursors move past the others. After a problem with status 503 the follower goes on by itself; any other has ended it. " +
  'A WebSocket follows the client of its address, and those of its messages: {"op":"subscribe","clientId","after","type":[…]} ' +
  'and {"op":"unsubscribe","clientId"}, up to 1,000 clients; the address may name none. Subscribing a client again follows it ' +
  "from the new cursor. A client that is followed no more, or from another cursor, is told by unsubscribed: no frame of the " +
  "former follower comes after it, and its cursor is where that one was. What goes wrong with a client of a message is a frame " +
  "problem; with that of the address, the socket closes. A socket takes 1,000 messages of 16 KiB, and 100 a minute after that. " +
  'Where the header Authorization cannot be sent, the first message is {"op":"authenticate","token":…}. What is wrong with the ' +
  "parameters, the token of a first message, the key's rights or the cursor is told after the upgrade: a frame problem, and the " +
  "close code 4400, 4401, 4403 or 4410. A header Authorization that is not known, a foreign host name and a malformed handshake " +
  "are refused before it, with the statuses below. Other close codes: 1009 a message above 16 KiB, 1011 a mistake of Spillway's, 1012 reconnect with your " +
  "cursor, 1013 later, 4408 silent, 4429 too many messages. With Accept: text/event-stream the same frames of one client come as " +
  "server-sent events: event is the frame's type, data the frame, id the cursor to resume from; the header Last-Event-ID wins " +
  "over after. What is wrong before the first frame is told by the status; a stream that ends is to be opened again. It needs the " +
  "header Authorization where there are keys, which a browser's own EventSource cannot send.";

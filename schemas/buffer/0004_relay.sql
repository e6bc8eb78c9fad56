-- Which relay works; the others stand by. It spares work and decides nothing: what two relays publish at the same time is one event
-- each, and in the same order (apps/relay/relay.ts says why). A row and not a lock: a lock lasts as long as a transaction, and one that
-- is open while the log takes the rows would keep a pooler's server connection from the application's writers.
CREATE TABLE spillway.event_buffer_relay (
  one    boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
  holder text        NOT NULL,
  until  timestamptz NOT NULL -- by this server's clock
) WITH (fillfactor = 50);

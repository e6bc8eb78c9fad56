-- How many times its cost at rest a row costs now, as the sinks together feel it: each goes by that, so that they share evenly.
CREATE TABLE spillway.stretch (
  one     boolean          PRIMARY KEY DEFAULT true CHECK (one),
  stretch double precision NOT NULL,
  felt_at timestamptz      NOT NULL
);

-- What the sink saves. `event` and `checkpoint` move in one transaction: a row exists if and only if its offset lies below
-- the checkpoint of its partition.

CREATE TABLE spillway.log_identity (
  log_epoch  smallint    PRIMARY KEY,
  topic      text        NOT NULL,
  partitions integer     NOT NULL,
  adopted_at timestamptz NOT NULL DEFAULT now()
);

-- `data` is json, not jsonb: the text stays byte for byte as it was accepted.
-- Collation "C": identities are compared by bytes, without folding.
CREATE TABLE spillway.event (
  client_id   text COLLATE "C" NOT NULL,
  log_epoch   smallint         NOT NULL,
  "offset"    bigint           NOT NULL,
  id          text COLLATE "C" NOT NULL,
  type        text COLLATE "C" NOT NULL,
  occurred_at timestamptz      NOT NULL,
  received_at timestamptz      NOT NULL,
  data        json,
  PRIMARY KEY (client_id, log_epoch, "offset"),
  CONSTRAINT event_identity UNIQUE (client_id, id)
);

-- next_offset: offsets below it are saved. last_offset and last_hash name the last record it covers, so that a topic that
-- was recreated or cut is recognised.
CREATE TABLE spillway.checkpoint (
  log_epoch   smallint NOT NULL,
  partition   integer  NOT NULL,
  next_offset bigint   NOT NULL,
  last_offset bigint,
  last_hash   bytea,
  PRIMARY KEY (log_epoch, partition)
) WITH (fillfactor = 50);

-- Where the checkpoint stood, minute by minute: what may be deleted from the log is decided by these.
CREATE TABLE spillway.checkpoint_mark (
  log_epoch   smallint    NOT NULL,
  partition   integer     NOT NULL,
  next_offset bigint      NOT NULL,
  marked_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_epoch, partition, marked_at)
);

-- Records that can never be saved, with their bytes, origin and reason.
CREATE TABLE spillway.dead_letter (
  log_epoch    smallint    NOT NULL,
  partition    integer     NOT NULL,
  "offset"     bigint      NOT NULL,
  reason       text        NOT NULL,
  detail       text        NOT NULL,
  key          bytea,
  value        bytea,
  record_time  timestamptz NOT NULL,
  set_aside_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_epoch, partition, "offset")
);

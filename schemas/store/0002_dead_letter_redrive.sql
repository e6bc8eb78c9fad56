-- When a dead letter was last re-driven, and where its event stands on the log since then.
ALTER TABLE spillway.dead_letter
  ADD COLUMN redriven_at        timestamptz,
  ADD COLUMN redriven_epoch     smallint,
  ADD COLUMN redriven_partition integer,
  ADD COLUMN redriven_offset    bigint;

-- Takes away what the numbered files made, and nothing else: what somebody has built on it stops this, by name. The schema goes only
-- when nothing is left in it; Spillway's own store may be there.
DROP TABLE spillway.event_buffer_relay;
DROP FUNCTION spillway.blocking();
DROP VIEW spillway.backlog_total;
DROP VIEW spillway.backlog;
DROP FUNCTION spillway.emit_many(jsonb);
DROP FUNCTION spillway.event_buffer_form(jsonb);
DROP FUNCTION spillway.emit(text, text, jsonb, text, timestamptz);
DROP TABLE spillway.event_buffer;
DROP FUNCTION spillway.event_buffer_keep();
DROP FUNCTION spillway.event_buffer_insert();
DROP FUNCTION spillway.event_buffer_judge_data(jsonb, text);
DROP FUNCTION spillway.event_buffer_inexact(jsonb);
DROP FUNCTION spillway.event_buffer_shortest(float8);
DROP FUNCTION spillway.event_buffer_judge_name(text, text, integer);
DROP FUNCTION spillway.event_buffer_excerpt(text);
DROP FUNCTION spillway.event_buffer_refuse(text, text, text, text);
DROP FUNCTION spillway.event_buffer_lock_key(text);
DROP SEQUENCE spillway.event_buffer_position;
DROP TABLE spillway.event_buffer_migration;
DO $$ BEGIN
  DROP SCHEMA spillway;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
  RAISE NOTICE 'the schema spillway stays: it holds something else, or belongs to somebody else';
END $$;

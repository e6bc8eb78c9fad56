-- How an application writes events: one at a time, or many at once.

-- emit and emit_many run as their owner, so that a writer needs the right to call them and none on the table.
CREATE FUNCTION spillway.emit(client_id text, type text, data jsonb DEFAULT NULL, id text DEFAULT NULL,
                              occurred_at timestamptz DEFAULT now()) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given text := coalesce(emit.id, gen_random_uuid()::text);
BEGIN
  INSERT INTO spillway.event_buffer (client_id, type, data, id, occurred_at)
    VALUES (emit.client_id, emit.type, emit.data, given, emit.occurred_at);
  RETURN given;
END $$;

-- An event's fields are those of POST: clientId and type, and maybe data, id and occurredAt. Takes all locks in one order first.
CREATE FUNCTION spillway.emit_many(events jsonb) RETURNS text[]
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  key integer;
  ids text[];
  fault record;
BEGIN
  IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
    PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', NULL, 'events must be a JSON array of events');
  END IF;
  SELECT n - 1 AS index, reason INTO fault FROM jsonb_array_elements(events) WITH ORDINALITY AS items (event, n),
    LATERAL (SELECT spillway.event_buffer_form(event) AS reason OFFSET 0) AS forms
    WHERE reason IS NOT NULL ORDER BY n LIMIT 1;
  IF FOUND THEN
    PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', NULL, format('event %s: %s', fault.index, fault.reason));
  END IF;
  FOR key IN SELECT DISTINCT spillway.event_buffer_lock_key(event ->> 'clientId') AS k
             FROM jsonb_array_elements(events) AS items (event) ORDER BY k LOOP
    PERFORM pg_advisory_xact_lock(1936747639, key);
  END LOOP;
  WITH written AS (
    INSERT INTO spillway.event_buffer (client_id, type, data, id, occurred_at)
      SELECT event ->> 'clientId', event ->> 'type', event -> 'data', event ->> 'id', (event ->> 'occurredAt')::timestamptz
      FROM jsonb_array_elements(events) WITH ORDINALITY AS items (event, n) ORDER BY n
    RETURNING event_buffer.position, event_buffer.id
  )
  SELECT coalesce(array_agg(written.id ORDER BY written.position), '{}') INTO ids FROM written;
  RETURN ids;
END $$;

-- What is wrong with the form of one item of emit_many; its values are judged as emit's are.
CREATE FUNCTION spillway.event_buffer_form(event jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
  field text;
BEGIN
  IF jsonb_typeof(event) <> 'object' THEN
    RETURN 'it must be an object with clientId and type';
  END IF;
  SELECT k INTO field FROM jsonb_object_keys(event) AS k WHERE k NOT IN ('clientId', 'type', 'data', 'id', 'occurredAt') LIMIT 1;
  IF FOUND THEN
    RETURN format('the field %s is unknown; it may have clientId, type, id, occurredAt and data', spillway.event_buffer_excerpt(field));
  END IF;
  SELECT k INTO field FROM unnest(ARRAY['clientId', 'type', 'id', 'occurredAt']) AS k
    WHERE jsonb_typeof(event -> k) NOT IN ('string', 'null') LIMIT 1;
  IF FOUND THEN
    RETURN format('%s must be a string, not %s', field, spillway.event_buffer_excerpt((event -> field)::text));
  END IF;
  field := event ->> 'occurredAt';
  IF field !~ '^\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$' THEN
    RETURN format('occurredAt %s is not an RFC 3339 time; send a time like "2026-01-31T08:00:00.000Z"',
                  spillway.event_buffer_excerpt(field));
  END IF;
  RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION spillway.emit(text, text, jsonb, text, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION spillway.emit_many(jsonb) FROM PUBLIC;

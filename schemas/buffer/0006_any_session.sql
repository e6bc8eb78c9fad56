-- What 0001 and 0002 keep only where a session has the usual settings.

-- A transaction of a higher level looks with its own old snapshot, and TRUNCATE takes what has been committed since as well.
CREATE OR REPLACE FUNCTION spillway.event_buffer_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    PERFORM spillway.event_buffer_refuse('SW010', 'row-is-fixed', NULL, format(
      'row %s of client %s may be published already: emit another event that corrects it', OLD.position,
      spillway.event_buffer_excerpt(OLD.client_id)));
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM spillway.event_buffer_refuse('SW011', 'row-waits', NULL, format(
      'row %s of client %s waits to be published: roll its transaction back instead, or set it aside first (set_aside = ''discarded'')',
      OLD.position, spillway.event_buffer_excerpt(OLD.client_id)));
  ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    PERFORM spillway.event_buffer_refuse('SW011', 'row-waits', NULL, format(
      'a %s transaction does not see which rows wait by now: truncate spillway.event_buffer in one that is read committed',
      current_setting('transaction_isolation')));
  ELSIF EXISTS (SELECT FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL) THEN
    PERFORM spillway.event_buffer_refuse('SW011', 'row-waits', NULL,
      'spillway.event_buffer holds rows that wait to be published: let the relay finish first');
  END IF;
  RETURN NULL;
END $$;

-- A function's text is read with the session's settings: no backslash in it, which standard_conforming_strings = off would take away.
CREATE OR REPLACE FUNCTION spillway.event_buffer_form(event jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
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
  IF field !~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?'
               '([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$') THEN
    RETURN format('occurredAt %s is not an RFC 3339 time; send a time like "2026-01-31T08:00:00.000Z"',
                  spillway.event_buffer_excerpt(field));
  END IF;
  RETURN NULL;
END $$;

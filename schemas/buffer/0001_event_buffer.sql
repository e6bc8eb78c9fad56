-- The event buffer: rows that an application writes in the transaction of the change they tell of. The relay brings them to
-- the log once that transaction has committed, and never otherwise. PostgreSQL 13 or newer, encoding UTF8.
--
-- Writers call
--   spillway.emit(client_id, type, data jsonb, id, occurred_at) → id      data, id and occurred_at may be left out
--   spillway.emit_many(events jsonb) → text[]                             an array of events as POST takes them → their ids
-- or insert (client_id, type, data, id, occurred_at) themselves, by COPY too, if the table is theirs. SQL NULL as data is an event
-- without data. A (client_id, id) that was written before is published again, and is one event: the first copy counts.
--
-- Order. A trigger takes a lock for the client that is held until the transaction ends, and only then draws the position: so for
-- one client the order of positions is the order of commits, and whoever sees a row sees every earlier one of that client.
-- Positions of rolled-back rows are missing for ever, and a long transaction's may appear behind many later ones of other
-- clients. So a reader takes what it sees, by position, and no cursor by position, xid or time:
--   SELECT … FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL ORDER BY position LIMIT $1
-- Transactions that write several clients in different orders can deadlock (40P01, safe to repeat); emit_many locks in one order.
--
-- A row waits (recorded and set_aside NULL), then is recorded (on the log since then) or set_aside (a code of the HTTP contract, and
-- why). Its content never changes, and it is not deleted while it waits. Anything that a writer gives for the columns from data_bytes on
-- is overwritten. Recorded rows are removed in steps of 1,000 (docs/event-buffer says why), oldest positions
-- first, $1 the last position of the step before:
--   DELETE FROM spillway.event_buffer WHERE position = ANY (ARRAY(SELECT position FROM (
--     SELECT position, recorded FROM spillway.event_buffer WHERE recorded IS NOT NULL AND position > $1 ORDER BY position LIMIT $2
--   ) AS oldest WHERE recorded < now() - $3::interval)) RETURNING position
-- Refusals: SQLSTATE SW001 to SW005 for what is wrong with an event, SW010 for a change to a row, SW011 for a deletion.

CREATE SEQUENCE spillway.event_buffer_position AS bigint CACHE 1;

-- Collation "C": identities are compared by bytes, without folding.
CREATE TABLE spillway.event_buffer (
  position      bigint           NOT NULL,
  client_id     text COLLATE "C" NOT NULL,
  id            text COLLATE "C" NOT NULL,
  type          text COLLATE "C" NOT NULL,
  occurred_at   timestamptz      NOT NULL,
  data          jsonb,
  data_bytes    integer          NOT NULL, -- of data::text; 0 without data
  written_at    timestamptz      NOT NULL, -- when the statement wrote it, before its transaction committed
  recorded      timestamptz,
  set_aside     text,
  set_aside_why text,
  CONSTRAINT event_buffer_pkey PRIMARY KEY (position)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 20000, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 100000);

CREATE INDEX event_buffer_waiting ON spillway.event_buffer (position) WHERE recorded IS NULL AND set_aside IS NULL;
CREATE INDEX event_buffer_set_aside ON spillway.event_buffer (position) WHERE set_aside IS NOT NULL;

-- Which lock stands for a client: one of 1,024. A transaction that writes very many clients then takes 1,024 locks and not one a
-- client: all clients together, in all transactions, need no more places in the server's lock table, of which one with 20
-- connections has 5,200 (PostgreSQL 13) to 6,600 (18). The price: a client waits for another one's transaction where both have the
-- same number, one pair in 1,024. Another count needs a lock on the table first: two transactions must never reckon differently.
CREATE FUNCTION spillway.event_buffer_lock_key(client_id text) RETURNS integer
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT pg_catalog.hashtext($1 COLLATE "C") & 1023';

CREATE FUNCTION spillway.event_buffer_refuse(state text, code text, field text, detail text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = state, MESSAGE = code || ': ' || detail, COLUMN = coalesce(field, ''),
    SCHEMA = 'spillway', TABLE = 'event_buffer';
END $$;

-- A value for a person: in quotes, at most 40 characters of it.
CREATE FUNCTION spillway.event_buffer_excerpt(value text) RETURNS text LANGUAGE sql IMMUTABLE AS
  $$ SELECT coalesce(to_json(CASE WHEN length(value) > 40 THEN left(value, 40) || '…' ELSE value END)::text, 'NULL') $$;

CREATE FUNCTION spillway.event_buffer_judge_name(field text, value text, bytes_max integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF coalesce(octet_length(value), 0) NOT BETWEEN 1 AND bytes_max THEN
    PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', field,
      CASE WHEN value IS NULL THEN format('%s is NULL; give it 1 to %s bytes', field, bytes_max)
           WHEN value = '' THEN format('%s is empty; give it 1 to %s bytes', field, bytes_max)
           ELSE format('%s %s has %s bytes; give it 1 to %s', field, spillway.event_buffer_excerpt(value),
                       octet_length(value), bytes_max) END);
  END IF;
END $$;

-- The integer that JavaScript prints for a double: the fewest digits that mean it. float8's own text is not always the shortest (of 1e23
-- it is 9.999999999999999e+22).
CREATE FUNCTION spillway.event_buffer_shortest(value float8) RETURNS numeric LANGUAGE sql STABLE AS $$
  SELECT digits::numeric FROM (VALUES (14, to_char(value, '9.99999999999999EEEE')), (15, to_char(value, '9.999999999999999EEEE')),
                                      (16, to_char(value, '9.9999999999999999EEEE'))) AS forms (n, digits)
  -- Rounded, the largest would be none.
  WHERE CASE WHEN abs(digits::numeric) <= 1.7976931348623157e308 THEN digits::float8 = value END ORDER BY n LIMIT 1
$$;

-- The first number that a double would change: an integer that JavaScript prints as another one, or what is too large or too small.
CREATE FUNCTION spillway.event_buffer_inexact(data jsonb) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT n::text FROM (
    SELECT (v #>> '{}')::numeric AS n FROM jsonb_path_query(data, 'strict $.** ? (@.type() == "number")') AS v
  ) AS numbers
  WHERE CASE WHEN abs(n) > 1.797693134862315807e308 THEN true
             WHEN scale(n) > 0 THEN n <> 0 AND abs(n) < 2.470328229206232720e-324
             ELSE spillway.event_buffer_shortest(n::float8) <> n END
  LIMIT 1
$$;

-- What jsonb has kept and ingest would refuse. Cheap looks first: what follows them is paid by the few that they cannot clear.
CREATE FUNCTION spillway.event_buffer_judge_data(data jsonb, printed text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  bytes integer := octet_length(printed);
  found text;
BEGIN
  -- Of what jsonb prints at most a third is the space behind commas and colons, which is not counted.
  IF bytes > 393216 THEN
    PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', 'data',
      format('data has %s bytes; at most 262144 are kept, so send less', bytes));
  END IF;
  IF data @? 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")' THEN
    PERFORM spillway.event_buffer_refuse('SW002', 'too-deep', 'data',
      'data has more than 64 levels of nesting; flatten it, or send the inner part as a string');
  END IF;
  IF strpos(printed, '"__proto__"') > 0 AND data @? 'strict $.** ? (@.type() == "object" && exists (@."__proto__"))' THEN
    PERFORM spillway.event_buffer_refuse('SW003', 'forbidden-key', 'data', 'data has the key __proto__, which is not allowed; rename it');
  END IF;
  IF bytes > 60000 THEN
    IF (SELECT count(*) FROM jsonb_path_query(data, 'strict $.** ? (@.type() == "object").keyvalue()')) > 10000 THEN
      PERFORM spillway.event_buffer_refuse('SW004', 'too-many-keys', 'data',
        'data has more than 10000 keys; send fewer, or lists instead of keys');
    END IF;
  END IF;
  IF printed ~ '[0-9]{16}' THEN
    found := spillway.event_buffer_inexact(data);
    IF found IS NOT NULL THEN
      PERFORM spillway.event_buffer_refuse('SW005', 'inexact-number', 'data',
        format('data holds the number %s, which a double would change; send it as a string', spillway.event_buffer_excerpt(found)));
    END IF;
  END IF;
  IF bytes > 262144 THEN
    bytes := bytes - (
      SELECT coalesce(sum(CASE jsonb_typeof(v) WHEN 'array' THEN greatest(jsonb_array_length(v) - 1, 0)
                          ELSE (SELECT greatest(2 * count(*) - 1, 0) FROM jsonb_object_keys(v)) END), 0)
      FROM jsonb_path_query(data, 'strict $.** ? (@.type() == "object" || @.type() == "array")') AS v);
    IF bytes > 262144 THEN
      PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', 'data',
        format('data has %s bytes as compact JSON; at most 262144 are kept, so send less', bytes));
    END IF;
  END IF;
END $$;

-- Judges, locks, and only then draws the position. In this order: while a lock is not held, nothing may have been drawn. 0005 says the
-- same at less cost.
CREATE FUNCTION spillway.event_buffer_insert() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  printed text;
BEGIN
  NEW.id := coalesce(NEW.id, gen_random_uuid()::text);
  NEW.occurred_at := coalesce(NEW.occurred_at, now());
  IF (octet_length(NEW.client_id) BETWEEN 1 AND 255 AND octet_length(NEW.type) BETWEEN 1 AND 255
      AND octet_length(NEW.id) BETWEEN 1 AND 128) IS NOT TRUE THEN
    PERFORM spillway.event_buffer_judge_name('client_id', NEW.client_id, 255);
    PERFORM spillway.event_buffer_judge_name('type', NEW.type, 255);
    PERFORM spillway.event_buffer_judge_name('id', NEW.id, 128);
  END IF;
  IF NEW.occurred_at < '0001-01-01 00:00:00+00' OR NEW.occurred_at >= '10000-01-01 00:00:00+00' THEN
    PERFORM spillway.event_buffer_refuse('SW001', 'invalid-event', 'occurred_at',
      format('occurred_at is %s; its UTC year must lie in 0001 to 9999', NEW.occurred_at));
  END IF;
  NEW.data_bytes := 0;
  IF NEW.data IS NOT NULL THEN
    printed := NEW.data::text;
    NEW.data_bytes := octet_length(printed);
    PERFORM spillway.event_buffer_judge_data(NEW.data, printed);
  END IF;
  -- The first number is Spillway's own among advisory locks: "splw" in ASCII.
  PERFORM pg_advisory_xact_lock(1936747639, spillway.event_buffer_lock_key(NEW.client_id));
  NEW.position := nextval('spillway.event_buffer_position');
  NEW.written_at := clock_timestamp();
  NEW.recorded := NULL;
  NEW.set_aside := NULL;
  NEW.set_aside_why := NULL;
  RETURN NEW;
END $$;
CREATE TRIGGER event_buffer_insert BEFORE INSERT ON spillway.event_buffer
  FOR EACH ROW EXECUTE FUNCTION spillway.event_buffer_insert();
-- Without it, a session with session_replication_role = replica would pass the trigger by, and the order with it.
ALTER TABLE spillway.event_buffer ENABLE ALWAYS TRIGGER event_buffer_insert;

-- What was published is not changed by a change here, and what waits may be published already: so neither is offered.
CREATE FUNCTION spillway.event_buffer_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    PERFORM spillway.event_buffer_refuse('SW010', 'row-is-fixed', NULL, format(
      'row %s of client %s may be published already: emit another event that corrects it', OLD.position,
      spillway.event_buffer_excerpt(OLD.client_id)));
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM spillway.event_buffer_refuse('SW011', 'row-waits', NULL, format(
      'row %s of client %s waits to be published: roll its transaction back instead, or set it aside first (set_aside = ''discarded'')',
      OLD.position, spillway.event_buffer_excerpt(OLD.client_id)));
  ELSIF EXISTS (SELECT FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL) THEN
    PERFORM spillway.event_buffer_refuse('SW011', 'row-waits', NULL,
      'spillway.event_buffer holds rows that wait to be published: let the relay finish first');
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER event_buffer_fixed
  BEFORE UPDATE OF position, client_id, id, type, occurred_at, data, data_bytes, written_at ON spillway.event_buffer
  FOR EACH ROW EXECUTE FUNCTION spillway.event_buffer_keep();
CREATE TRIGGER event_buffer_waits BEFORE DELETE ON spillway.event_buffer
  FOR EACH ROW WHEN (OLD.recorded IS NULL AND OLD.set_aside IS NULL) EXECUTE FUNCTION spillway.event_buffer_keep();
CREATE TRIGGER event_buffer_truncate BEFORE TRUNCATE ON spillway.event_buffer
  FOR EACH STATEMENT EXECUTE FUNCTION spillway.event_buffer_keep();
ALTER TABLE spillway.event_buffer ENABLE ALWAYS TRIGGER event_buffer_fixed;
ALTER TABLE spillway.event_buffer ENABLE ALWAYS TRIGGER event_buffer_waits;
ALTER TABLE spillway.event_buffer ENABLE ALWAYS TRIGGER event_buffer_truncate;

-- What operators and the relay look at.

-- What waits, by client, to be joined with the application's own tables; and all of it in one row. Both read only rows that wait or
-- were set aside, however many recorded ones there are.
CREATE VIEW spillway.backlog AS
  SELECT client_id, sum(waiting)::bigint AS waiting, min(oldest) AS oldest_written_at, sum(aside)::bigint AS set_aside
  FROM (
    SELECT client_id, count(*) AS waiting, min(written_at) AS oldest, 0 AS aside
      FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL GROUP BY client_id
    UNION ALL
    SELECT client_id, 0, NULL, count(*) FROM spillway.event_buffer WHERE set_aside IS NOT NULL GROUP BY client_id
  ) AS parts
  GROUP BY client_id;

CREATE VIEW spillway.backlog_total AS
  SELECT waiting, oldest_written_at, clock_timestamp() - oldest_written_at AS oldest_age, set_aside
  FROM (
    SELECT (SELECT count(*) FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL) AS waiting,
           (SELECT written_at FROM spillway.event_buffer WHERE recorded IS NULL AND set_aside IS NULL
              ORDER BY position LIMIT 1) AS oldest_written_at,
           (SELECT count(*) FROM spillway.event_buffer WHERE set_aside IS NOT NULL) AS set_aside
  ) AS total;

-- Which transactions keep writers waiting for a client's lock. Runs as its owner, who sees age and state of the sessions of roles that it
-- is a member of, and of all with pg_read_all_stats; of others they are NULL. A prepared transaction has no pid: gid names it.
CREATE FUNCTION spillway.blocking(OUT pid integer, OUT gid text, OUT age interval, OUT state text, OUT application_name text,
                                  OUT waiting bigint) RETURNS SETOF record
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH locks AS MATERIALIZED (
    SELECT l.pid, l.objid, l.granted, l.virtualtransaction FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.classid = 1936747639 AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  )
  SELECT h.pid, p.gid, clock_timestamp() - coalesce(a.xact_start, p.prepared), coalesce(a.state, CASE WHEN p.gid IS NOT NULL THEN 'prepared' END),
         a.application_name, h.waiting
  FROM (
    SELECT holder.pid, holder.virtualtransaction, count(*) AS waiting
    FROM locks AS holder JOIN locks AS waiter USING (objid)
    WHERE holder.granted AND NOT waiter.granted GROUP BY 1, 2
  ) AS h
  LEFT JOIN pg_stat_activity AS a ON a.pid = h.pid
  LEFT JOIN pg_locks AS x ON h.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
    AND x.virtualtransaction = h.virtualtransaction
  LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
  ORDER BY 3 DESC NULLS LAST
$$;

REVOKE ALL ON FUNCTION spillway.blocking() FROM PUBLIC;

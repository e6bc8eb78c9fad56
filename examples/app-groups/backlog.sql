-- Where app $1 is, and how many of its events have not reached Spillway yet: the backlog, joined with the application's table.
SELECT grp, coalesce(waiting, 0)::integer AS waiting
  FROM app_group LEFT JOIN spillway.backlog ON client_id = app
  WHERE app = $1;

-- The change: app $1 is in group $2 from now on.
INSERT INTO app_group (app, grp) VALUES ($1, $2)
  ON CONFLICT (app) DO UPDATE SET grp = excluded.grp;

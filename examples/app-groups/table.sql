-- The application's own table: in which group each app is now. What happened before is not its business.
CREATE TABLE IF NOT EXISTS app_group (
  app text PRIMARY KEY,
  grp text NOT NULL
);

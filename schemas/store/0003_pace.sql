-- What writing costs while nobody disturbs, as the sinks learned it: one that restarts under load must not take that for normal.
CREATE TABLE spillway.pace (
  way        text             PRIMARY KEY,
  unit_ms    double precision NOT NULL,
  learned_at timestamptz      NOT NULL
);

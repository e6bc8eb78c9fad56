-- The event that tells of it, in the same transaction; last, as it holds up other transactions that move the same app.
SELECT spillway.emit($1, 'app-moved', jsonb_build_object('grp', $2::text)) AS id;

-- The guards, which keep a sweep from keys that can't be replaced although they are past their expiry:
-- * An app-state-sync-key is never deleted.
-- * The newest generation of a company's pre-keys is never deleted: those written within an hour of the newest.
-- * A group that has a sender-key-memory is deleted as a whole or not at all.
-- On a legacy database (`attached`) a trigger sets updated_at when a backfill fills a row. So there the pre-keys that were
-- created last are kept as well.

-- The pre-keys written from this time on are a company's newest generation; `newest` is the time of the newest.
CREATE OR REPLACE FUNCTION keystore_generation_from(newest timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN newest - interval '1 hour';

-- True when a group stays: it has a sender-key-memory, and a key that isn't to go.
CREATE OR REPLACE FUNCTION keystore_group_stays(has_memory boolean, has_staying_key boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN has_memory AND has_staying_key;

-- True when a guard keeps a key. `written_from` and `created_from` are the beginning of its company's newest generation of
-- pre-keys, by their last write and by their creation. `group_stays` says whether its group stays.
CREATE OR REPLACE FUNCTION keystore_guarded(
    key_type text, updated_at timestamptz, created_at timestamptz,
    written_from timestamptz, created_from timestamptz, group_stays boolean, attached boolean
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE key_type
    WHEN 'app-state-sync-key' THEN true
    WHEN 'pre-key' THEN updated_at IS NULL OR updated_at >= coalesce(written_from, 'infinity'::timestamptz)
                        OR (attached AND created_at >= created_from)
    ELSE coalesce(group_stays, false)
END;

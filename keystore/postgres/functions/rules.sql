-- The rules that every operation on a company's keys obeys, each in one place.
--
-- These functions look at their arguments and at keystore_policy, and at no company's rows (guards.sql has those that do).
-- The small ones are written with RETURN, so that Postgres puts their expression into the statement that calls them. Such
-- a body is read when the function is made, so no search_path can give its names another meaning.

-- The types that Baileys stores, and those that a split file name leaves behind. A company may have a few others.
CREATE OR REPLACE FUNCTION keystore_known_type(key_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN key_type = ANY ('{app,app-state,app-state-sync,app-state-sync-key,app-state-sync-version,device,device-list,identity,
    identity-key,lid,lid-mapping,pre,pre-key,sender,sender-key,sender-key-memory,session,tctoken}'::text[]);

-- The name under which a type is counted: its own if it is known or the policy names it, else `other`.
CREATE OR REPLACE FUNCTION keystore_counted_as(of_type text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN keystore_known_type(of_type)
                  OR EXISTS (SELECT FROM keystore_policy p WHERE p.matches = 'name' AND p.key_type = of_type)
                THEN of_type ELSE 'other' END
$$;

-- True when a stored form gets another value. A bot that seals its values itself writes each again in its own seal, and in that
-- of a newer key; nobody but the bot sees whether the value in it is the same. That seal is a plain value to the store: the
-- format 0, then 1 and the id of the bot's key.
CREATE OR REPLACE FUNCTION keystore_overwrites(before bytea, after bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN before <> after
    AND NOT (substring(after FROM 1 FOR 2) = decode('0001', 'hex') AND substring(before FROM 1 FOR 10) <> substring(after FROM 1 FOR 10));

-- The keys of a type created by one write that make a burst: a reconnect or a first sync.
CREATE OR REPLACE FUNCTION keystore_burst_from() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 100;

-- The most types that a company may have besides the known ones.
CREATE OR REPLACE FUNCTION keystore_most_other_types() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 24;

-- The expiry of a key that was last used at a time, rounded up to a step, so that most rewrites leave it unchanged and
-- touch no index. Without a lifetime the key never expires. (A time of a foreign row may be so late that no sum with it is a
-- timestamp.)
CREATE OR REPLACE FUNCTION keystore_rounded_expiry(ttl_s double precision, step_s double precision, used_at timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(to_timestamp(ceil((extract(epoch FROM least(used_at, timestamptz '9999-12-31 00:00+00'))::double precision + ttl_s) / step_s) * step_s), 'infinity'::timestamptz);

-- A use at a time renews an expiry before this: when less than half of the lifetime is left. Of a type that never expires
-- it renews every expiry, which is from another policy.
CREATE OR REPLACE FUNCTION keystore_half_life_from(ttl_s double precision, used_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(used_at + ttl_s / 2 * interval '1 second', 'infinity'::timestamptz);

-- The lifetime of a type: the first row of keystore_policy that matches it. An exact name comes before a part of a name,
-- and the row for any other type comes last. `ttl_s` is null when the type never expires. `lengthened_at` is the time at
-- which the lifetime took the place of a shorter one; else null.
CREATE OR REPLACE FUNCTION keystore_life(of_type text)
RETURNS TABLE (ttl_s double precision, step_s double precision, lengthened_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT p.ttl_s, p.step_s, p.lengthened_at FROM keystore_policy p
    WHERE CASE p.matches WHEN 'name' THEN p.key_type = of_type
                         WHEN 'part' THEN strpos(of_type, p.key_type) > 0
                         ELSE true END
    ORDER BY p.place LIMIT 1
$$;

-- The expiry of a key of a type that is used at a time.
CREATE OR REPLACE FUNCTION keystore_expiry(of_type text, used_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    expires_at timestamptz := (
        SELECT keystore_rounded_expiry(l.ttl_s, l.step_s, used_at) FROM keystore_life(of_type) AS l
    );
BEGIN
    IF expires_at IS NULL THEN
        RAISE EXCEPTION 'the table keystore_policy has no lifetime for the type %', of_type USING ERRCODE = 'undefined_object';
    END IF;
    RETURN expires_at;
END $$;

-- True when a key is past its expiry. A key without an expiry isn't. (An expression that no index answers: a sweep reads
-- the keys of one company, and would else read the index on expiry for each company, with the due keys of all.)
CREATE OR REPLACE FUNCTION keystore_past(expires_at timestamptz, at_time timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(expires_at <= at_time, false);

-- The time before which no key of a type is due; null without such a time. An expiry that was made by a shorter lifetime
-- says nothing: the key may have been used until the lifetime became longer. A key that never expires is never due.
CREATE OR REPLACE FUNCTION keystore_due_from(of_type text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT CASE WHEN l.ttl_s IS NULL THEN 'infinity' ELSE keystore_rounded_expiry(l.ttl_s, l.step_s, l.lengthened_at) END
            FROM keystore_life(of_type) AS l WHERE l.ttl_s IS NULL OR l.lengthened_at IS NOT NULL);
END $$;

-- Those of some types that aren't due yet by keystore_due_from. Mostly no type can be one, and none is looked up.
CREATE OR REPLACE FUNCTION keystore_waiting(types text[], at_time timestamptz) RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM keystore_policy p WHERE p.ttl_s IS NULL OR p.lengthened_at IS NOT NULL) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT t FROM unnest(types) AS t WHERE keystore_due_from(t) > at_time);
END $$;

-- True when a key is due: past its expiry, and past its last use and the lifetime in force. `waiting` is the result of
-- keystore_waiting. On a legacy database (`attached`) a bot's own statements leave the expiry as it was,
-- but set updated_at.
CREATE OR REPLACE FUNCTION keystore_due(
    key_type text, expires_at timestamptz, updated_at timestamptz, at_time timestamptz, waiting text[], attached boolean
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN keystore_past(expires_at, at_time) AND key_type <> ALL (waiting)
    AND (NOT attached OR updated_at IS NULL OR keystore_expiry(key_type, updated_at) <= at_time);

-- True while a lease protects its company. One that ends later than the longest lease from now was made before the clock
-- was set back, and protects nothing. (A difference of times is immutable, and a time plus a day is not. Citus takes only
-- immutable functions in ON CONFLICT … WHERE.)
CREATE OR REPLACE FUNCTION keystore_lease_is_live(expires_at timestamptz, at_time timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN expires_at > at_time AND expires_at - at_time <= interval '1 day 1 minute';

-- The nonce of a stored value that is sealed, by the store (format 1) or by its bot; null for a plain value.
CREATE OR REPLACE FUNCTION keystore_nonce_of(stored bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN substr(stored, 1, 1) = decode('01', 'hex') THEN substr(stored, 10, 12)
            WHEN substr(stored, 1, 2) = decode('0001', 'hex') THEN substr(stored, 11, 12) END;

-- A stored value as it is read. Whoever writes a value writes its nonce beside it. A value with another nonce than its row was
-- put back, and is shown in a format that opens for nobody. (An SQL function would be inlined, and a plan take longer.)
CREATE OR REPLACE FUNCTION keystore_shown(stored bytea, nonce bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN coalesce(keystore_nonce_of(stored) = nonce, true) THEN stored
                ELSE decode('02', 'hex') || substr(stored, 2) END;
END $$;

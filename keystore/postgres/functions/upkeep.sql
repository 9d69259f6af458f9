-- The upkeep that has rules in it: sweeps, counts of the table, and expiries for keys that have none.
--
-- `after` and `upto` name a range of companies, and null is no limit. A function that counts a range plans each time for the
-- range that it gets, because one without limits is the whole table. A sweep runs once for each company, with a plan that the session makes once.

-- True for the companies of a range.
CREATE OR REPLACE FUNCTION keystore_in_range(company text, after text, upto text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (after IS NULL OR company > after) AND (upto IS NULL OR company <= upto);

-- Lock the keys of a company that are due, and return their ids for each type. A key that another session has locked is left
-- out. With `in_groups` it returns the keys of groups that are due as a whole, without it all other keys.
CREATE OR REPLACE FUNCTION keystore_lock_due(
    company text, in_groups boolean, guarding boolean, attached boolean,
    written_from timestamptz, created_from timestamptz, at_time timestamptz
) RETURNS TABLE (key_type text, key_ids text[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT d.key_type, array_agg(d.key_id ORDER BY d.key_id)
    FROM (
        SELECT k.key_type::text, k.key_id::text FROM whatsapp_keys k
        WHERE k.company_id = company AND keystore_past(k.expires_at, at_time)
          AND (keystore_group(k.key_type, k.key_id) IS NOT NULL) = in_groups
          AND NOT (guarding AND keystore_guarded(
              k.key_type, k.updated_at, k.created_at, written_from, created_from,
              keystore_group(k.key_type, k.key_id) IN (
                  SELECT keystore_group(g.key_type, g.key_id) FROM whatsapp_keys g
                  WHERE g.company_id = company AND g.key_type IN ('sender-key', 'sender-key-memory')
                  GROUP BY 1
                  HAVING keystore_group_stays(bool_or(g.key_type = 'sender-key-memory'),
                                              bool_or(NOT keystore_past(g.expires_at, at_time)))
              ), attached
          ))
        FOR UPDATE OF k SKIP LOCKED
    ) AS d
    GROUP BY d.key_type ORDER BY d.key_type;
END $$;

-- Delete these keys of a company, and return the number of deleted ones.
CREATE OR REPLACE FUNCTION keystore_delete(company text, of_type text, of_ids text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM whatsapp_keys k WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = ANY (of_ids);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

-- Delete the expired keys of a company, and return their number for each type.
--
-- Keys outside of groups are deleted without locking them first, which takes half as long. A row that another session has
-- locked ends that attempt after 50 ms, long before a deadlock. Then each key is locked before it is deleted, and a locked
-- one stays. In a group each key is locked first, and a locked one keeps its group. A key that was renewed meanwhile
-- stays: Postgres checks its expiry again.
CREATE OR REPLACE FUNCTION keystore_sweep(company text, guarding boolean, attached boolean, clock timestamptz)
RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET lock_timeout = '50ms' AS $$
#variable_conflict use_column
DECLARE
    at_time timestamptz := coalesce(clock, statement_timestamp());
    newest record;
    due record;
    group_types text[] := '{}';
    group_ids text[] := '{}';
BEGIN
    SELECT keystore_generation_from(max(k.updated_at)) AS written_from,
           keystore_generation_from(max(k.created_at)) AS created_from INTO newest
    FROM whatsapp_keys k WHERE k.company_id = company AND k.key_type = 'pre-key';
    BEGIN
        RETURN QUERY
        WITH gone AS (
            DELETE FROM whatsapp_keys k
            WHERE k.company_id = company AND keystore_past(k.expires_at, at_time)
              AND keystore_group(k.key_type, k.key_id) IS NULL
              AND NOT (guarding AND keystore_guarded(k.key_type, k.updated_at, k.created_at,
                                                     newest.written_from, newest.created_from, false, attached))
            RETURNING k.key_type
        )
        SELECT g.key_type::text, count(*) FROM gone g GROUP BY g.key_type;
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY
        SELECT d.key_type, keystore_delete(company, d.key_type, d.key_ids)
        FROM keystore_lock_due(company, false, guarding, attached, newest.written_from, newest.created_from, at_time) AS d;
    END;
    FOR due IN
        SELECT * FROM keystore_lock_due(company, true, guarding, attached, NULL, NULL, at_time)
    LOOP
        group_types := group_types || array_fill(due.key_type, ARRAY[cardinality(due.key_ids)]);
        group_ids := group_ids || due.key_ids;
    END LOOP;
    IF cardinality(group_ids) > 0 THEN
        RETURN QUERY
        WITH locked AS MATERIALIZED (
            SELECT * FROM unnest(group_types, group_ids) AS l (key_type, key_id)
        ), staying AS (
            SELECT k.key_type::text, k.key_id::text FROM whatsapp_keys k
            WHERE k.company_id = company AND k.key_type IN ('sender-key', 'sender-key-memory')
            EXCEPT SELECT l.key_type, l.key_id FROM locked l
        ), whole AS (
            SELECT l.key_type, array_agg(l.key_id ORDER BY l.key_id) AS key_ids FROM locked l
            WHERE NOT guarding OR keystore_group(l.key_type, l.key_id) NOT IN (
                SELECT keystore_group(s.key_type, s.key_id) FROM staying s
                INTERSECT
                SELECT k.key_id::text FROM whatsapp_keys k
                WHERE k.company_id = company AND k.key_type = 'sender-key-memory'
            )
            GROUP BY l.key_type
        )
        SELECT w.key_type, keystore_delete(company, w.key_type, w.key_ids) FROM whole w ORDER BY w.key_type;
    END IF;
END $$;

-- Sweep several companies under the lease of the sweeper, and add the deletions to the run's record. Returns the run's
-- deletions by type as JSON, or null when the lease has passed to another holder. Types that aren't in `named` are summed
-- up as `other`. The lease is renewed from the end of a long batch, not from its start.
CREATE OR REPLACE FUNCTION keystore_sweep_companies(
    companies text[], lease_name text, of_holder text, with_epoch bigint, ttl_s double precision, of_run bigint,
    guarding boolean, attached boolean, named text[], clock timestamptz
) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    company text;
    gone record;
    name text;
    swept jsonb;
BEGIN
    PERFORM 1 FROM keystore_leases l
    WHERE l.name = lease_name AND l.holder = of_holder AND l.epoch = with_epoch FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    swept := coalesce((SELECT s.by_type::jsonb FROM keystore_sweeps s WHERE s.run_id = of_run), '{}');
    FOREACH company IN ARRAY companies LOOP
        FOR gone IN SELECT * FROM keystore_sweep(company, guarding, attached, clock) LOOP
            name := CASE WHEN gone.key_type = ANY (named) THEN gone.key_type ELSE 'other' END;
            swept := swept || jsonb_build_object(name, coalesce((swept ->> name)::bigint, 0) + gone.n);
        END LOOP;
    END LOOP;
    UPDATE keystore_sweeps s
    SET by_type = swept::text,
        deleted = (SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(swept))
    WHERE s.run_id = of_run;
    UPDATE keystore_leases l SET expires_at = coalesce(clock, clock_timestamp()) + ttl_s * interval '1 second'
    WHERE l.name = lease_name;
    RETURN swept::text;
END $$;

-- The counts of each type in a range of companies. A key past its expiry is `guarded` when a guard keeps it.
CREATE OR REPLACE FUNCTION keystore_census(after text, upto text, guarding boolean, attached boolean, at_time timestamptz)
RETURNS TABLE (
    key_type text, total bigint, with_expiry bigint, expired bigint, guarded bigint, created_24h bigint, created_7d bigint,
    last_write timestamptz, oldest timestamptz
) LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH generations AS MATERIALIZED (
        SELECT k.company_id, keystore_generation_from(max(k.updated_at)) AS written_from,
               keystore_generation_from(max(k.created_at)) AS created_from
        FROM whatsapp_keys k
        WHERE guarding AND k.key_type = 'pre-key' AND keystore_in_range(k.company_id, after, upto)
        GROUP BY k.company_id
    ), staying_groups AS MATERIALIZED (
        SELECT k.company_id, keystore_group(k.key_type, k.key_id) AS group_id
        FROM whatsapp_keys k
        WHERE guarding AND k.key_type IN ('sender-key', 'sender-key-memory')
          AND keystore_in_range(k.company_id, after, upto)
        GROUP BY 1, 2
        HAVING keystore_group_stays(bool_or(k.key_type = 'sender-key-memory'),
                                    bool_or(NOT keystore_past(k.expires_at, at_time)))
    )
    SELECT c.key_type::text, count(*), count(c.expires_at),
           count(*) FILTER (WHERE c.past AND NOT c.guarded), count(*) FILTER (WHERE c.past AND c.guarded),
           count(*) FILTER (WHERE c.created_at > at_time - interval '24 hours'),
           count(*) FILTER (WHERE c.created_at > at_time - interval '168 hours'),
           max(c.updated_at), min(c.created_at)
    FROM (
        SELECT k.key_type, k.created_at, k.updated_at, k.expires_at, keystore_past(k.expires_at, at_time) AS past,
               guarding AND keystore_guarded(k.key_type, k.updated_at, k.created_at, g.written_from, g.created_from,
                                             s.group_id IS NOT NULL, attached) AS guarded
        FROM whatsapp_keys k
        LEFT JOIN generations g ON k.key_type = 'pre-key' AND g.company_id = k.company_id
        LEFT JOIN staying_groups s
            ON k.key_type IN ('sender-key', 'sender-key-memory')
               AND s.company_id = k.company_id AND s.group_id = keystore_group(k.key_type, k.key_id)
        WHERE keystore_in_range(k.company_id, after, upto)
    ) AS c
    GROUP BY c.key_type ORDER BY c.key_type;
END $$;

-- The bytes of the tables of keys and creds, with their partitions and indexes.
CREATE OR REPLACE FUNCTION keystore_size() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT sum(pg_total_relation_size(t.relid))::bigint FROM (
        SELECT 'whatsapp_auth'::regclass AS relid UNION SELECT 'whatsapp_keys'::regclass
        UNION SELECT p.relid FROM pg_partition_tree('whatsapp_keys') AS p
    ) AS t
$$;

-- The keys in a range of companies by type, by the day on which they expire, and by whether they last. Types that aren't in
-- `named` are summed up as `other`, and have its lifetime. gone_on is the first day, counted from 1970, at whose beginning
-- the key has expired. A pre-key lasts while it is of the newest generation. Another key lasts if it was used again on a
-- day after its creation, so that its expiry is later than that of a key which was never used.
CREATE OR REPLACE FUNCTION keystore_life_counts(after text, upto text, guarding boolean, named text[])
RETURNS TABLE (key_type text, lasting boolean, gone_on bigint, n bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH lives AS MATERIALIZED (
        SELECT t.key_type, l.ttl_s, l.step_s
        FROM (SELECT DISTINCT unnest(named || '{other}'::text[])) AS t (key_type), keystore_lifetime(t.key_type) AS l
    ), generations AS MATERIALIZED (
        SELECT k.company_id, keystore_generation_from(max(k.updated_at)) AS written_from
        FROM whatsapp_keys k
        WHERE guarding AND k.key_type = 'pre-key' AND keystore_in_range(k.company_id, after, upto)
        GROUP BY k.company_id
    )
    SELECT l.key_type,
           CASE WHEN k.key_type = 'pre-key' THEN coalesce(k.updated_at >= g.written_from, false)
                ELSE coalesce(k.expires_at > keystore_rounded_expiry(l.ttl_s, l.step_s, k.created_at), false)
           END,
           CASE WHEN k.expires_at < 'infinity' THEN ceil(extract(epoch FROM k.expires_at) / 86400)::bigint END,
           count(*)
    FROM whatsapp_keys k
    JOIN lives l ON l.key_type = CASE WHEN k.key_type = ANY (named) THEN k.key_type ELSE 'other' END
    LEFT JOIN generations g ON k.key_type = 'pre-key' AND g.company_id = k.company_id
    WHERE keystore_in_range(k.company_id, after, upto)
    GROUP BY 1, 2, 3;
END $$;

-- Give up to `most` keys without an expiry one, counted from now. Returns their number for each type, and no row when every
-- key has an expiry. Locked keys are left for later. Only if all that are left are locked does it wait for them, in the
-- order in which a set locks its keys. They are read from the index on expiry, where keys without one lie together.
CREATE OR REPLACE FUNCTION keystore_backfill(most bigint, clock timestamptz) RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    used_at timestamptz := coalesce(clock, statement_timestamp());
BEGIN
    LOOP
        RETURN QUERY
        WITH lacking AS MATERIALIZED (
            SELECT k.company_id, k.key_type, k.key_id FROM whatsapp_keys k
            WHERE k.expires_at IS NULL LIMIT most FOR UPDATE SKIP LOCKED
        ), lives AS MATERIALIZED (
            SELECT t.key_type, keystore_expiry(t.key_type, used_at) AS expires_at
            FROM (SELECT DISTINCT l.key_type FROM lacking l) AS t
        ), filled AS (
            UPDATE whatsapp_keys k SET expires_at = lives.expires_at
            FROM lacking l JOIN lives USING (key_type)
            WHERE k.company_id = l.company_id AND k.key_type = l.key_type AND k.key_id = l.key_id
            RETURNING k.key_type
        )
        SELECT f.key_type::text, count(*) FROM filled f GROUP BY f.key_type;
        EXIT WHEN FOUND;
        PERFORM 1 FROM whatsapp_keys k WHERE k.expires_at IS NULL
        ORDER BY k.company_id, k.key_type, k.key_id LIMIT most FOR UPDATE;
        EXIT WHEN NOT FOUND;
    END LOOP;
END $$;

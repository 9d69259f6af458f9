-- The upkeep that has rules in it: sweeps, counts of the table, and expiries for keys that have none.
--
-- `after` and `upto` name a range of companies, and null is no limit. A function that counts a range plans each time for the
-- range that it gets, because one without limits is the whole table. A sweep runs once for each company, with a plan that
-- the session makes once.

-- True for the companies of a range.
CREATE OR REPLACE FUNCTION keystore_in_range(company text, after text, upto text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (after IS NULL OR company > after) AND (upto IS NULL OR company <= upto);

-- The companies that have due sessions, with the number of these and of all their sessions. No guard keeps a session. (Reads the
-- index on expiry, as keystore_past can't.)
CREATE OR REPLACE FUNCTION keystore_due_sessions(attached boolean, clock timestamptz)
RETURNS TABLE (company_id text, due bigint, total bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan SET jit = off AS $$
#variable_conflict use_column
DECLARE
    at_time timestamptz := coalesce(clock, statement_timestamp());
    waiting text[] := keystore_waiting('{session}', at_time);
BEGIN
    RETURN QUERY
    SELECT d.company_id::text, d.due, count(*)
    FROM (
        SELECT k.company_id, count(*) AS due FROM whatsapp_keys k
        WHERE k.expires_at <= at_time AND k.key_type = 'session'
          AND keystore_due(k.key_type, k.expires_at, k.updated_at, at_time, waiting, attached)
        GROUP BY k.company_id
    ) AS d
    JOIN whatsapp_keys s ON s.company_id = d.company_id AND s.key_type = 'session'
    GROUP BY d.company_id, d.due;
END $$;

-- Delete the due keys of a company that are in no unit, and return their number for each type. `places` are where they were
-- seen: a key that was written or renewed meanwhile is elsewhere, or isn't due any more, and stays. `older` are the ids of the
-- pre-keys to delete, and null deletes every due one.
--
-- (Without indexes, which Postgres would choose for the company because it expects few places, to compare each key with each.)
-- They are deleted without locking them first, which takes half as long. A row that another session has locked ends that
-- attempt after 50 ms, long before a deadlock. Then each key is locked before it is deleted, and a locked one stays.
CREATE OR REPLACE FUNCTION keystore_delete_due(
    company text, places tid[], older text[], waiting text[], guarding boolean, at_time timestamptz
) RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET enable_indexscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    locked tid[];
BEGIN
    RETURN QUERY
    WITH gone AS (
        DELETE FROM whatsapp_keys k
        WHERE k.ctid = ANY (places) AND k.company_id = company AND keystore_past(k.expires_at, at_time)
          AND k.key_type <> ALL (waiting) AND (NOT guarding OR coalesce(keystore_guard(k.key_type), 'newest') = 'newest')
          AND (older IS NULL OR k.key_type <> 'pre-key' OR k.key_id = ANY (older))
        RETURNING k.key_type
    )
    SELECT g.key_type::text, count(*) FROM gone g GROUP BY g.key_type;
EXCEPTION WHEN lock_not_available THEN
    locked := ARRAY(
        SELECT k.ctid FROM whatsapp_keys k
        WHERE k.ctid = ANY (places) AND k.company_id = company AND keystore_past(k.expires_at, at_time)
        FOR UPDATE SKIP LOCKED
    );
    RETURN QUERY SELECT * FROM keystore_delete_due(company, locked, older, waiting, guarding, at_time);
END $$;

-- Lock the due keys of a company at these places, but for those that another session has locked, and return them.
CREATE OR REPLACE FUNCTION keystore_lock_due(company text, places tid[], waiting text[], at_time timestamptz)
RETURNS TABLE (key_type text, key_id text, mapped text)
LANGUAGE plpgsql SET enable_indexscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT k.key_type::text, k.key_id::text,
           CASE WHEN k.key_type = 'lid-mapping' THEN keystore_mapped(k.value::text) END
    FROM whatsapp_keys k
    WHERE k.ctid = ANY (places) AND k.company_id = company AND keystore_past(k.expires_at, at_time)
      AND k.key_type <> ALL (waiting)
    FOR UPDATE SKIP LOCKED;
END $$;

-- Delete the due keys of a company that are in groups, pairs and contacts, and return the number for each type. Each key is
-- locked first, and a locked one keeps its unit. What stays is looked up afterwards. (Without nested loops, for the same
-- reason.)
CREATE OR REPLACE FUNCTION keystore_delete_units(company text, places tid[], waiting text[], at_time timestamptz)
RETURNS TABLE (key_type text, n bigint) LANGUAGE plpgsql SET enable_nestloop = off AS $$
#variable_conflict use_column
DECLARE
    types text[];
    ids text[];
    mapped text[];
    going record;
BEGIN
    SELECT array_agg(d.key_type), array_agg(d.key_id), array_agg(d.mapped) INTO types, ids, mapped
    FROM keystore_lock_due(company, places, waiting, at_time) AS d;
    FOR going IN
        SELECT l.key_type, array_agg(l.key_id) AS key_ids FROM unnest(types, ids, mapped) AS l (key_type, key_id, mapped)
        WHERE keystore_unit(l.key_type, l.key_id, l.mapped) IS NOT NULL
          AND NOT EXISTS (
              SELECT FROM keystore_staying(ARRAY[company], at_time, '{}', false, types, ids) AS s
              WHERE s.unit = keystore_unit(l.key_type, l.key_id, l.mapped) AND strpos(s.guards, keystore_guard(l.key_type)) > 0
          )
        GROUP BY l.key_type ORDER BY l.key_type
    LOOP
        DELETE FROM whatsapp_keys k
        WHERE k.company_id = company AND k.key_type = going.key_type AND k.key_id = ANY (going.key_ids);
        key_type := going.key_type;
        GET DIAGNOSTICS n = ROW_COUNT;
        RETURN NEXT;
    END LOOP;
END $$;

-- Set the expiry of some types' keys that are past theirs to the time from which they are due, but for those that another
-- session has locked.
CREATE OR REPLACE FUNCTION keystore_correct_expiry(company text, of_types text[], at_time timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    of_type text;
    ids text[];
    new_expiry timestamptz;
BEGIN
    FOREACH of_type IN ARRAY of_types LOOP
        ids := ARRAY(
            SELECT k.key_id FROM whatsapp_keys k
            WHERE k.company_id = company AND k.key_type = of_type AND keystore_past(k.expires_at, at_time)
            FOR UPDATE SKIP LOCKED
        );
        new_expiry := keystore_due_from(of_type);
        UPDATE whatsapp_keys k SET expires_at = new_expiry
        WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = ANY (ids);
    END LOOP;
END $$;

-- Delete the due keys of a company, and return their number for each type. When a type isn't due yet, because its lifetime
-- became longer, its keys get their right expiry, so that no later sweep stops at them.
CREATE OR REPLACE FUNCTION keystore_sweep(company text, guarding boolean, attached boolean, clock timestamptz)
RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET jit = off SET bytea_output = 'hex' SET lock_timeout = '50ms' AS $$
#variable_conflict use_column
DECLARE
    at_time timestamptz := coalesce(clock, statement_timestamp());
    free_places tid[];
    unit_places tid[];
    past_types text[];
    waiting text[];
    older text[];
BEGIN
    SELECT array_agg(d.place) FILTER (WHERE NOT guarding OR coalesce(d.guard, 'newest') = 'newest'),
           array_agg(d.place) FILTER (WHERE guarding AND d.guard IN ('group', 'pair', 'contact')),
           array_agg(DISTINCT d.key_type)
    INTO free_places, unit_places, past_types
    FROM (
        SELECT k.ctid AS place, k.key_type::text, keystore_guard(k.key_type) AS guard FROM whatsapp_keys k
        WHERE k.company_id = company AND keystore_due(k.key_type, k.expires_at, k.updated_at, at_time, '{}', attached)
    ) AS d;
    waiting := keystore_waiting(past_types, at_time);
    IF guarding AND past_types @> '{pre-key}' THEN
        older := ARRAY(SELECT * FROM keystore_older_pre_keys(company, attached));
    END IF;
    IF free_places IS NOT NULL THEN
        RETURN QUERY SELECT * FROM keystore_delete_due(company, free_places, older, waiting, guarding, at_time);
    END IF;
    IF unit_places IS NOT NULL THEN
        RETURN QUERY SELECT * FROM keystore_delete_units(company, unit_places, waiting, at_time);
    END IF;
    IF NOT attached AND cardinality(waiting) > 0 THEN
        PERFORM keystore_correct_expiry(company, waiting, at_time);
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

-- The counts of each type in a range of companies. A key that is due is `guarded` when a guard keeps it. It runs as the
-- owner: who may count reads no value, and the pairs of lid-mapping are known by their values.
CREATE OR REPLACE FUNCTION keystore_census(after text, upto text, guarding boolean, attached boolean, at_time timestamptz)
RETURNS TABLE (
    key_type text, total bigint, with_expiry bigint, expired bigint, guarded bigint, created_24h bigint, created_7d bigint,
    last_write timestamptz, oldest timestamptz
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan SET jit = off
SET enable_mergejoin = off SET enable_nestloop = off SET work_mem = '64MB' SET bytea_output = 'hex' AS $$
#variable_conflict use_column
DECLARE
    past_types text[];
    companies text[];
    waiting text[];
BEGIN
    SELECT array_agg(DISTINCT p.key_type),
           array_agg(DISTINCT p.company_id) FILTER (WHERE guarding AND keystore_guard(p.key_type) IN ('group', 'pair', 'contact'))
    INTO past_types, companies
    FROM (
        SELECT k.company_id, k.key_type FROM whatsapp_keys k
        WHERE k.expires_at <= at_time AND keystore_in_range(k.company_id, after, upto)
        GROUP BY 1, 2
    ) AS p;
    waiting := keystore_waiting(past_types, at_time);
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT k.company_id, k.key_type, k.key_id, keystore_guard(k.key_type) AS guard,
               keystore_unit(k.key_type, k.key_id,
                             CASE WHEN k.key_type = 'lid-mapping' THEN keystore_mapped(k.value::text) END) AS unit
        FROM whatsapp_keys k
        WHERE k.expires_at <= at_time AND keystore_in_range(k.company_id, after, upto)
          AND keystore_due(k.key_type, k.expires_at, k.updated_at, at_time, waiting, attached)
    ), older AS MATERIALIZED (
        SELECT c.company_id, o.key_id
        FROM (SELECT DISTINCT d.company_id FROM due d WHERE guarding AND d.guard = 'newest') AS c,
             keystore_older_pre_keys(c.company_id, attached) AS o (key_id)
    ), guarded AS (
        SELECT d.key_type FROM due d
        LEFT JOIN older o ON d.guard = 'newest' AND o.company_id = d.company_id AND o.key_id = d.key_id
        WHERE guarding AND d.guard IS NOT NULL AND d.unit IS NULL AND o.key_id IS NULL
        UNION ALL
        SELECT u.key_type FROM (
            SELECT DISTINCT d.company_id, d.key_type, d.key_id
            FROM due d JOIN keystore_staying(companies, at_time, waiting, attached, NULL, NULL) AS s
                ON s.company_id = d.company_id AND s.unit = d.unit AND strpos(s.guards, d.guard) > 0
        ) AS u
    ), going AS (
        SELECT d.key_type, count(*) FILTER (WHERE d.due) AS due, count(*) FILTER (WHERE NOT d.due) AS guarded
        FROM (SELECT key_type, true AS due FROM due UNION ALL SELECT key_type, false FROM guarded) AS d GROUP BY 1
    ), counted AS (
        SELECT k.key_type, count(*) AS total, count(k.expires_at) AS with_expiry,
               count(*) FILTER (WHERE k.created_at > at_time - interval '24 hours') AS created_24h,
               count(*) FILTER (WHERE k.created_at > at_time - interval '168 hours') AS created_7d,
               max(k.updated_at) AS last_write, min(k.created_at) AS oldest
        FROM whatsapp_keys k WHERE keystore_in_range(k.company_id, after, upto)
        GROUP BY k.key_type
    )
    SELECT c.key_type::text, c.total, c.with_expiry, coalesce(g.due - g.guarded, 0), coalesce(g.guarded, 0),
           c.created_24h, c.created_7d, c.last_write, c.oldest
    FROM counted c LEFT JOIN going g USING (key_type)
    ORDER BY c.key_type;
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
-- the key is due. A pre-key lasts while it is one of the newest. Another key lasts if it was used again on a
-- day after its creation, so that its expiry is later than that of a key which was never used.
CREATE OR REPLACE FUNCTION keystore_life_counts(after text, upto text, guarding boolean, named text[])
RETURNS TABLE (key_type text, lasting boolean, gone_on bigint, n bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan SET jit = off
SET enable_mergejoin = off SET enable_nestloop = off SET work_mem = '64MB' SET bytea_output = 'hex' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH lives AS MATERIALIZED (
        SELECT t.key_type, l.ttl_s, l.step_s, keystore_due_from(t.key_type) AS due_from
        FROM (SELECT DISTINCT unnest(named || '{other}'::text[])) AS t (key_type), keystore_life(t.key_type) AS l
    ), with_older AS MATERIALIZED (
        SELECT k.company_id FROM whatsapp_keys k
        WHERE guarding AND k.key_type = 'pre-key' AND keystore_in_range(k.company_id, after, upto)
        GROUP BY 1 HAVING count(*) > keystore_pre_keys_kept()
    ), older AS MATERIALIZED (
        SELECT c.company_id, o.key_id FROM with_older c, keystore_older_pre_keys(c.company_id, false) AS o (key_id)
    )
    SELECT l.key_type,
           CASE WHEN k.key_type = 'pre-key' THEN guarding AND o.key_id IS NULL
                ELSE coalesce(k.expires_at > keystore_rounded_expiry(l.ttl_s, l.step_s, k.created_at), false)
           END,
           CASE WHEN greatest(k.expires_at, l.due_from) < 'infinity' AND k.expires_at IS NOT NULL
                THEN ceil(extract(epoch FROM greatest(k.expires_at, l.due_from, 'epoch')) / 86400)::bigint END,
           count(*)
    FROM whatsapp_keys k
    JOIN lives l ON l.key_type = CASE WHEN k.key_type = ANY (named) THEN k.key_type ELSE 'other' END
    LEFT JOIN older o ON k.key_type = 'pre-key' AND (o.company_id, o.key_id) = (k.company_id, k.key_id)
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

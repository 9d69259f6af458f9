-- For large installations, never run by `migrate`: distributes the tables over the workers of a Citus cluster, each company
-- on one. docs/scaling.md has the steps. Run it on the coordinator as the tables' owner, while no bot runs, and again after
-- each `migrate`:
--   PGOPTIONS='-c citus.shard_count=32' psql -v ON_ERROR_STOP=1 -f migrations/large/citus.sql service=keystore
-- A function whose first argument is a company runs on that company's worker, as a whole.

BEGIN;

-- Citus lets a transaction that made shards in parallel change no function afterwards.
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

SET LOCAL client_min_messages = 'warning';

DO $$
BEGIN
    PERFORM set_config('search_path', quote_ident(relnamespace::regnamespace::text) || ', pg_temp', true)
    FROM pg_class WHERE oid = 'whatsapp_keys'::regclass;
END $$;

-- The next three functions take the place of those that `migrate` makes.

CREATE OR REPLACE FUNCTION keystore_size() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT citus_total_relation_size('whatsapp_auth') + citus_total_relation_size('whatsapp_keys')
$$;

-- Citus locks the rows of one company at a time. So do this for each company that has keys without an expiry.
CREATE OR REPLACE FUNCTION keystore_backfill(most bigint, clock timestamptz) RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    used_at timestamptz := coalesce(clock, statement_timestamp());
    waiting boolean := false;
    filled bigint := 0;
    lacking record;
    locked_ids text[];
    new_expiry timestamptz;
BEGIN
    LOOP
        FOR lacking IN
            SELECT DISTINCT k.company_id, k.key_type
            FROM (SELECT company_id, key_type FROM whatsapp_keys WHERE expires_at IS NULL LIMIT most) AS k
            ORDER BY k.company_id, k.key_type
        LOOP
            IF waiting THEN
                locked_ids := ARRAY(
                    SELECT k.key_id FROM whatsapp_keys k
                    WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.expires_at IS NULL
                    ORDER BY k.key_id LIMIT most - filled FOR UPDATE);
            ELSE
                locked_ids := ARRAY(
                    SELECT k.key_id FROM whatsapp_keys k
                    WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.expires_at IS NULL
                    LIMIT most - filled FOR UPDATE SKIP LOCKED);
            END IF;
            new_expiry := keystore_expiry(lacking.key_type, used_at);
            UPDATE whatsapp_keys k SET expires_at = new_expiry
            WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.key_id = ANY (locked_ids);
            GET DIAGNOSTICS n = ROW_COUNT;
            IF n > 0 THEN
                key_type := lacking.key_type;
                filled := filled + n;
                RETURN NEXT;
            END IF;
            EXIT WHEN filled = most;
        END LOOP;
        EXIT WHEN filled > 0 OR NOT FOUND;
        waiting := true;
    END LOOP;
END $$;

-- Advisory locks don't meet here: a write takes its own on the worker, and a purge, which is several statements in one transaction,
-- on the coordinator. So a write locks the row of the data key, which a purge deletes.
CREATE OR REPLACE FUNCTION keystore_hold_data_key(company text, of_key bytea) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM 1 FROM keystore_data_keys d WHERE d.company_id = company AND d.key_id = of_key FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the data key of % was erased', company USING ERRCODE = 'KS005', DETAIL = '{}';
    END IF;
END $$;

-- Citus takes no SQL function that reads its tables by an argument, so these become PL/pgSQL functions with the same query.
DO $$
DECLARE
    called record;
BEGIN
    FOR called IN
        SELECT p.oid, p.proname, p.proretset, p.prosrc FROM pg_proc p
        WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.proname LIKE 'keystore\_%'
          AND p.prolang = (SELECT l.oid FROM pg_language l WHERE l.lanname = 'sql') AND p.prosqlbody IS NULL
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION %I(%s) RETURNS %s LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS %L',
            called.proname, pg_get_function_arguments(called.oid), pg_get_function_result(called.oid),
            E'#variable_conflict use_column\nBEGIN '
                || CASE WHEN called.proretset THEN 'RETURN QUERY ' || called.prosrc ELSE 'RETURN (' || called.prosrc || ')' END
                || '; END');
    END LOOP;
END $$;

DO $$
DECLARE
    relation text;
    called record;
BEGIN
    FOREACH relation IN ARRAY ARRAY['whatsapp_keys', 'whatsapp_auth', 'keystore_company_leases', 'keystore_counters', 'keystore_trash', 'keystore_data_keys'] LOOP
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = relation::regclass) THEN
            PERFORM create_distributed_table(
                relation::regclass, 'company_id', colocate_with := CASE relation WHEN 'whatsapp_keys' THEN 'none' ELSE 'whatsapp_keys' END);
            -- The copied rows would stay on the coordinator, out of sight: private keys.
            PERFORM truncate_local_data_after_distributing_table(relation::regclass);
        END IF;
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['keystore_policy', 'keystore_logins', 'keystore_settings'] LOOP
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = relation::regclass) THEN
            PERFORM create_reference_table(relation::regclass);
            PERFORM truncate_local_data_after_distributing_table(relation::regclass);
        END IF;
    END LOOP;
    FOR called IN
        SELECT p.oid::regprocedure AS name, p.proconfig::text LIKE '%plan_cache_mode%' AS pinned,
               p.proargnames[1] = 'company' AND p.proconfig IS NOT NULL AS of_a_company
        FROM pg_proc p WHERE p.pronamespace = quote_ident(current_schema())::regnamespace AND p.proname LIKE 'keystore\_%'
    LOOP
        IF called.of_a_company THEN
            PERFORM create_distributed_function(
                called.name, 'company', colocate_with := 'whatsapp_keys',
                force_delegation := called.name::text LIKE '%keystore_sweep(%');
        ELSE
            PERFORM create_distributed_function(called.name);
        END IF;
        -- Citus chooses the shard from the company, which a plan for any company doesn't have.
        IF called.pinned THEN
            EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_custom_plan', called.name);
        END IF;
    END LOOP;
END $$;

-- The mark by which the store knows that the tables are distributed.
COMMENT ON TABLE whatsapp_keys IS 'Distributed by Citus';

COMMIT;

-- Sealed values: their bytes are made and opened in Python (docs/sealing.md), and the database only holds them.
--
-- A write that is sealed by a company's data key must not take effect once a purge has erased that key. So each such write
-- holds a lock that a purge takes alone.

-- Hold a company's data key until the transaction ends. Refuses a key that isn't the company's any more.
CREATE OR REPLACE FUNCTION keystore_hold_data_key(company text, of_key bytea) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('keystore_data_key ' || company, 0));
    IF NOT EXISTS (SELECT FROM keystore_data_keys d WHERE d.company_id = company AND d.key_id = of_key) THEN
        RAISE EXCEPTION 'the data key of % was erased', company USING ERRCODE = 'KS005', DETAIL = '{}';
    END IF;
END $$;

-- Erase a company's data key, which ends the use of every value that it sealed. It waits for the writes that hold the key.
-- Returns the number of erased keys.
CREATE OR REPLACE FUNCTION keystore_drop_data_key(company text) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('keystore_data_key ' || company, 0));
    DELETE FROM keystore_data_keys d WHERE d.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

-- A write (keystore_write) of values that were sealed with the data key `of_key`. The caller has compared the identities in the
-- creds, which the database can't read: keystore_other_identity finds the result in a setting of this transaction.
CREATE OR REPLACE FUNCTION keystore_sealed_write(
    company text, of_key bytea, is_other_identity boolean, key_types text[], key_ids text[], key_values bytea[],
    gone_types text[], gone_ids text[], new_creds bytea, with_epoch bigint, with_seq bigint, known_seq bigint,
    most_keys bigint, most_bytes bigint, clock timestamptz
) RETURNS text[]
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    events text[];
BEGIN
    PERFORM keystore_hold_data_key(company, of_key);
    IF is_other_identity THEN
        PERFORM set_config('keystore.other_identity', 'yes', true);
    END IF;
    events := keystore_write(
        company, key_types, key_ids, key_values, gone_types, gone_ids, new_creds, with_epoch, with_seq, known_seq,
        most_keys, most_bytes, clock);
    IF is_other_identity THEN
        PERFORM set_config('keystore.other_identity', '', true);  -- The transaction may write another company too.
    END IF;
    RETURN events;
END $$;

-- The stored values of some keys; those of the creds for an empty type.
CREATE OR REPLACE FUNCTION keystore_stored_values(company text, key_types text[], key_ids text[])
RETURNS TABLE (key_type text, key_id text, value bytea)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT n.key_type, n.key_id, (
        SELECT keystore_shown(k.value, k.value_nonce) FROM whatsapp_keys k
        WHERE k.company_id = company AND k.key_type = n.key_type AND k.key_id = n.key_id
    )
    FROM unnest(key_types, key_ids) AS n (key_type, key_id) WHERE n.key_type <> ''
    UNION ALL
    SELECT '', '', keystore_shown(a.creds, a.creds_nonce) FROM whatsapp_auth a
    WHERE a.company_id = company AND '' = ANY (key_types);
END $$;

-- Give values another stored form: an empty type is that of the creds. A value that isn't `former` any more stays. Returns
-- the number of changed values. The keys come in the order in which a set locks them.
CREATE OR REPLACE FUNCTION keystore_reseal(
    company text, of_key bytea, key_types text[], key_ids text[], former bytea[], sealed bytea[]
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    changed bigint := 0;
BEGIN
    PERFORM keystore_hold_data_key(company, of_key);
    FOR place IN 1 .. cardinality(key_types) LOOP
        IF key_types[place] = '' THEN
            UPDATE whatsapp_auth a SET creds = sealed[place], creds_nonce = keystore_nonce_of(sealed[place])
            WHERE a.company_id = company AND a.creds = former[place];
        ELSE
            UPDATE whatsapp_keys k SET value = sealed[place], value_nonce = keystore_nonce_of(sealed[place])
            WHERE k.company_id = company AND k.key_type = key_types[place] AND k.key_id = key_ids[place]
              AND k.value = former[place];
        END IF;
        IF FOUND THEN
            changed := changed + 1;
        END IF;
    END LOOP;
    RETURN changed;
END $$;

-- The same for values in the trash, each of which has a time there.
CREATE OR REPLACE FUNCTION keystore_reseal_trash(
    company text, of_key bytea, times timestamptz[], key_types text[], key_ids text[], former bytea[], sealed bytea[]
) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    changed bigint;
BEGIN
    PERFORM keystore_hold_data_key(company, of_key);
    UPDATE keystore_trash t SET value = n.sealed
    FROM unnest(times, key_types, key_ids, former, sealed) AS n (trashed_at, key_type, key_id, former, sealed)
    WHERE t.company_id = company AND t.trashed_at = n.trashed_at AND t.key_type = n.key_type AND t.key_id = n.key_id
      AND t.value = n.former;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

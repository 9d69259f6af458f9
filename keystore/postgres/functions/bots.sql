-- The operations of a bot that has its own login: the same as in keys.sql and leases.sql, for the companies of its login.
--
-- They run with the rights of the owner, who made them, so the login itself needs no right on any table. `session_user` is
-- the login that connected; SET ROLE doesn't change it. A bot can't choose the clock or its quota, and what it sends is
-- checked here, because no program of ours stands between.

-- The row of a company that is one of this login's. Refuses any other company.
CREATE OR REPLACE FUNCTION keystore_own(company text) RETURNS keystore_logins
LANGUAGE plpgsql STABLE AS $$
DECLARE
    own keystore_logins;
BEGIN
    SELECT * INTO own FROM keystore_logins l WHERE l.login = session_user AND l.company_id = company;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the login % is not for this company', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN own;
END $$;

-- Refuse lists of types and ids of which one is too long, empty or missing.
CREATE OR REPLACE FUNCTION keystore_require_names(key_types text[], key_ids text[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF key_types IS NULL OR key_ids IS NULL OR cardinality(key_types) <> cardinality(key_ids) THEN
        RAISE EXCEPTION 'each key needs a type and an id' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (
        SELECT FROM unnest(key_types || key_ids) AS n (name) WHERE n.name IS NULL OR length(n.name) NOT BETWEEN 1 AND 255
    ) THEN
        RAISE EXCEPTION 'a type and an id have 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- Refuse a list of stored values of which one is missing, empty or too long. (The first byte of each is its format.)
CREATE OR REPLACE FUNCTION keystore_require_values(stored bytea[], most integer) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF stored IS NULL OR cardinality(stored) <> most THEN
        RAISE EXCEPTION 'each key needs a value' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(stored) AS v (value) WHERE v.value IS NULL OR octet_length(v.value) NOT BETWEEN 2 AND 16777217) THEN
        RAISE EXCEPTION 'a value has 1 byte to 16 MiB' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_load(company text) RETURNS TABLE (key_type text, key_id text, value bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN QUERY SELECT * FROM keystore_load(company);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_get(company text, of_type text, of_ids text[])
RETURNS TABLE (key_id text, value bytea, present boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN QUERY SELECT * FROM keystore_get(company, of_type, of_ids, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_use(company text, key_types text[], key_ids text[])
RETURNS TABLE (key_type text, n bigint, missing text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    PERFORM keystore_require_names(key_types, key_ids);
    RETURN QUERY SELECT * FROM keystore_use(company, key_types, key_ids, NULL);
END $$;

-- To count a company's keys takes longer than a small write. So the quota is checked with every large write, and with one
-- small write in fifty: a company can exceed it for a moment, by some megabytes.
CREATE OR REPLACE FUNCTION keystore_bot_set(
    company text, key_types text[], key_ids text[], key_values bytea[], gone_types text[], gone_ids text[],
    new_creds bytea, with_epoch bigint, with_seq bigint
) RETURNS TABLE (event text, key_type text, n bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    own keystore_logins := keystore_own(company);
    is_counted boolean;
BEGIN
    PERFORM keystore_require_names(key_types, key_ids);
    PERFORM keystore_require_names(gone_types, gone_ids);
    PERFORM keystore_require_values(key_values, cardinality(key_ids));
    IF new_creds IS NOT NULL THEN
        PERFORM keystore_require_values(ARRAY[new_creds], 1);
    END IF;
    is_counted := cardinality(key_ids) > 100 OR random() < 0.02
        OR (SELECT coalesce(sum(octet_length(v.value)), 0) FROM unnest(key_values) AS v (value)) > 262144;
    RETURN QUERY SELECT * FROM keystore_set(
        company, key_types, key_ids, key_values, gone_types, gone_ids, new_creds, with_epoch, with_seq,
        CASE WHEN is_counted THEN own.most_keys END, CASE WHEN is_counted THEN own.most_bytes END, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_clear(company text, with_epoch bigint, with_seq bigint)
RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN QUERY SELECT * FROM keystore_clear(company, with_epoch, with_seq, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_take_lease(company text, new_holder text, ttl_s double precision, force boolean)
RETURNS TABLE (holder text, epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    PERFORM keystore_require_names(ARRAY['holder'], ARRAY[new_holder]);
    PERFORM keystore_require_lease_s(ttl_s);
    RETURN QUERY SELECT * FROM keystore_take_lease(company, new_holder, ttl_s, coalesce(force, false), NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_renew_lease(company text, of_holder text, with_epoch bigint, ttl_s double precision)
RETURNS TABLE (epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    PERFORM keystore_require_lease_s(ttl_s);
    RETURN QUERY SELECT * FROM keystore_renew_lease(company, of_holder, with_epoch, ttl_s, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_release_lease(company text, of_holder text, with_epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN keystore_release_lease(company, of_holder, with_epoch, NULL);
END $$;

-- Refuse a lease that isn't longer than 0 and at most a day.
CREATE OR REPLACE FUNCTION keystore_require_lease_s(ttl_s double precision) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF ttl_s IS NULL OR NOT (ttl_s > 0 AND ttl_s <= 86400) THEN
        RAISE EXCEPTION 'a lease lasts more than 0 and up to 86400 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- The operations of a bot on its company's keys and creds.
--
-- Each is one call and so one transaction, and each of its statements sees all that is committed when the statement
-- begins. `clock` replaces the database's clock, unless it is null. The lists of a call have no null in them.
--
-- Every function pins four settings. `search_path` keeps names from meaning a stranger's table. `lock_timeout` ends a wait
-- for locked rows, so that a company whose rows somebody has locked doesn't keep a connection that others need. A generic
-- plan is made once in a session; with arrays as arguments Postgres would make a new plan for each call, which takes longer
-- than a set of one key. Without sequential scans such a plan looks each key up in the primary key, also where it was made
-- while the table was empty: the cost of no statement is the product of two lists.

-- The creds and all keys as of one moment. The row without a type and an id holds the creds. The row without a type but
-- with an id holds the epoch and the number of the last write that the database has. (A plain query, so that its rows
-- aren't collected before the first is sent: a load of 721 keys took a third longer. The CASE spares most rows a call.)
CREATE OR REPLACE FUNCTION keystore_load(company text) RETURNS TABLE (key_type text, key_id text, value bytea)
LANGUAGE sql STABLE AS $$
    SELECT k.key_type::text, k.key_id::text,
           CASE WHEN k.value_nonce IS NULL OR substr(k.value, 10, 12) = k.value_nonce OR substr(k.value, 11, 12) = k.value_nonce
                THEN k.value ELSE keystore_shown(k.value, k.value_nonce) END
    FROM whatsapp_keys k WHERE k.company_id = company
    UNION ALL
    SELECT NULL, NULL, keystore_shown(a.creds, a.creds_nonce) FROM whatsapp_auth a WHERE a.company_id = company
    UNION ALL
    SELECT NULL, l.epoch || ' ' || l.seq, NULL FROM keystore_company_leases l WHERE l.company_id = company
$$;

-- The creds alone; null without any.
CREATE OR REPLACE FUNCTION keystore_creds(company text) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN (SELECT keystore_shown(a.creds, a.creds_nonce) FROM whatsapp_auth a WHERE a.company_id = company);
END $$;

-- Renew the expiry of one key because it is used. Returns false when the key is gone.
CREATE OR REPLACE FUNCTION keystore_renew_key(company text, of_type text, of_id text, used_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    new_expiry timestamptz := keystore_expiry(of_type, used_at);
BEGIN
    UPDATE whatsapp_keys k SET expires_at = new_expiry
    WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = of_id;
    RETURN FOUND;
END $$;

-- The keys of one type that are stored, out of those asked for. A read is a use: a key that is due is renewed before its
-- row is returned. `present` is null for a key that wasn't due, true for a renewed one, and false for one that a sweep or
-- another session deleted meanwhile.
CREATE OR REPLACE FUNCTION keystore_get(company text, of_type text, of_ids text[], clock timestamptz)
RETURNS TABLE (key_id text, value bytea, present boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    used_at timestamptz := coalesce(clock, statement_timestamp());
    renewed_before timestamptz := keystore_half_life_from((SELECT l.ttl_s FROM keystore_life(of_type) AS l), used_at);
BEGIN
    FOR key_id, value, present IN
        SELECT k.key_id, keystore_shown(k.value, k.value_nonce), CASE WHEN k.expires_at < renewed_before THEN true END
        FROM whatsapp_keys k
        WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = ANY (of_ids)
    LOOP
        IF present THEN
            present := keystore_renew_key(company, of_type, key_id, used_at);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Mark keys as used, as a get does. Returns the number of renewed keys of each type, and the ids that aren't stored (or null).
CREATE OR REPLACE FUNCTION keystore_use(company text, key_types text[], key_ids text[], clock timestamptz)
RETURNS TABLE (key_type text, n bigint, missing text[])
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    used_at timestamptz := coalesce(clock, statement_timestamp());
    used record;
    new_expiry timestamptz;
    renewed_before timestamptz;
BEGIN
    FOR used IN
        SELECT u.key_type, array_agg(u.key_id ORDER BY u.key_id) AS key_ids
        FROM unnest(key_types, key_ids) AS u (key_type, key_id) GROUP BY u.key_type ORDER BY u.key_type
    LOOP
        SELECT keystore_rounded_expiry(l.ttl_s, l.step_s, used_at), keystore_half_life_from(l.ttl_s, used_at)
        INTO new_expiry, renewed_before FROM keystore_life(used.key_type) AS l;
        IF new_expiry IS NULL THEN
            new_expiry := keystore_expiry(used.key_type, used_at); -- It says what is missing.
        END IF;
        UPDATE whatsapp_keys k SET expires_at = new_expiry
        WHERE k.company_id = company AND k.key_type = used.key_type AND k.key_id = ANY (used.key_ids)
          AND k.expires_at < renewed_before;
        GET DIAGNOSTICS n = ROW_COUNT;
        key_type := used.key_type;
        missing := NULL;
        IF cardinality(used.key_ids) > (
            SELECT count(*) FROM whatsapp_keys k
            WHERE k.company_id = company AND k.key_type = used.key_type AND k.key_id = ANY (used.key_ids)
        ) THEN
            missing := ARRAY(
                SELECT unnest(used.key_ids)
                EXCEPT SELECT k.key_id FROM whatsapp_keys k
                WHERE k.company_id = company AND k.key_type = used.key_type AND k.key_id = ANY (used.key_ids)
            );
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- The number of a company's keys, and the bytes of their values.
CREATE OR REPLACE FUNCTION keystore_usage(company text, OUT keys bigint, OUT bytes bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT count(*), coalesce(sum(octet_length(k.value)), 0) INTO keys, bytes
    FROM whatsapp_keys k WHERE k.company_id = company;
END $$;

-- Refuse a write after which a company would have too many types besides the known ones. The company's types are read by
-- skipping from one to the next in the primary key.
CREATE OR REPLACE FUNCTION keystore_require_few_types(company text, new_types text[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    added bigint;
    stored bigint := 0;
    next_type text := '';
BEGIN
    SELECT count(*) INTO added FROM unnest(new_types) AS t (key_type)
    WHERE NOT keystore_known_type(t.key_type)
      AND (SELECT min(k.key_id) FROM whatsapp_keys k WHERE k.company_id = company AND k.key_type = t.key_type) IS NULL;
    WHILE added > 0 AND next_type IS NOT NULL AND stored + added <= keystore_most_other_types() LOOP
        next_type := (SELECT min(k.key_type) FROM whatsapp_keys k WHERE k.company_id = company AND k.key_type > next_type);
        IF NOT keystore_known_type(next_type) THEN
            stored := stored + 1;
        END IF;
    END LOOP;
    IF added > 0 AND stored + added > keystore_most_other_types() THEN
        RAISE EXCEPTION 'company % would have too many key types', company
            USING ERRCODE = 'KS003', DETAIL = json_build_object('types', stored + added);
    END IF;
END $$;

-- Delete keys by type and id. Returns the number of deleted keys of each type.
CREATE OR REPLACE FUNCTION keystore_delete_named(company text, gone_types text[], gone_ids text[])
RETURNS TABLE (key_type text, n bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    gone record;
BEGIN
    FOR gone IN
        SELECT g.key_type, array_agg(g.key_id ORDER BY g.key_id) AS key_ids
        FROM unnest(gone_types, gone_ids) AS g (key_type, key_id) GROUP BY g.key_type ORDER BY g.key_type
    LOOP
        key_type := gone.key_type;
        n := keystore_delete(company, gone.key_type, gone.key_ids);
        RETURN NEXT;
    END LOOP;
END $$;

-- Write a company's creds, unless they are null.
CREATE OR REPLACE FUNCTION keystore_write_creds(company text, new_creds bytea, at_time timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF new_creds IS NOT NULL THEN
        INSERT INTO whatsapp_auth AS a (company_id, creds, creds_nonce, created_at, updated_at)
        VALUES (company, new_creds, keystore_nonce_of(new_creds), at_time, at_time)
        ON CONFLICT (company_id) DO UPDATE
        SET creds = excluded.creds, creds_nonce = excluded.creds_nonce, updated_at = excluded.updated_at;
    END IF;
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

-- Write keys of a company. Returns the events as keystore_write does.
CREATE OR REPLACE FUNCTION keystore_write_keys(
    company text, key_types text[], key_ids text[], key_values bytea[], at_time timestamptz
) RETURNS text[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    events text[] := '{}';
    types text[];
    expiries timestamptz[];
    has_other_types boolean := false;
    made_types text[];
    made_ids text[];
    counted record;
BEGIN
    -- Most writes are the next state of one ratchet, which is stored already.
    IF cardinality(key_ids) = 1 AND key_types[1] <> 'pre-key' THEN
        expiries[1] := keystore_expiry(key_types[1], at_time);
        UPDATE whatsapp_keys k
        SET value = key_values[1], value_nonce = keystore_nonce_of(key_values[1]), updated_at = at_time, expires_at = expiries[1]
        WHERE k.company_id = company AND k.key_type = key_types[1] AND k.key_id = key_ids[1];
        IF FOUND THEN
            RETURN ARRAY['renewed', key_types[1], '1'];
        END IF;
    END IF;

    types := CASE cardinality(key_ids) WHEN 1 THEN key_types ELSE ARRAY(SELECT DISTINCT unnest(key_types)) END;
    FOR place IN 1 .. cardinality(types) LOOP
        expiries[place] := keystore_expiry(types[place], at_time);
        has_other_types := has_other_types OR NOT keystore_known_type(types[place]);
    END LOOP;
    IF has_other_types THEN
        PERFORM keystore_require_few_types(company, types);
    END IF;

    -- Most large writes are new pre-keys. They are inserted without a look at what is stored, which takes a third of the time.
    IF cardinality(key_ids) >= 50 THEN
        WITH made AS (
            INSERT INTO whatsapp_keys AS k (
                company_id, key_type, key_id, value, value_nonce, created_at, updated_at, expires_at)
            SELECT company, i.key_type, i.key_id, i.value, keystore_nonce_of(i.value), at_time, at_time,
                   expiries[array_position(types, i.key_type)]
            FROM unnest(key_types, key_ids, key_values) AS i (key_type, key_id, value)
            ORDER BY i.key_type, i.key_id
            ON CONFLICT (company_id, key_type, key_id) DO NOTHING
            RETURNING k.key_type, k.key_id
        )
        SELECT coalesce(array_agg(m.key_type), '{}'), coalesce(array_agg(m.key_id), '{}') INTO made_types, made_ids FROM made m;
        FOR counted IN SELECT m.key_type, count(*) AS n FROM unnest(made_types) AS m (key_type) GROUP BY m.key_type LOOP
            events := events || ARRAY['created', counted.key_type, counted.n::text];
        END LOOP;
        IF cardinality(made_ids) = cardinality(key_ids) THEN
            RETURN events;
        END IF;
        SELECT array_agg(i.key_type), array_agg(i.key_id), array_agg(i.value) INTO key_types, key_ids, key_values
        FROM unnest(key_types, key_ids, key_values) AS i (key_type, key_id, value)
        WHERE (i.key_type, i.key_id) NOT IN (SELECT m.key_type, m.key_id FROM unnest(made_types, made_ids) AS m (key_type, key_id));
        IF key_ids IS NULL THEN
            RAISE EXCEPTION 'a key is named twice' USING ERRCODE = 'cardinality_violation';
        END IF;
    END IF;

    FOR counted IN
        WITH incoming AS MATERIALIZED (
            SELECT i.key_type, i.key_id, i.value, (
                SELECT k.value FROM whatsapp_keys k
                WHERE k.company_id = company AND k.key_type = i.key_type AND k.key_id = i.key_id
            ) AS before
            FROM unnest(key_types, key_ids, key_values) AS i (key_type, key_id, value)
        )
        SELECT i.key_type, count(*) - count(i.before) AS created, count(i.before) AS renewed,
               array_agg(i.key_id) FILTER (WHERE i.key_type = 'pre-key' AND keystore_overwrites(i.before, i.value)) AS rewritten
        FROM incoming i GROUP BY i.key_type
    LOOP
        events := events || ARRAY[
            'created', counted.key_type, counted.created::text, 'renewed', counted.key_type, counted.renewed::text];
        IF counted.rewritten IS NOT NULL THEN
            events := events || ARRAY(
                SELECT e.part FROM unnest(counted.rewritten) AS i (key_id), unnest(ARRAY['rewritten', i.key_id, '1']) AS e (part));
            INSERT INTO keystore_counters AS c (company_id, hour, key_type, event, n)
            VALUES (company, date_trunc('hour', at_time, 'UTC'), 'pre-key', 'rewritten', cardinality(counted.rewritten))
            ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = c.n + excluded.n;
        END IF;
    END LOOP;
    INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, value_nonce, created_at, updated_at, expires_at)
    SELECT company, i.key_type, i.key_id, i.value, keystore_nonce_of(i.value), at_time, at_time,
           expiries[array_position(types, i.key_type)]
    FROM unnest(key_types, key_ids, key_values) AS i (key_type, key_id, value)
    ORDER BY i.key_type, i.key_id
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, value_nonce = excluded.value_nonce, updated_at = excluded.updated_at,
        expires_at = excluded.expires_at;
    RETURN events;
END $$;

-- A whole write, all or nothing: keys to write, keys to delete, and creds unless they are null. Returns its events in one list:
-- for each the event, a type, and a number of keys. An unused pre-key that got another value is the event 'rewritten', with
-- its id in the place of the type. A write that the database has already has no events.
--
-- With `most_keys` and `most_bytes` it counts the company's keys and their bytes, and refuses a write that takes the
-- company beyond them. It then returns both numbers, or more, as the events 'keys' and 'bytes'.
CREATE OR REPLACE FUNCTION keystore_write(
    company text, key_types text[], key_ids text[], key_values bytea[], gone_types text[], gone_ids text[],
    new_creds bytea, with_epoch bigint, with_seq bigint, known_seq bigint, most_keys bigint, most_bytes bigint,
    clock timestamptz
) RETURNS text[]
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    at_time timestamptz := coalesce(clock, statement_timestamp());
    events text[] := '{}';
    gone record;
    before record;
    after record;
BEGIN
    IF NOT keystore_admit(company, with_epoch, with_seq, known_seq, clock) THEN
        RETURN events;
    END IF;
    IF most_keys IS NOT NULL THEN
        before := keystore_usage(company);
    END IF;
    IF new_creds IS NOT NULL THEN
        PERFORM keystore_put_former_away(company, new_creds, at_time);
    END IF;
    IF cardinality(gone_ids) > 0 THEN
        FOR gone IN SELECT d.key_type, d.n FROM keystore_delete_named(company, gone_types, gone_ids) AS d LOOP
            events := events || ARRAY['deleted', gone.key_type, gone.n::text];
        END LOOP;
    END IF;
    IF cardinality(key_ids) > 0 THEN
        events := events || keystore_write_keys(company, key_types, key_ids, key_values, at_time);
    END IF;
    IF new_creds IS NOT NULL THEN
        PERFORM keystore_write_creds(company, new_creds, at_time);
    END IF;
    IF most_keys IS NOT NULL THEN
        -- Counted as if every key was new. Only a write that might exceed the quota is worth a second count.
        SELECT before.keys + count(*) AS keys, before.bytes + coalesce(sum(octet_length(n.value)), 0) AS bytes INTO after
        FROM unnest(key_values) AS n (value);
        IF after.keys > most_keys OR after.bytes > most_bytes THEN
            after := keystore_usage(company);
        END IF;
        IF after.keys > greatest(before.keys, most_keys) OR after.bytes > greatest(before.bytes, most_bytes) THEN
            RAISE EXCEPTION 'company % would exceed its quota', company
                USING ERRCODE = 'KS002', DETAIL = json_build_object(
                    'keys', before.keys, 'bytes', before.bytes, 'keys_after', after.keys, 'bytes_after', after.bytes);
        END IF;
        events := events || ARRAY['keys', '', after.keys::text, 'bytes', '', after.bytes::text];
    END IF;
    RETURN events;
END $$;

-- Writes of several companies in one transaction, each all or nothing by itself. Returns for each, in order, its events, or the
-- code, message and detail of the error that refused it. The lists of a company follow each other: `key_counts` and
-- `gone_counts` have their lengths. (A part of a list is reached by a walk from the list's start, so a caller limits the
-- number of companies.) A company whose rows are locked for long makes the others wait for 5 seconds at most.
CREATE OR REPLACE FUNCTION keystore_write_all(
    of_bot boolean, companies text[], key_counts integer[], key_types text[], key_ids text[], key_values bytea[],
    gone_counts integer[], gone_types text[], gone_ids text[], new_creds bytea[], epochs bigint[], seqs bigint[],
    known_seqs bigint[], most_keys bigint[], most_bytes bigint[], data_keys bytea[], other_identities boolean[],
    clock timestamptz
) RETURNS TABLE (events text[], code text, message text, detail text)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' AS $$
DECLARE
    first_key integer := 1;
    first_gone integer := 1;
    last_key integer;
    last_gone integer;
BEGIN
    FOR place IN 1 .. cardinality(companies) LOOP
        last_key := first_key + key_counts[place] - 1;
        last_gone := first_gone + gone_counts[place] - 1;
        code := NULL; message := NULL; detail := NULL;
        BEGIN
            IF of_bot THEN
                events := keystore_bot_write(
                    companies[place], key_types[first_key:last_key], key_ids[first_key:last_key], key_values[first_key:last_key],
                    gone_types[first_gone:last_gone], gone_ids[first_gone:last_gone], new_creds[place], epochs[place], seqs[place],
                    known_seqs[place]);
            ELSIF data_keys[place] IS NOT NULL THEN
                events := keystore_sealed_write(
                    companies[place], data_keys[place], other_identities[place], key_types[first_key:last_key],
                    key_ids[first_key:last_key], key_values[first_key:last_key], gone_types[first_gone:last_gone],
                    gone_ids[first_gone:last_gone], new_creds[place], epochs[place], seqs[place], known_seqs[place],
                    most_keys[place], most_bytes[place], clock);
            ELSE
                events := keystore_write(
                    companies[place], key_types[first_key:last_key], key_ids[first_key:last_key], key_values[first_key:last_key],
                    gone_types[first_gone:last_gone], gone_ids[first_gone:last_gone], new_creds[place], epochs[place], seqs[place],
                    known_seqs[place], most_keys[place], most_bytes[place], clock);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            events := NULL;
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        END;
        RETURN NEXT;
        first_key := last_key + 1;
        first_gone := last_gone + 1;
    END LOOP;
END $$;

-- Put a company's creds and all its keys into the trash; its lease stays, and with `keys_only` the creds too. Returns the
-- number of deleted keys of each type.
--
-- A deletion that waited for a set doesn't see the keys which that set added. The next pass sees them. So passes are made
-- until nothing is left; a bot that goes on writing all the time ends them after the tenth.
CREATE OR REPLACE FUNCTION keystore_clear(
    company text, keys_only boolean, with_epoch bigint, with_seq bigint, known_seq bigint, clock timestamptz
)
RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    put_at timestamptz;
BEGIN
    IF NOT keystore_admit(company, with_epoch, with_seq, known_seq, clock) THEN
        RETURN;
    END IF;
    put_at := keystore_put_at(company, coalesce(clock, statement_timestamp()));
    FOR pass IN 1 .. 10 LOOP
        RETURN QUERY
        WITH gone AS (
            DELETE FROM whatsapp_keys k WHERE k.company_id = company RETURNING k.*
        ), put_away AS (
            INSERT INTO keystore_trash AS t
            SELECT company, put_at, g.key_type, g.key_id, 'clear', keystore_shown(g.value, g.value_nonce), g.created_at, g.updated_at,
                   g.expires_at
            FROM gone g WHERE put_at IS NOT NULL
            ON CONFLICT (company_id, trashed_at, key_type, key_id) DO UPDATE SET value = excluded.value
        )
        SELECT g.key_type::text, count(*) FROM gone g GROUP BY g.key_type;
        IF NOT keys_only THEN
            WITH gone AS (
                DELETE FROM whatsapp_auth a WHERE a.company_id = company RETURNING a.*
            )
            INSERT INTO keystore_trash AS t
            SELECT company, put_at, '', '', 'clear', keystore_shown(g.creds, g.creds_nonce), g.created_at, g.updated_at, NULL
            FROM gone g WHERE put_at IS NOT NULL
            ON CONFLICT (company_id, trashed_at, key_type, key_id) DO UPDATE SET value = excluded.value;
        END IF;
        EXIT WHEN NOT EXISTS (SELECT FROM whatsapp_keys k WHERE k.company_id = company)
            AND (keys_only OR NOT EXISTS (SELECT FROM whatsapp_auth a WHERE a.company_id = company));
    END LOOP;
    IF put_at IS NOT NULL THEN
        PERFORM keystore_limit_trash(company);
    END IF;
END $$;

-- Write keys with the times that they carry, delete others, and write creds unless they are null: an import, all or nothing.
-- If it deletes or replaces anything, the company's whole state goes to the trash first. It is refused while a lease of the company lives.
CREATE OR REPLACE FUNCTION keystore_restore(
    company text, key_types text[], key_ids text[], key_values bytea[], created timestamptz[], updated timestamptz[],
    expiries timestamptz[], never_expires boolean[], gone_types text[], gone_ids text[], new_creds bytea, why text,
    clock timestamptz
) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    at_time timestamptz := coalesce(clock, statement_timestamp());
BEGIN
    PERFORM keystore_admit(company, NULL, NULL, NULL, clock);
    IF EXISTS (
        SELECT FROM unnest(gone_types, gone_ids) AS n (key_type, key_id)
        JOIN whatsapp_keys k ON k.company_id = company AND k.key_type = n.key_type AND k.key_id = n.key_id
    ) OR EXISTS (
        SELECT FROM unnest(key_types, key_ids, key_values) AS n (key_type, key_id, value)
        JOIN whatsapp_keys k ON k.company_id = company AND k.key_type = n.key_type AND k.key_id = n.key_id
        WHERE k.value <> n.value
    ) OR EXISTS (SELECT FROM whatsapp_auth a WHERE a.company_id = company AND a.creds <> new_creds) THEN
        PERFORM keystore_put_state_away(company, why, at_time);
    END IF;
    PERFORM keystore_delete_named(company, gone_types, gone_ids);
    INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, value_nonce, created_at, updated_at, expires_at)
    SELECT company, r.key_type, r.key_id, r.value, keystore_nonce_of(r.value), r.created_at, r.updated_at,
           CASE WHEN r.never THEN 'infinity' ELSE r.expires_at END
    FROM unnest(key_types, key_ids, key_values, created, updated, expiries, never_expires)
         AS r (key_type, key_id, value, created_at, updated_at, expires_at, never)
    ORDER BY r.key_type, r.key_id
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, value_nonce = excluded.value_nonce, created_at = excluded.created_at,
        updated_at = excluded.updated_at, expires_at = excluded.expires_at;
    PERFORM keystore_write_creds(company, new_creds, at_time);
END $$;

-- Erase all that is stored for a company, the trash and counts with it. Returns the number of rows by table. It is refused
-- while a lease of the company lives. The lease's row goes too, so epochs begin at 1 again.
CREATE OR REPLACE FUNCTION keystore_purge(company text, clock timestamptz) RETURNS TABLE (relation text, n bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM keystore_admit(company, NULL, NULL, NULL, clock);
    DELETE FROM whatsapp_keys k WHERE k.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT; relation := 'whatsapp_keys'; RETURN NEXT;
    DELETE FROM whatsapp_auth a WHERE a.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT; relation := 'whatsapp_auth'; RETURN NEXT;
    DELETE FROM keystore_trash t WHERE t.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT; relation := 'keystore_trash'; RETURN NEXT;
    DELETE FROM keystore_counters c WHERE c.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT; relation := 'keystore_counters'; RETURN NEXT;
    DELETE FROM keystore_company_leases l WHERE l.company_id = company;
    GET DIAGNOSTICS n = ROW_COUNT; relation := 'keystore_company_leases'; RETURN NEXT;
END $$;

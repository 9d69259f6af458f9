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

-- Refuse lists of types and ids of which one is too long, empty or missing. Returns true, so that a caller can assign it:
-- PL/pgSQL makes an assignment in a tenth of the time of a PERFORM.
CREATE OR REPLACE FUNCTION keystore_checked_names(key_types text[], key_ids text[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    name text;
BEGIN
    IF key_types IS NULL OR key_ids IS NULL OR cardinality(key_types) <> cardinality(key_ids) THEN
        RAISE EXCEPTION 'each key needs a type and an id' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH name IN ARRAY key_types || key_ids LOOP
        IF name IS NULL OR length(name) NOT BETWEEN 1 AND 255 THEN
            RAISE EXCEPTION 'a type and an id have 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- Refuse a list of stored values of which one is missing, empty or too long. (The first byte of each is its format.)
-- Returns the bytes of all.
CREATE OR REPLACE FUNCTION keystore_checked_values(stored bytea[], most integer) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    value bytea;
    bytes bigint := 0;
BEGIN
    IF stored IS NULL OR cardinality(stored) <> most THEN
        RAISE EXCEPTION 'each key needs a value' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH value IN ARRAY stored LOOP
        IF value IS NULL OR octet_length(value) NOT BETWEEN 2 AND 16777217 THEN
            RAISE EXCEPTION 'a value has 1 byte to 16 MiB' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        bytes := bytes + octet_length(value);
    END LOOP;
    RETURN bytes;
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
    PERFORM keystore_checked_names(key_types, key_ids);
    RETURN QUERY SELECT * FROM keystore_use(company, key_types, key_ids, NULL);
END $$;

-- A write of a bot (keystore_write), whose events the bot collects and reports later (keystore_bot_report).
--
-- To count a company's keys takes longer than a small write. So the quota is checked with one small write in fifty, the more
-- often the larger a write is, and always from 1,000 keys or 1 MiB on. A company can exceed it for a moment, by some megabytes.
CREATE OR REPLACE FUNCTION keystore_bot_write(
    company text, key_types text[], key_ids text[], key_values bytea[], gone_types text[], gone_ids text[],
    new_creds bytea, with_epoch bigint, with_seq bigint, known_seq bigint
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    own keystore_logins := keystore_own(company);
    valid boolean := keystore_checked_names(key_types, key_ids) AND keystore_checked_names(gone_types, gone_ids);
    bytes bigint := keystore_checked_values(key_values, cardinality(key_ids));
    events text[];
BEGIN
    IF new_creds IS NOT NULL THEN
        bytes := bytes + keystore_checked_values(ARRAY[new_creds], 1);
    END IF;
    IF random() < 0.02 + cardinality(key_ids) / 1000.0 + bytes / 1048576.0 THEN
        events := keystore_write(
            company, key_types, key_ids, key_values, gone_types, gone_ids, new_creds, with_epoch, with_seq,
            known_seq, own.most_keys, own.most_bytes, NULL);
    ELSE
        events := keystore_write(
            company, key_types, key_ids, key_values, gone_types, gone_ids, new_creds, with_epoch, with_seq,
            known_seq, NULL, NULL, NULL);
    END IF;
    IF cardinality(key_ids) >= keystore_burst_from() THEN
        FOR place IN 1 .. cardinality(events) BY 3 LOOP
            IF events[place] = 'created' AND events[place + 2]::bigint >= keystore_burst_from() THEN
                events := events || ARRAY['burst', events[place + 1], events[place + 2]];
            END IF;
        END LOOP;
    END IF;
    RETURN events;
END $$;

-- Writes of several companies of a login in one transaction (keystore_write_all).
CREATE OR REPLACE FUNCTION keystore_bot_write_all(
    companies text[], key_counts integer[], key_types text[], key_ids text[], key_values bytea[],
    gone_counts integer[], gone_types text[], gone_ids text[], new_creds bytea[], epochs bigint[], seqs bigint[],
    known_seqs bigint[]
) RETURNS TABLE (events text[], code text, message text, detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF cardinality(companies) > 200 THEN
        RAISE EXCEPTION 'at most 200 companies are written at once' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT * FROM keystore_write_all(
        true, companies, key_counts, key_types, key_ids, key_values, gone_counts, gone_types, gone_ids, new_creds, epochs, seqs,
        known_seqs, NULL, NULL, NULL, NULL, NULL);
END $$;

-- Write a note, in place of the former one of its name.
CREATE OR REPLACE FUNCTION keystore_remember(note_name text, note json) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keystore_notes AS n (name, document, updated_at) VALUES (note_name, note::text, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at;
END $$;

-- A bot's report on itself, once a minute: the events of its writes since the last one, in the form of keystore_write, and
-- its memory in bytes. A closed bot has none, and no report of it is missed from then on.
--
-- (The company isn't the first argument, because Citus would run the call beside the company's keys, and the notes and the
-- counts of all companies are elsewhere.)
CREATE OR REPLACE FUNCTION keystore_bot_report(
    events text[], company text, heap_used bigint, heap_total bigint, heap_limit bigint, rss bigint
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    IF events IS NULL OR cardinality(events) % 3 <> 0 OR cardinality(events) > 3000 THEN
        RAISE EXCEPTION 'at most 1000 events, each with a type and a number' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM keystore_count(company, events);
    IF heap_used IS NULL THEN
        DELETE FROM keystore_notes n WHERE n.name = 'memory/' || company;
        RETURN;
    END IF;
    IF NOT coalesce(heap_used >= 0 AND heap_total >= 0 AND heap_limit > 0 AND rss >= 0, false) THEN
        RAISE EXCEPTION 'the memory of a bot is four numbers of bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM keystore_remember(
        'memory/' || company,
        json_build_object('heap_used_bytes', heap_used, 'heap_total_bytes', heap_total,
                          'heap_limit_bytes', heap_limit, 'rss_bytes', rss));
END $$;

-- Add the events of a company's writes to the counts of this hour. Large bursts are counted for the company too.
CREATE OR REPLACE FUNCTION keystore_count(company text, events text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keystore_counters AS c (company_id, hour, key_type, event, n)
    SELECT CASE e.event WHEN 'burst' THEN company ELSE '' END, date_trunc('hour', clock_timestamp(), 'UTC'), e.key_type, e.event,
           sum(e.n)
    FROM (
        SELECT events[p] AS event, keystore_counted_as(events[p + 1]) AS key_type,
               least(greatest(events[p + 2]::bigint, 0), 1000000) AS n
        FROM generate_series(1, cardinality(events), 3) AS p
        WHERE events[p] IN ('created', 'renewed', 'deleted', 'cleared', 'burst')
    ) AS e
    WHERE e.n > 0 GROUP BY 1, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = c.n + excluded.n;
END $$;

-- True when the database lacks a write that was acknowledged to a bot. It leaves a note then, for the alert.
CREATE OR REPLACE FUNCTION keystore_bot_report_lost(known_epoch bigint, known_seq bigint, company text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    lease keystore_company_leases%ROWTYPE;
BEGIN
    PERFORM keystore_own(company);
    SELECT * INTO lease FROM keystore_company_leases l WHERE l.company_id = company;
    IF (coalesce(lease.epoch, 0), coalesce(lease.seq, 0)) >= (known_epoch, known_seq) THEN
        RETURN false;
    END IF;
    PERFORM keystore_remember(
        'went-back/' || company,
        json_build_object('stored', json_build_array(coalesce(lease.epoch, 0), coalesce(lease.seq, 0)),
                          'acknowledged', json_build_array(known_epoch, known_seq)));
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_clear(
    company text, keys_only boolean, with_epoch bigint, with_seq bigint, known_seq bigint
)
RETURNS TABLE (key_type text, n bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN QUERY SELECT * FROM keystore_clear(company, coalesce(keys_only, false), with_epoch, with_seq, known_seq, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_take_lease(company text, new_holder text, ttl_s double precision, force boolean)
RETURNS TABLE (holder text, epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company), keystore_checked_lease(new_holder, ttl_s);
    RETURN QUERY SELECT * FROM keystore_take_lease(company, new_holder, ttl_s, coalesce(force, false), NULL);
END $$;

-- Take the lease, and load what was stored before it, in one call. The first row has an empty type, and in the place of its id
-- the lease: its epoch, its number, its end in seconds since 1970, and its holder. The others are those of a load; there are
-- none while another holder has the lease.
CREATE OR REPLACE FUNCTION keystore_bot_open(company text, new_holder text, ttl_s double precision, force boolean)
RETURNS TABLE (key_type text, key_id text, value bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    lease record;
BEGIN
    PERFORM keystore_own(company), keystore_checked_lease(new_holder, ttl_s);
    SELECT * INTO lease FROM keystore_take_lease(company, new_holder, ttl_s, coalesce(force, false), NULL);
    key_type := '';
    key_id := concat_ws(' ', lease.epoch, lease.seq, extract(epoch FROM lease.expires_at), lease.holder);
    RETURN NEXT;
    IF lease.holder = new_holder THEN
        RETURN QUERY SELECT * FROM keystore_load(company);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_renew_lease(company text, of_holder text, with_epoch bigint, ttl_s double precision)
RETURNS TABLE (epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company), keystore_checked_lease(of_holder, ttl_s);
    RETURN QUERY SELECT * FROM keystore_renew_lease(company, of_holder, with_epoch, ttl_s, NULL);
END $$;

CREATE OR REPLACE FUNCTION keystore_bot_release_lease(company text, of_holder text, with_epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM keystore_own(company);
    RETURN keystore_release_lease(company, of_holder, with_epoch, NULL);
END $$;

-- Refuse a holder without a name or with a long one, and a lease that isn't longer than 0 and at most a day.
CREATE OR REPLACE FUNCTION keystore_checked_lease(holder text, ttl_s double precision) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF holder IS NULL OR length(holder) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'the name of a holder has 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF ttl_s IS NULL OR NOT (ttl_s > 0 AND ttl_s <= 86400) THEN
        RAISE EXCEPTION 'a lease lasts more than 0 and up to 86400 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN true;
END $$;

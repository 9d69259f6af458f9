-- The trash keeps the rows that a clear, an import, a restore, a repair or a new pairing deleted or replaced, for a while.
--
-- A sweep deletes for good, and so does a bot that deletes its own keys. Otherwise the keys that Baileys has used up would
-- fill the trash. All rows that one operation puts away get one time, `put_at`. No other operation on the company has it.

-- The seconds for which the trash keeps a row; 0 when it is off.
CREATE OR REPLACE FUNCTION keystore_trash_s() RETURNS double precision
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT s.value FROM keystore_settings s WHERE s.name = 'trash_s'), 2592000);
END $$;

-- The most bytes that a company's trash may take. The latest deletion stays, however large it is.
CREATE OR REPLACE FUNCTION keystore_most_trash_bytes() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 536870912;

-- The time under which an operation at `at_time` puts rows away. It is later than every time in the company's trash, and null
-- when the trash is off. Operations on one company wait for each other here.
CREATE OR REPLACE FUNCTION keystore_put_at(company text, at_time timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
BEGIN
    IF keystore_trash_s() <= 0 THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('keystore_trash ' || company, 0));
    RETURN greatest(at_time, (
        SELECT max(t.trashed_at) + interval '1 microsecond' FROM keystore_trash t WHERE t.company_id = company
    ));
END $$;

-- Remove the oldest deletions from a company's trash while it takes too many bytes. (A row takes some 200 besides its value.)
CREATE OR REPLACE FUNCTION keystore_limit_trash(company text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    too_old timestamptz := (
        SELECT max(p.trashed_at) FROM (
            SELECT t.trashed_at, row_number() OVER newest AS place,
                   sum(sum(octet_length(t.value) + 200)) OVER newest AS bytes
            FROM keystore_trash t WHERE t.company_id = company GROUP BY t.trashed_at
            WINDOW newest AS (ORDER BY t.trashed_at DESC)
        ) AS p
        WHERE p.bytes > keystore_most_trash_bytes() AND p.place > 1
    );
BEGIN
    DELETE FROM keystore_trash t WHERE t.company_id = company AND t.trashed_at <= too_old;
END $$;

-- Put a copy of a company's creds away, unless `put_at` is null.
CREATE OR REPLACE FUNCTION keystore_put_creds_away(company text, put_at timestamptz, why text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keystore_trash (company_id, trashed_at, key_type, key_id, reason, value, created_at, updated_at)
    SELECT company, put_at, '', '', why, keystore_shown(a.creds, a.creds_nonce), a.created_at, a.updated_at
    FROM whatsapp_auth a WHERE a.company_id = company AND put_at IS NOT NULL;
END $$;

-- Put a copy of a company's creds and all its keys away.
CREATE OR REPLACE FUNCTION keystore_put_state_away(company text, why text, at_time timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    put_at timestamptz := keystore_put_at(company, at_time);
BEGIN
    IF put_at IS NOT NULL THEN
        PERFORM keystore_put_creds_away(company, put_at, why);
        INSERT INTO keystore_trash
        SELECT company, put_at, k.key_type, k.key_id, why, keystore_shown(k.value, k.value_nonce), k.created_at, k.updated_at,
               k.expires_at
        FROM whatsapp_keys k WHERE k.company_id = company;
        PERFORM keystore_limit_trash(company);
    END IF;
END $$;

-- The identity in a company's creds: the public noise key, the registration id, and the account. A missing part is null. If
-- the creds can't be read, all parts are null. (The first byte of the creds is their format.)
CREATE OR REPLACE FUNCTION keystore_identity(stored bytea) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    creds json;
BEGIN
    IF get_byte(stored, 0) <> 0 THEN
        RETURN '{NULL,NULL,NULL}';
    END IF;
    creds := convert_from(substr(stored, 2), 'UTF8')::json;
    RETURN ARRAY[creds #>> '{noiseKey,public,data}', creds ->> 'registrationId', creds #>> '{me,id}'];
EXCEPTION WHEN data_exception OR character_not_in_repertoire OR untranslatable_character THEN
    RETURN '{NULL,NULL,NULL}';
END $$;

-- True when creds are replaced by those of another identity. A part that was unknown
-- until now doesn't make another identity. Who seals creds compares them before (sealing.sql), since they can't be read here.
CREATE OR REPLACE FUNCTION keystore_other_identity(old_creds bytea, new_creds bytea) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(current_setting('keystore.other_identity', true) = 'yes', false) OR EXISTS (
        SELECT FROM unnest(keystore_identity(old_creds), keystore_identity(new_creds)) AS part (before, after)
        WHERE part.before <> part.after
    );
END $$;

-- A write of creds calls this before it writes. If the new creds are of another identity, the whole state is put away. Else
-- the former creds are put away if they were written on an earlier day, so the trash gets one version a day.
CREATE OR REPLACE FUNCTION keystore_put_former_away(company text, new_creds bytea, at_time timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    former record;
BEGIN
    SELECT a.creds, a.updated_at INTO former FROM whatsapp_auth a WHERE a.company_id = company;
    IF NOT FOUND OR former.creds = new_creds THEN
        RETURN;
    END IF;
    IF keystore_other_identity(former.creds, new_creds) THEN
        PERFORM keystore_put_state_away(company, 'other identity', at_time);
    ELSIF former.updated_at < date_trunc('day', at_time, 'UTC') THEN
        PERFORM keystore_put_creds_away(company, keystore_put_at(company, at_time), 'creds of a day');
        PERFORM keystore_limit_trash(company);
    END IF;
END $$;

-- A repair moves a key to another name. If a key has that name already and was written before the time `than`, put it away
-- and delete it. The column of values may be `jsonb` here, because a repair also runs on a legacy database.
CREATE OR REPLACE FUNCTION keystore_drop_older(company text, of_type text, of_id text, than timestamptz, clock timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    put_at timestamptz := keystore_put_at(company, coalesce(clock, statement_timestamp()));
BEGIN
    INSERT INTO keystore_trash
    SELECT company, put_at, k.key_type, k.key_id, 'repair',
           CASE WHEN pg_typeof(k.value) = 'bytea'::regtype THEN k.value::text::bytea
                ELSE decode('00', 'hex') || convert_to(k.value::text, 'UTF8') END,
           k.created_at, k.updated_at, k.expires_at
    FROM whatsapp_keys k
    WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = of_id AND k.updated_at < than
      AND put_at IS NOT NULL;
    PERFORM keystore_limit_trash(company);
    DELETE FROM whatsapp_keys k
    WHERE k.company_id = company AND k.key_type = of_type AND k.key_id = of_id AND k.updated_at < than;
END $$;

-- Delete the rows that the trash has kept long enough. Delete rows of that age too that were set aside when the spellings of
-- a company's id were joined. Returns the number of rows.
CREATE OR REPLACE FUNCTION keystore_empty_trash(clock timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    upto timestamptz := coalesce(clock, statement_timestamp()) - keystore_trash_s() * interval '1 second';
    trashed bigint;
    displaced bigint;
BEGIN
    DELETE FROM keystore_trash t WHERE t.trashed_at <= upto;
    GET DIAGNOSTICS trashed = ROW_COUNT;
    DELETE FROM keystore_displaced d WHERE d.displaced_at <= upto;
    GET DIAGNOSTICS displaced = ROW_COUNT;
    RETURN trashed + displaced;
END $$;

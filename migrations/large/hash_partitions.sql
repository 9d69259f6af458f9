-- For large installations only, never run by `migrate`: turns whatsapp_keys into hash partitions by company_id.
-- docs/scaling.md has the reasons and measurements. Stop the bots, and run it as the tables' owner:
--   PGOPTIONS='-c keystore.partitions=16' psql -v ON_ERROR_STOP=1 -f migrations/large/hash_partitions.sql service=keystore
-- It is one transaction, and changes nothing when the table is partitioned already.
-- It copies the table, each company's keys together, so there must be disk space for a second copy.

BEGIN;

-- A bot's open transaction holds the table. Give up instead of queueing, which would stall every other bot.
SET LOCAL lock_timeout = '5s';

-- Copying a large table takes longer than the server's timeout for everyday statements may allow.
SET LOCAL statement_timeout = '2h';

DO $$
DECLARE
    partitions CONSTANT int := coalesce(nullif(current_setting('keystore.partitions', true), ''), '16')::int;
    whole regclass := to_regclass('whatsapp_keys');
    old pg_class%ROWTYPE;
    storage text;
    names text[];
    definitions text[];
    definition text;
    name text;
    granted record;
    relation regclass;
BEGIN
    SELECT * INTO old FROM pg_class WHERE oid = whole;
    IF old.relkind = 'p' THEN
        RETURN;
    ELSIF old.relkind IS DISTINCT FROM 'r' OR partitions NOT BETWEEN 2 AND 1000 THEN
        RAISE EXCEPTION 'there is no table whatsapp_keys here, or keystore.partitions is not from 2 to 1000';
    END IF;
    LOCK TABLE whatsapp_keys IN ACCESS EXCLUSIVE MODE;
    PERFORM set_config('search_path', quote_ident(old.relnamespace::regnamespace::text), true);
    IF (SELECT atttypid <> 'bytea'::regtype FROM pg_attribute WHERE attrelid = whole AND attname = 'value') THEN
        RAISE EXCEPTION 'whatsapp_keys still has a bot''s jsonb values: run `python run.py migrate` first';
    END IF;
    -- The owner must remove and restore objects on the table that aren't ours, because we can't know their meaning.
    IF EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = whole)
       OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = whole)
       OR EXISTS (SELECT 1 FROM pg_publication_rel WHERE prrelid = whole)
       OR EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = whole OR inhrelid = whole) THEN
        RAISE EXCEPTION 'whatsapp_keys has policies, triggers, foreign keys, publications or heirs: drop them, and make them again afterwards';
    END IF;
    -- The catalog's definitions recreate the same constraints under the same names; one not validated stays so.
    SELECT array_agg(format('ALTER TABLE whatsapp_keys ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) ORDER BY conname)
    INTO definitions FROM pg_constraint WHERE conrelid = whole AND contype IN ('p', 'u', 'c');
    SELECT definitions || array_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) INTO definitions
    FROM pg_index i WHERE i.indrelid = whole
      AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conrelid = whole AND c.conindid = i.indexrelid);
    storage := coalesce('WITH (' || array_to_string(old.reloptions, ', ') || ')', '');

    ALTER TABLE whatsapp_keys RENAME TO whatsapp_keys_whole;
    CREATE TABLE whatsapp_keys (LIKE whatsapp_keys_whole INCLUDING ALL EXCLUDING CONSTRAINTS EXCLUDING INDEXES)
        PARTITION BY HASH (company_id);
    FOR remainder IN 0 .. partitions - 1 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF whatsapp_keys FOR VALUES WITH (MODULUS %s, REMAINDER %s) %s',
                       'whatsapp_keys_' || lpad(remainder::text, 3, '0'), partitions, remainder, storage);
    END LOOP;
    INSERT INTO whatsapp_keys SELECT * FROM whatsapp_keys_whole ORDER BY company_id, key_type, key_id;

    -- The database's defaults may grant a new table to every role (Supabase's do). Only the owner gets rights on the
    -- partitions: other roles reach them through the table.
    FOR relation IN SELECT relid FROM pg_partition_tree('whatsapp_keys') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', relation, pg_get_userbyid(old.relowner));
        FOR granted IN
            SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl) WHERE oid = relation AND grantee <> old.relowner
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', relation,
                           CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END);
        END LOOP;
        IF old.relrowsecurity THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
        END IF;
        IF old.relforcerowsecurity THEN
            EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
        END IF;
    END LOOP;
    FOR granted IN SELECT * FROM aclexplode(old.relacl) AS acl WHERE acl.grantee <> old.relowner LOOP
        EXECUTE format('GRANT %s ON whatsapp_keys TO %s %s', granted.privilege_type,
                       CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END,
                       CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END);
    END LOOP;

    -- When one of the operator's views reads the table, this fails, and with it the transaction.
    DROP TABLE whatsapp_keys_whole;
    FOREACH definition IN ARRAY definitions LOOP
        EXECUTE definition;
    END LOOP;
END $$;

-- Autovacuum analyzes each partition, but never the table as a whole.
ANALYZE whatsapp_keys;

COMMIT;

-- Making and ending the logins of bots. Only the owner of the tables may call these; CREATE ROLE needs CREATEROLE too.

-- Let a login call the functions of a bot, and nothing else.
CREATE OR REPLACE FUNCTION keystore_open_to_login(login text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    own_schema text := current_schema();
    called regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', own_schema, login);
    FOR called IN
        SELECT p.oid FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
        WHERE s.nspname = own_schema AND p.proname LIKE 'keystore\_bot\_%'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', called, login);
    END LOOP;
END $$;

-- True when any role may make functions in the tables' schema. A bot could then make one that the owner's functions call.
CREATE OR REPLACE FUNCTION keystore_schema_is_open() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_namespace s, aclexplode(coalesce(s.nspacl, acldefault('n', s.nspowner))) AS a
        WHERE s.nspname = current_schema() AND a.grantee = 0 AND a.privilege_type = 'CREATE');
END $$;

-- Give a login to the bot of a company, unless its values are sealed: the bot has no key to open them. Makes the role if
-- `verifier`, the SCRAM form of its password, isn't null.
CREATE OR REPLACE FUNCTION keystore_add_login(new_login text, verifier text, company text, most_keys bigint, most_bytes bigint)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF keystore_schema_is_open() THEN
        RAISE EXCEPTION 'any role may make functions in the schema %', current_schema()
            USING ERRCODE = 'KS004', DETAIL = json_build_object('schema', current_schema());
    END IF;
    IF EXISTS (SELECT FROM keystore_data_keys d WHERE d.company_id = company) THEN
        RAISE EXCEPTION 'the values of % are sealed', company
            USING ERRCODE = 'KS006', DETAIL = json_build_object('company', company);
    END IF;
    IF verifier IS NOT NULL THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT CONNECTION LIMIT 20 PASSWORD %L', new_login, verifier);
    END IF;
    INSERT INTO keystore_logins (login, company_id, most_keys, most_bytes)
    VALUES (new_login, company, most_keys, most_bytes)
    ON CONFLICT ON CONSTRAINT keystore_logins_pkey
    DO UPDATE SET most_keys = excluded.most_keys, most_bytes = excluded.most_bytes;
    PERFORM keystore_open_to_login(new_login);
END $$;

-- Take a login's companies and its rights away, and drop its role if this role may. Returns what became of the role:
-- 'dropped', 'kept' or 'absent'; null when it was no login of a bot. Its connections can do nothing from now on.
CREATE OR REPLACE FUNCTION keystore_end_login(old_login text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    called regprocedure;
BEGIN
    DELETE FROM keystore_logins l WHERE l.login = old_login;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = old_login) THEN
        RETURN 'absent';
    END IF;
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %I', current_schema(), old_login);
    FOR called IN
        SELECT p.oid FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
        WHERE s.nspname = current_schema() AND p.proname LIKE 'keystore\_bot\_%'
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', called, old_login);
    END LOOP;
    BEGIN
        EXECUTE format('DROP ROLE %I', old_login);
    EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist OR object_in_use THEN
        RETURN 'kept';
    END;
    RETURN 'dropped';
END $$;

-- The logins that exist may call the functions of this version too. (Not from pg_roles: in a statement that reads one of its
-- tables too, Citus lets only a superuser read it.)
DO $$
DECLARE
    existing text;
BEGIN
    FOR existing IN SELECT DISTINCT l.login FROM keystore_logins l WHERE to_regrole(quote_ident(l.login)) IS NOT NULL LOOP
        PERFORM keystore_open_to_login(existing);
    END LOOP;
END $$;

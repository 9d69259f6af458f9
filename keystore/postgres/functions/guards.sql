-- The guards, which keep a sweep from keys that a bot still needs although they are past their expiry:
-- * App state (app-state-sync-key, app-state-sync-version) is never deleted.
-- * A group that has a sender-key-memory is deleted as a whole or not at all.
-- * The newest 1,000 pre-keys of a company are never deleted: WhatsApp's server may hand out any of them.
-- * The rows of lid-mapping that name one LID, forward and reverse, are deleted together or not at all. They stay while a
--   session or a tctoken of one of the two addresses stays: Baileys writes a reverse row only once.
-- * An identity-key and a device-list stay while a session of their user stays, under either of the user's addresses.

-- The guard that a type of key has; null for a type without one.
CREATE OR REPLACE FUNCTION keystore_guard(key_type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN key_type IN ('app-state-sync-key', 'app-state-sync-version') THEN 'always'
    WHEN key_type IN ('sender-key', 'sender-key-memory') THEN 'group'
    WHEN key_type = 'pre-key' THEN 'newest'
    WHEN key_type = 'lid-mapping' THEN 'pair'
    WHEN key_type IN ('identity-key', 'device-list') THEN 'contact'
END;

-- The number of a company's newest pre-keys that stay. Baileys uploads 812 when it pairs, and adds five at a time.
CREATE OR REPLACE FUNCTION keystore_pre_keys_kept() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1000;

-- The group to which a sender key or a sender-key-memory belongs; null for other types.
CREATE OR REPLACE FUNCTION keystore_group(key_type text, key_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN key_type = 'sender-key' THEN split_part(key_id, '::', 1) WHEN key_type = 'sender-key-memory' THEN key_id END;

-- The user of an address: `4915` in 4915.0, 4915_1.3, 4915@s.whatsapp.net, 4915_reverse and 4915".
CREATE OR REPLACE FUNCTION keystore_user(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN split_part(translate(address, '_:@"', '....'), '.', 1);

-- The user that a row of lid-mapping names in its value, a JSON string; null for a value that can't be read, as a sealed one.
-- `value` is the text of the column: of bytes in hexadecimal digits after \x, or of JSON in a legacy database. (`_` stands for
-- the backslash, which Citus sends on as it is to a session that may read it as an escape.)
CREATE OR REPLACE FUNCTION keystore_mapped(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN value LIKE '_x0022%22' THEN keystore_user(encode(decode(substr(value, 7, 200), 'hex'), 'escape'))
    WHEN value LIKE '"%"' THEN keystore_user(substr(value, 2))
END;

-- The LID of a row of lid-mapping; null if its value can't be read. Forward rows have the LID as their value, reverse rows
-- in their id.
CREATE OR REPLACE FUNCTION keystore_lid(key_id text, mapped text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN mapped IS NULL THEN NULL WHEN key_id LIKE '%\_reverse' THEN keystore_user(key_id) ELSE mapped END;

-- The unit with which a key stays or goes: its group, its LID or its user; null for a key without one.
CREATE OR REPLACE FUNCTION keystore_unit(key_type text, key_id text, mapped text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN key_type IN ('sender-key', 'sender-key-memory') THEN keystore_group(key_type, key_id)
    WHEN key_type = 'lid-mapping' THEN keystore_lid(key_id, mapped)
    WHEN key_type IN ('identity-key', 'device-list') THEN keystore_user(key_id)
END;

-- The ids of a company's pre-keys that aren't among the newest ones. Most companies have too few to look further. On a legacy database (`attached`) a trigger sets
-- updated_at when a backfill fills a row. So there the pre-keys that were created last are kept as well.
CREATE OR REPLACE FUNCTION keystore_older_pre_keys(company text, attached boolean) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
    SELECT n.key_id FROM (
        SELECT k.key_id::text,
               row_number() OVER (ORDER BY k.updated_at DESC, length(k.key_id) DESC, k.key_id DESC) AS written,
               row_number() OVER (ORDER BY k.created_at DESC, length(k.key_id) DESC, k.key_id DESC) AS created
        FROM whatsapp_keys k
        WHERE k.company_id = company AND k.key_type = 'pre-key' AND EXISTS (
            SELECT FROM whatsapp_keys m WHERE m.company_id = company AND m.key_type = 'pre-key'
            OFFSET keystore_pre_keys_kept()
        )
    ) AS n
    WHERE n.written > keystore_pre_keys_kept() AND (n.created > keystore_pre_keys_kept() OR NOT attached)
$$;

-- The units of some companies that stay, some of them several times, each with the guards for which it counts: a user with a
-- session stays as a contact and in a pair, a user with only a tctoken in a pair. `locked_types` and `locked_ids` are the due
-- keys that the caller has locked, of one company: each other key stays. Without them each due key goes.
CREATE OR REPLACE FUNCTION keystore_staying(
    companies text[], at_time timestamptz, waiting text[], attached boolean, locked_types text[], locked_ids text[]
) RETURNS TABLE (company_id text, guards text, unit text) LANGUAGE sql STABLE AS $$
    WITH related AS (
        SELECT k.company_id, k.key_type, k.key_id,
               CASE WHEN k.key_type = 'lid-mapping' THEN keystore_mapped(k.value::text) END AS mapped,
               CASE WHEN locked_types IS NULL
                    THEN keystore_due(k.key_type, k.expires_at, k.updated_at, at_time, waiting, attached)
                    ELSE (k.key_type, k.key_id) IN (SELECT * FROM unnest(locked_types, locked_ids)) END AS goes
        FROM whatsapp_keys k
        WHERE k.company_id = ANY (companies)
          AND k.key_type IN ('sender-key', 'sender-key-memory', 'lid-mapping', 'session', 'tctoken')
    ), pairs AS (
        SELECT r.company_id, keystore_lid(r.key_id, r.mapped) AS lid, r.goes,
               CASE WHEN r.key_id LIKE '%\_reverse' THEN r.mapped ELSE r.key_id END AS number
        FROM related r WHERE r.mapped IS NOT NULL
    ), users AS (
        SELECT r.company_id, CASE WHEN r.key_type = 'session' THEN 'contact pair' ELSE 'pair' END AS guards,
               keystore_user(r.key_id) AS user_id
        FROM related r WHERE r.key_type IN ('session', 'tctoken') AND NOT r.goes
    )
    SELECT r.company_id, 'group', keystore_group(r.key_type, r.key_id)
    FROM related r WHERE r.key_type IN ('sender-key', 'sender-key-memory')
    GROUP BY 1, 3 HAVING bool_or(r.key_type = 'sender-key-memory') AND NOT bool_and(r.goes)
    UNION ALL
    SELECT * FROM users
    UNION ALL
    SELECT p.company_id, u.guards, p.lid
    FROM pairs p JOIN users u ON u.company_id = p.company_id AND u.user_id = p.number
    UNION ALL
    SELECT p.company_id, u.guards, p.number
    FROM pairs p JOIN users u ON u.company_id = p.company_id AND u.user_id = p.lid
    UNION ALL
    SELECT p.company_id, 'pair', p.lid FROM pairs p WHERE NOT p.goes
$$;

-- The statements of keystore/postgres/queries.py. %(now)s is the time of the store's own clock, or null for the database's.
-- Lists are sent in binary form (%b): psycopg encodes 250 bytea values as text in 1.1 ms, and as binary in 0.04.

-- name: get
SELECT * FROM keystore_get(%(company_id)s, %(key_type)s, %(key_ids)b::text[], %(now)s)

-- name: touch
SELECT * FROM keystore_use(%(company_id)s, %(key_types)b::text[], %(key_ids)b::text[], %(now)s)

-- name: set
SELECT keystore_write(
    %(company_id)s, %(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[], %(gone_types)b::text[],
    %(gone_ids)b::text[], %(creds)s::bytea, %(epoch)s, %(seq)s, %(known_seq)s, %(most_keys)s, %(most_bytes)s, %(now)s)

-- name: set_sealed
SELECT keystore_sealed_write(
    %(company_id)s, %(data_key)s::bytea, %(other_identity)s, %(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[],
    %(gone_types)b::text[], %(gone_ids)b::text[], %(creds)s::bytea, %(epoch)s, %(seq)s, %(known_seq)s, %(most_keys)s,
    %(most_bytes)s, %(now)s)

-- name: set_all
SELECT events, code, message, detail FROM keystore_write_all(
    false, %(company_ids)b::text[], %(key_counts)s::integer[], %(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[],
    %(gone_counts)s::integer[], %(gone_types)b::text[], %(gone_ids)b::text[], %(creds)s::bytea[], %(epochs)s::bigint[],
    %(seqs)s::bigint[], %(known_seqs)s::bigint[], %(most_keys)s::bigint[], %(most_bytes)s::bigint[], %(data_keys)s::bytea[],
    %(other_identities)s::boolean[], %(now)s)

-- name: load
SELECT * FROM keystore_load(%(company_id)s)

-- name: get_creds
SELECT keystore_creds(%(company_id)s)

-- name: clear
SELECT * FROM keystore_clear(%(company_id)s, %(keys_only)s, %(epoch)s, %(seq)s, %(known_seq)s, %(now)s)

-- name: lease_company
SELECT * FROM keystore_take_lease(%(company_id)s, %(holder)s, %(ttl_s)s, %(force)s, %(now)s)

-- name: renew_company
SELECT * FROM keystore_renew_lease(%(company_id)s, %(holder)s, %(epoch)s, %(ttl_s)s, %(now)s)

-- name: release_company
SELECT keystore_release_lease(%(company_id)s, %(holder)s, %(epoch)s, %(now)s)

-- name: last_write
SELECT epoch, seq FROM keystore_company_leases WHERE company_id = %(company_id)s

-- name: policy
SELECT key_type, matches, ttl_s, lengthened_at FROM keystore_policy ORDER BY place

-- name: any_key
SELECT 1 FROM whatsapp_keys LIMIT 1

-- name: forget_policy
DELETE FROM keystore_policy

-- name: add_lifetime
INSERT INTO keystore_policy (place, key_type, matches, ttl_s, step_s)
VALUES (%(place)s, %(key_type)s, %(matches)s, %(ttl_s)s, %(step_s)s)

-- name: set_lengthened
UPDATE keystore_policy
SET lengthened_at = (
    SELECT CASE WHEN %(longer)s THEN coalesce(%(now)s::timestamptz, statement_timestamp()) ELSE %(lengthened_at)s::timestamptz END
)
WHERE place = %(place)s

-- name: durable
SELECT current_setting('synchronous_commit') <> 'off'

-- name: now
SELECT statement_timestamp()

-- The next two are two statements each. They write no row, but need all that a write needs: a primary key to conflict
-- with, the privileges, and a transaction that may write.
-- name: probe_keys
DELETE FROM whatsapp_keys WHERE false;
INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT '', '', '', ''::bytea, now(), now(), now() WHERE false
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at

-- name: probe_creds
DELETE FROM whatsapp_auth WHERE false;
INSERT INTO whatsapp_auth AS a (company_id, creds, created_at, updated_at)
SELECT '', ''::bytea, now(), now() WHERE false
ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at

-- Columns that a write leaves empty and that must not be.
-- name: columns_in_the_way
SELECT attrelid::regclass::text, attname FROM pg_attribute
WHERE attrelid IN ('whatsapp_keys'::regclass, 'whatsapp_auth'::regclass) AND attnum > 0 AND NOT attisdropped
  AND attnotnull AND NOT atthasdef AND attidentity = ''
  AND attname NOT IN ('company_id', 'key_type', 'key_id', 'value', 'creds', 'created_at', 'updated_at', 'expires_at')
ORDER BY 1, attnum

-- name: schema
SELECT to_regclass('whatsapp_keys') IS NOT NULL, to_regclass('whatsapp_auth') IS NOT NULL,
       to_regclass('_yoyo_migration') IS NOT NULL,
       coalesce((SELECT format_type(atttypid, NULL) FROM pg_attribute
                 WHERE attrelid = to_regclass('whatsapp_keys') AND attname = 'value'), ''),
       to_regclass('whatsapp_keys') IS NOT NULL AND row_security_active(to_regclass('whatsapp_keys')::oid)
           AND NOT EXISTS (SELECT FROM pg_policy p
                           WHERE p.polrelid = to_regclass('whatsapp_keys') AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                             AND (SELECT oid FROM pg_roles WHERE rolname = current_user) = ANY (p.polroles)),
       coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid = coalesce(to_regclass('whatsapp_keys'), to_regclass('whatsapp_auth'))), ''),
       coalesce(current_schema(), ''),
       coalesce((SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p
                 JOIN pg_class c ON c.relnamespace = p.pronamespace AND c.oid = to_regclass('whatsapp_keys')
                 WHERE p.proname = 'keystore_rounded_expiry'), '')

-- Makes the functions find the tables in this schema alone.
-- name: pin_schema
SELECT set_config('search_path', quote_ident(%(schema)s) || ', pg_temp', true),
       set_config('keystore.functions', %(hash)s, true),
       set_config('keystore.function_names', %(names)s, true)

-- The GRANT that this role lacks to make tables in the schema that it would make them in.
-- name: grant_needed
SELECT format('GRANT USAGE, CREATE ON SCHEMA %%I TO %%I', name, current_user)
FROM (SELECT coalesce(current_schema(), 'public') AS name) AS schema
WHERE NOT has_schema_privilege(name, 'USAGE') OR NOT has_schema_privilege(name, 'CREATE')

-- The tables in the database but for those of extensions, for a message that it isn't ours.
-- name: tables
SELECT count(*), min(c.relname::text) FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  AND NOT EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')

-- name: applied_migrations
SELECT migration_id FROM _yoyo_migration

-- name: migration_lock
SELECT pg_advisory_xact_lock(8317047285)

-- The next statements count the companies after %(after)s up to %(upto)s, and null is no limit. (The planner knows the
-- values, so that without limits it plans as if there were no condition.) See keystore/sql/portions.py.

-- name: census
SELECT * FROM keystore_census(%(after)s, %(upto)s, %(guard)s, %(attached)s, %(now)s)

-- name: count_companies
SELECT count(*) FROM (
    SELECT company_id FROM whatsapp_keys k WHERE (%(after)s::text IS NULL OR k.company_id > %(after)s) AND (%(upto)s::text IS NULL OR k.company_id <= %(upto)s)
    UNION SELECT company_id FROM whatsapp_auth a WHERE (%(after)s::text IS NULL OR a.company_id > %(after)s) AND (%(upto)s::text IS NULL OR a.company_id <= %(upto)s)
) AS companies

-- name: census_totals
SELECT coalesce(%(now)s::timestamptz, statement_timestamp()),
       (SELECT max(updated_at) FROM whatsapp_auth),
       (SELECT coalesce(sum(n), 0)::bigint FROM keystore_counters
        WHERE event = 'rewritten' AND hour > coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '168 hours'),
       keystore_size()

-- The server's limit for a statement in ms; 0 for none.
-- name: statement_timeout
SELECT extract(epoch FROM current_setting('statement_timeout')::interval) * 1000

-- The keys of each company among the next %(limit)s keys after a company. The last one may be incomplete.
-- name: company_sizes
SELECT company_id, count(*) FROM (
    SELECT company_id FROM whatsapp_keys WHERE %(after)s::text IS NULL OR company_id > %(after)s
    ORDER BY company_id LIMIT %(limit)s
) AS keys
GROUP BY company_id ORDER BY company_id

-- name: company_size
SELECT count(*) FROM whatsapp_keys WHERE company_id = %(company_id)s

-- name: companies
SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth ORDER BY 1

-- True in a database that migrations/large/citus.sql has distributed.
-- name: distributed
SELECT coalesce(obj_description('whatsapp_keys'::regclass, 'pg_class'), '') = 'Distributed by Citus'

-- Skips from one id to the next in the index. (With 1,000 companies and 700,000 keys a page takes 30 ms; reading the
-- whole index for the ids takes 290.)
-- name: company_page
WITH RECURSIVE keyed AS (
    (SELECT company_id FROM whatsapp_keys ORDER BY company_id LIMIT 1)
    UNION ALL
    SELECT (SELECT k.company_id FROM whatsapp_keys k WHERE k.company_id > keyed.company_id ORDER BY k.company_id LIMIT 1)
    FROM keyed WHERE keyed.company_id IS NOT NULL
), found AS (
    SELECT company_id FROM (
        SELECT company_id FROM keyed WHERE company_id IS NOT NULL UNION SELECT company_id FROM whatsapp_auth
    ) AS every
    WHERE strpos(company_id, %(search)s) > 0
), page AS (
    SELECT company_id FROM found ORDER BY company_id COLLATE "C" LIMIT %(limit)s OFFSET %(offset)s
)
SELECT total.companies, page.company_id, k.keys, greatest(k.updated_at, a.updated_at), l.holder, l.epoch, l.expires_at
FROM (SELECT count(*) AS companies FROM found) AS total
LEFT JOIN page ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS keys, max(updated_at) AS updated_at FROM whatsapp_keys WHERE company_id = page.company_id
) AS k ON true
LEFT JOIN whatsapp_auth a ON a.company_id = page.company_id
LEFT JOIN keystore_company_leases l ON l.company_id = page.company_id
    AND keystore_lease_is_live(l.expires_at, coalesce(%(now)s::timestamptz, statement_timestamp()))
ORDER BY page.company_id COLLATE "C"

-- name: company_page_ranked
WITH counted AS (
    SELECT company_id, count(*) AS keys, max(updated_at) AS updated_at
    FROM whatsapp_keys WHERE strpos(company_id, %(search)s) > 0 GROUP BY company_id
), every AS (
    SELECT company_id, coalesce(k.keys, 0) AS keys, greatest(k.updated_at, a.updated_at) AS active_at
    FROM counted AS k
    FULL JOIN (SELECT company_id, updated_at FROM whatsapp_auth WHERE strpos(company_id, %(search)s) > 0) AS a
        USING (company_id)
), ranked AS (
    SELECT company_id, keys, active_at, row_number() OVER (ORDER BY
        CASE %(order)s::text WHEN 'keys' THEN keys END DESC NULLS LAST,
        CASE %(order)s::text WHEN 'latest' THEN active_at END DESC NULLS LAST,
        CASE %(order)s::text WHEN 'oldest' THEN active_at END NULLS LAST,
        company_id COLLATE "C"
    ) AS rank
    FROM every
), page AS (
    SELECT * FROM ranked ORDER BY rank LIMIT %(limit)s OFFSET %(offset)s
)
SELECT total.companies, page.company_id, page.keys, page.active_at, l.holder, l.epoch, l.expires_at
FROM (SELECT count(*) AS companies FROM every) AS total
LEFT JOIN page ON true
LEFT JOIN keystore_company_leases l ON l.company_id = page.company_id
    AND keystore_lease_is_live(l.expires_at, coalesce(%(now)s::timestamptz, statement_timestamp()))
ORDER BY page.rank

-- name: company_bytes
SELECT coalesce(sum(octet_length(value)), 0)::bigint FROM whatsapp_keys WHERE company_id = %(company_id)s

-- name: largest_company
SELECT k.company_id FROM whatsapp_keys k
WHERE k.company_id IN (
    SELECT company_id FROM whatsapp_keys GROUP BY company_id ORDER BY count(*) DESC, company_id LIMIT 10
)
GROUP BY k.company_id
HAVING count(*) <= %(most_keys)s AND sum(octet_length(k.value)) <= %(most_bytes)s
ORDER BY count(*) DESC, k.company_id LIMIT 1

-- A lease that ends much later than the asked time from now is free as well: it was made before the clock was set back.
-- Its holder, if it lives, renews it soon. (clock_timestamp, because the statement may have waited for the holder's.)
-- name: acquire_lease
INSERT INTO keystore_leases AS l (name, holder, epoch, expires_at)
SELECT %(name)s, %(holder)s, 1, clock.now + %(ttl_s)s * interval '1 second'
FROM (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now) AS clock
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
   OR l.expires_at > coalesce(%(now)s::timestamptz, clock_timestamp()) + (%(ttl_s)s + 30) * interval '1 second'
RETURNING epoch, expires_at

-- name: release_lease
UPDATE keystore_leases SET expires_at = coalesce(%(now)s::timestamptz, statement_timestamp())
WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s

-- Adding the same token again does nothing, so that the call can be repeated when its answer got lost.
-- name: add_token
INSERT INTO keystore_tokens AS t
    (token_id, secret_hash, company_id, created_at, expires_at, revoked_at, further_companies)
VALUES (
    %(token_id)s, %(secret_hash)s, %(company_id)s, %(created_at)s, %(expires_at)s, %(revoked_at)s,
    nullif(%(further_companies)s::text[], '{}')
)
ON CONFLICT (token_id) DO UPDATE SET token_id = excluded.token_id WHERE t.secret_hash = excluded.secret_hash
RETURNING 1

-- name: tokens
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at, further_companies
FROM keystore_tokens ORDER BY created_at, token_id

-- name: find_token
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at, further_companies
FROM keystore_tokens WHERE token_id = %(token_id)s

-- name: revoke_token
UPDATE keystore_tokens
SET revoked_at = coalesce(revoked_at, %(now)s::timestamptz, statement_timestamp()) WHERE token_id = %(token_id)s
RETURNING 1

-- name: start_sweep
INSERT INTO keystore_sweeps (sweeper, started_at)
VALUES (%(sweeper)s, coalesce(%(now)s::timestamptz, statement_timestamp()))
RETURNING run_id, started_at

-- Reads the index on expiry, as keystore_past can't.
-- name: due_companies
SELECT company_id, count(*) FROM whatsapp_keys
WHERE expires_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
GROUP BY company_id ORDER BY company_id

-- name: due_sessions
SELECT * FROM keystore_due_sessions(%(attached)s, %(now)s)

-- One batch, with the lease that protects it and the record of the deletions. Returns null when the lease has passed to
-- another holder.
-- name: sweep_companies
SELECT keystore_sweep_companies(%(company_ids)b::text[], %(name)s, %(holder)s, %(epoch)s, %(ttl_s)s, %(run_id)s,
                                %(guard)s, %(attached)s, %(named)b::text[], %(now)s)

-- name: finish_sweep
UPDATE keystore_sweeps
SET finished_at = coalesce(%(now)s::timestamptz, statement_timestamp()), took_ms = %(took_ms)s, error = %(error)s
WHERE run_id = %(run_id)s
RETURNING finished_at

-- name: forget_sweeps
DELETE FROM keystore_sweeps
WHERE started_at < coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '2160 hours'

-- name: forget_counters
DELETE FROM keystore_counters
WHERE hour < (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '2160 hours')

-- The company '' holds the counts of the whole database.
-- name: add_counts
INSERT INTO keystore_counters AS c (company_id, hour, key_type, event, n)
SELECT i.company_id, i.hour, i.key_type, i.event, i.n
FROM unnest(%(company_ids)b::text[], %(hours)b::timestamptz[], %(key_types)b::text[], %(events)b::text[], %(ns)b::bigint[])
     AS i (company_id, hour, key_type, event, n)
ORDER BY i.company_id, i.hour, i.key_type, i.event
ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = c.n + excluded.n

-- name: counts
SELECT hour, key_type, event, n FROM keystore_counters
WHERE company_id = '' AND hour >= %(since)s ORDER BY hour, key_type, event

-- name: bursts
SELECT company_id, hour, key_type, n FROM keystore_counters
WHERE event = 'burst' AND hour >= %(since)s ORDER BY hour, company_id, key_type

-- See LifeCount.
-- name: life_counts
SELECT * FROM keystore_life_counts(%(after)s, %(upto)s, %(guard)s, %(named)b::text[])

-- One look-up for each company with creds, which stops after `below` pre-keys.
-- name: low_on_pre_keys
SELECT a.company_id, (
    SELECT count(*) FROM (
        SELECT 1 FROM whatsapp_keys k WHERE k.company_id = a.company_id AND k.key_type = 'pre-key' LIMIT %(below)s
    ) AS first
) AS pre_keys
FROM whatsapp_auth a
WHERE (%(after)s::text IS NULL OR a.company_id > %(after)s) AND (%(upto)s::text IS NULL OR a.company_id <= %(upto)s)
ORDER BY a.company_id

-- name: remember
INSERT INTO keystore_notes AS n (name, document, updated_at)
VALUES (%(name)s, %(document)s, coalesce(%(now)s::timestamptz, statement_timestamp()))
ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at

-- name: forget
DELETE FROM keystore_notes WHERE name = %(name)s

-- name: recall
SELECT document, updated_at FROM keystore_notes WHERE name = %(name)s

-- name: notes
SELECT name, document, updated_at FROM keystore_notes WHERE starts_with(name, %(prefix)s) ORDER BY name

-- name: add_history
INSERT INTO keystore_history AS h (kind, at, document) VALUES (%(kind)s, %(at)s, %(document)s)
ON CONFLICT (kind, at) DO UPDATE SET document = excluded.document

-- name: history
SELECT at, document FROM keystore_history WHERE kind = %(kind)s AND at >= %(since)s ORDER BY at

-- name: thin_history
DELETE FROM keystore_history h
WHERE h.kind = %(kind)s AND (h.at < %(before)s OR (h.at < %(daily_before)s AND EXISTS (
    SELECT 1 FROM keystore_history e
    WHERE e.kind = h.kind AND e.at < h.at AND e.at >= date_trunc('day', h.at, 'UTC')
)))

-- name: sweep_runs
SELECT run_id, sweeper, started_at, finished_at, took_ms, deleted, by_type, error
FROM keystore_sweeps ORDER BY run_id DESC LIMIT %(limit)s

-- name: lacks_expiry
SELECT 1 FROM whatsapp_keys WHERE expires_at IS NULL LIMIT 1

-- name: backfill
SELECT * FROM keystore_backfill(%(limit)s, %(now)s)

-- name: expiry_enforced
SELECT EXISTS (SELECT 1 FROM pg_constraint
               WHERE conname = 'whatsapp_keys_expiry_required' AND conrelid = 'whatsapp_keys'::regclass AND convalidated)

-- name: expiry_required
SELECT EXISTS (SELECT 1 FROM pg_constraint
               WHERE conname = 'whatsapp_keys_expiry_required' AND conrelid = 'whatsapp_keys'::regclass)

-- NOT VALID locks the table only for a moment. The later validation lets others read and write.
-- name: require_expiry
ALTER TABLE whatsapp_keys ADD CONSTRAINT whatsapp_keys_expiry_required CHECK (expires_at IS NOT NULL) NOT VALID

-- name: validate_expiry
ALTER TABLE whatsapp_keys VALIDATE CONSTRAINT whatsapp_keys_expiry_required

-- name: key_names
SELECT company_id, key_type, key_id, coalesce(updated_at, created_at, to_timestamp(0)) FROM whatsapp_keys
WHERE key_type = ANY (%(types)b::text[]) ORDER BY company_id, key_type, key_id

-- name: hold_key
SELECT 1 FROM whatsapp_keys
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s FOR UPDATE

-- name: drop_older
SELECT keystore_drop_older(%(company_id)s, %(to_type)s, %(to_id)s, %(updated_at)s, %(now)s)

-- name: move_key
UPDATE whatsapp_keys k SET key_type = %(to_type)s, key_id = %(to_id)s
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s
  AND NOT EXISTS (SELECT 1 FROM whatsapp_keys o
                  WHERE o.company_id = %(company_id)s AND o.key_type = %(to_type)s AND o.key_id = %(to_id)s)
RETURNING 1

-- name: export_rows
SELECT key_type, key_id, keystore_shown(value, value_nonce), created_at, updated_at, nullif(expires_at, 'infinity'),
       coalesce(expires_at = 'infinity', false)
FROM whatsapp_keys WHERE company_id = %(company_id)s ORDER BY key_type COLLATE "C", key_id COLLATE "C"

-- name: restore_rows
SELECT keystore_restore(
    %(company_id)s, %(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[], %(created_at)b::timestamptz[],
    %(updated_at)b::timestamptz[], %(expires_at)b::timestamptz[], %(never_expires)b::boolean[], %(gone_types)b::text[],
    %(gone_ids)b::text[], %(creds)s::bytea, %(reason)s, %(now)s)

-- name: trash_s
SELECT keystore_trash_s()

-- name: set_trash_s
INSERT INTO keystore_settings AS s (name, value) VALUES ('trash_s', %(trash_s)s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value <> excluded.value

-- name: deletions
SELECT company_id, trashed_at, min(reason), count(*) FILTER (WHERE key_type <> ''), count(*) FILTER (WHERE key_type = ''),
       sum(octet_length(value))
FROM keystore_trash WHERE %(company_id)s::text IS NULL OR company_id = %(company_id)s
GROUP BY company_id, trashed_at ORDER BY trashed_at DESC, company_id

-- name: deleted_rows
SELECT key_type, key_id, value, created_at, updated_at, nullif(expires_at, 'infinity'),
       coalesce(expires_at = 'infinity', false)
FROM keystore_trash WHERE company_id = %(company_id)s AND trashed_at = %(trashed_at)s
ORDER BY key_type COLLATE "C", key_id COLLATE "C"

-- name: empty_trash
SELECT keystore_empty_trash(%(now)s)

-- name: purge_company
SELECT relation, n FROM keystore_purge(%(company_id)s, %(now)s)

-- A sweep's error may name a company.
-- name: purge_sweep_errors
UPDATE keystore_sweeps SET error = replace(error, %(company_id)s, 'purged') WHERE strpos(error, %(company_id)s) > 0

-- name: purge_displaced
WITH gone AS (DELETE FROM keystore_displaced WHERE company_id = %(company_id)s RETURNING 1) SELECT count(*) FROM gone

-- A token of several companies loses this one and is for the others from then on. It never becomes an admin's.
-- name: purge_tokens
WITH gone AS (
    DELETE FROM keystore_tokens
    WHERE company_id = %(company_id)s AND coalesce(further_companies, '{}') = '{}' RETURNING 1
), lessened AS (
    UPDATE keystore_tokens
    SET company_id = CASE company_id WHEN %(company_id)s THEN further_companies[1] ELSE company_id END,
        further_companies = nullif(
            CASE company_id WHEN %(company_id)s THEN further_companies[2:]
                ELSE array_remove(further_companies, %(company_id)s::text) END,
            '{}'
        )
    WHERE further_companies <> '{}' AND %(company_id)s::text = ANY (company_id || further_companies)
)
SELECT count(*) FROM gone

-- name: own_schema
SELECT quote_ident(current_schema())

-- True when a role of this name exists, and when it is a bot's login. (Without pg_roles, as in functions/logins.sql.)
-- name: login_state
SELECT to_regrole(quote_ident(%(login)s)) IS NOT NULL,
       EXISTS (SELECT FROM keystore_logins WHERE login = %(login)s)

-- name: add_login
SELECT keystore_add_login(%(login)s, %(verifier)s, %(company_id)s, %(most_keys)s, %(most_bytes)s)

-- name: end_login
SELECT keystore_end_login(%(login)s)

-- name: logins
SELECT l.login, array_agg(l.company_id ORDER BY l.company_id), min(l.created_at),
       to_regrole(quote_ident(l.login)) IS NOT NULL
FROM keystore_logins l GROUP BY l.login ORDER BY l.login

-- Sealed values: see functions/sealing.sql.

-- name: master_keys
SELECT key_id, canary FROM keystore_master_keys

-- name: add_master_key
INSERT INTO keystore_master_keys (key_id, canary) VALUES (%(key_id)s, %(canary)s) ON CONFLICT (key_id) DO NOTHING

-- Master keys, but for one, that seal no data key any more.
-- name: forget_master_keys
DELETE FROM keystore_master_keys m
WHERE m.key_id <> %(key_id)s::bytea
  AND m.key_id NOT IN (SELECT DISTINCT substr(d.sealed_key, 2, 8) FROM keystore_data_keys d)
RETURNING 1

-- name: data_key
SELECT key_id, sealed_key FROM keystore_data_keys WHERE company_id = %(company_id)s

-- name: data_keys
SELECT company_id, sealed_key FROM keystore_data_keys ORDER BY company_id

-- A company whose bot has a login gets none: the bot reads the table without the service, and couldn't open its values.
-- name: add_data_key
INSERT INTO keystore_data_keys (company_id, key_id, sealed_key)
SELECT %(company_id)s, %(key_id)s::bytea, %(sealed_key)s::bytea
WHERE NOT EXISTS (SELECT FROM keystore_logins WHERE company_id = %(company_id)s)
ON CONFLICT (company_id) DO NOTHING

-- name: rewrap_data_key
UPDATE keystore_data_keys SET sealed_key = %(sealed_key)s::bytea
WHERE company_id = %(company_id)s AND sealed_key = %(former)s::bytea
RETURNING 1

-- name: hold_data_key
SELECT keystore_hold_data_key(%(company_id)s, %(data_key)s::bytea)

-- name: drop_data_key
SELECT keystore_drop_data_key(%(company_id)s)

-- name: stored_values
SELECT key_type, key_id, value FROM keystore_stored_values(%(company_id)s, %(key_types)b::text[], %(key_ids)b::text[])
WHERE value IS NOT NULL

-- name: reseal
SELECT keystore_reseal(%(company_id)s, %(data_key)s::bytea, %(key_types)b::text[], %(key_ids)b::text[], %(former)b::bytea[],
                       %(sealed)b::bytea[])

-- name: reseal_trash
SELECT keystore_reseal_trash(%(company_id)s, %(data_key)s::bytea, %(times)b::timestamptz[], %(key_types)b::text[],
                             %(key_ids)b::text[], %(former)b::bytea[], %(sealed)b::bytea[])

-- The plain values of a company that are to be sealed, after a name, in the order in which a set locks keys.
-- name: plain_values
SELECT key_type, key_id, value FROM whatsapp_keys
WHERE company_id = %(company_id)s AND key_type <> 'lid-mapping' AND (key_type, key_id) > (%(after_type)s, %(after_id)s)
  AND substr(value, 1, 1) = decode('00', 'hex')
ORDER BY key_type, key_id LIMIT %(limit)s

-- name: plain_trash
SELECT trashed_at, key_type, key_id, value FROM keystore_trash
WHERE company_id = %(company_id)s AND key_type <> 'lid-mapping' AND substr(value, 1, 1) = decode('00', 'hex')
LIMIT %(limit)s

-- name: plain_count
SELECT (SELECT count(*) FROM whatsapp_keys WHERE company_id = %(company_id)s AND key_type <> 'lid-mapping'
            AND substr(value, 1, 1) = decode('00', 'hex'))
     + (SELECT count(*) FROM whatsapp_auth WHERE company_id = %(company_id)s AND substr(creds, 1, 1) = decode('00', 'hex'))
     + (SELECT count(*) FROM keystore_trash WHERE company_id = %(company_id)s AND key_type <> 'lid-mapping'
            AND substr(value, 1, 1) = decode('00', 'hex'))

-- Companies whose bots seal their values themselves. A bot seals the creds last.
-- name: companies_sealed_by_bots
SELECT company_id FROM whatsapp_auth WHERE substr(creds, 1, 2) = decode('0001', 'hex') ORDER BY company_id

-- name: trash_companies
SELECT DISTINCT company_id FROM keystore_trash ORDER BY company_id

-- name: companies_with_logins
SELECT DISTINCT company_id FROM keystore_logins ORDER BY company_id

-- A value that can't be read is kept for inspection: no sweep deletes it.
-- name: keep_unreadable
UPDATE whatsapp_keys SET expires_at = 'infinity'
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s

-- name: write_moved_value
UPDATE whatsapp_keys SET value = %(value)s::bytea, value_nonce = keystore_nonce_of(%(value)s::bytea)
WHERE company_id = %(company_id)s AND key_type = %(to_type)s AND key_id = %(to_id)s

-- name: key_value
SELECT keystore_shown(value, value_nonce) FROM whatsapp_keys
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s

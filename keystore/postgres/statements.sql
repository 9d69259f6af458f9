-- The statements of keystore/postgres/store.py. %(now)s is the time of the store's own clock, or null for the database's.
-- Lists are sent in binary form (%b): psycopg encodes 250 bytea values as text in 1.1 ms, and as binary in 0.04.

-- Reads keys, and renews those with less than half of their life left. (Of a type that never expires, those that have an
-- expiry from another policy.) `raced` marks a key that was due, but that another session renewed or deleted at the same
-- moment: the caller reads again. `renewed` is for the counters.
-- name: get
WITH clock AS (
    SELECT extract(epoch FROM coalesce(%(now)s::timestamptz, statement_timestamp()))::float8 AS epoch_s
), policy AS (
    SELECT to_timestamp(epoch_s + %(ttl_s)s::float8 / 2) AS due_before,
           to_timestamp(ceil((epoch_s + %(ttl_s)s::float8) / %(step_s)s) * %(step_s)s) AS expires_at
    FROM clock
), found AS (
    SELECT k.key_id, k.value, k.expires_at < policy.due_before AS due
    FROM whatsapp_keys k, policy
    WHERE k.company_id = %(company_id)s AND k.key_type = %(key_type)s AND k.key_id = ANY (%(key_ids)b::text[])
), renewed AS (
    UPDATE whatsapp_keys k SET expires_at = policy.expires_at FROM policy
    WHERE k.company_id = %(company_id)s AND k.key_type = %(key_type)s AND k.key_id = ANY (%(key_ids)b::text[])
      AND k.expires_at < policy.due_before
    RETURNING k.key_id
)
SELECT found.key_id, found.value, coalesce(found.due, false) AND renewed.key_id IS NULL AS raced,
       renewed.key_id IS NOT NULL AS renewed
FROM found LEFT JOIN renewed USING (key_id)

-- name: touch
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), policy AS (
    SELECT p.key_type,
           to_timestamp(extract(epoch FROM clock.now)::float8 + p.ttl_s / 2) AS due_before,
           to_timestamp(ceil((extract(epoch FROM clock.now)::float8 + p.ttl_s) / p.step_s) * p.step_s) AS expires_at
    FROM clock, unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
)
UPDATE whatsapp_keys k SET expires_at = policy.expires_at
FROM policy, unnest(%(key_types)b::text[], %(key_ids)b::text[]) AS used (key_type, key_id)
WHERE policy.key_type = used.key_type
  AND k.company_id = %(company_id)s AND k.key_type = used.key_type AND k.key_id = used.key_id
  AND k.expires_at < policy.due_before
RETURNING k.key_type

-- A write reads its company's lease: `lease`, whose epoch is null when it has run out. It writes only if its own epoch is
-- the same, or both are null. Otherwise it returns `refused`, with the live lease. The share lock makes a takeover of the
-- lease wait for the write; a write that waited for a takeover reads the lease again. A company that never had a lease
-- has no row to lock.

-- A whole set in one statement, and so all or nothing. Returns the number of keys for each event and type, for the
-- counters, and the unused pre-keys that got another value. The old value is looked up key by key: on a table without
-- statistics, a join once compared every pair (160 ms for 4 keys). (xmax = 0 would tell an insert from an update without
-- a look-up, but a partitioned table has no such column to return.)
-- name: set
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), policy AS (
    SELECT p.key_type, clock.now,
           to_timestamp(ceil((extract(epoch FROM clock.now)::float8 + p.ttl_s) / p.step_s) * p.step_s) AS expires_at
    FROM clock, unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
), lease AS MATERIALIZED (
    SELECT l.holder, CASE WHEN l.expires_at > coalesce(%(now)s::timestamptz, statement_timestamp()) THEN l.epoch END AS epoch
    FROM keystore_company_leases l WHERE l.company_id = %(company_id)s FOR SHARE
), allowed AS (
    SELECT WHERE (SELECT epoch FROM lease) IS NOT DISTINCT FROM %(epoch)s::bigint
), incoming AS MATERIALIZED (
    SELECT i.key_type, i.key_id, i.value, (
        SELECT k.value FROM whatsapp_keys k
        WHERE k.company_id = %(company_id)s AND k.key_type = i.key_type AND k.key_id = i.key_id
    ) AS before
    FROM unnest(%(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[]) AS i (key_type, key_id, value)
    WHERE EXISTS (SELECT FROM allowed)
), removed AS (
    DELETE FROM whatsapp_keys k
    USING unnest(%(gone_types)b::text[], %(gone_ids)b::text[]) AS gone (key_type, key_id)
    WHERE k.company_id = %(company_id)s AND k.key_type = gone.key_type AND k.key_id = gone.key_id
      AND EXISTS (SELECT FROM allowed)
    RETURNING k.key_type
), paired AS (
    INSERT INTO whatsapp_auth AS a (company_id, creds, created_at, updated_at)
    SELECT %(company_id)s, %(creds)s::bytea, clock.now, clock.now FROM clock
    WHERE %(creds)s::bytea IS NOT NULL AND EXISTS (SELECT FROM allowed)
    ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at
), rewritten AS (
    SELECT key_id FROM incoming WHERE key_type = 'pre-key' AND value <> before
), counted AS (
    INSERT INTO keystore_counters AS c (company_id, hour, key_type, event, n)
    SELECT %(company_id)s, date_trunc('hour', clock.now, 'UTC'), 'pre-key', 'rewritten', count(*)
    FROM rewritten, clock GROUP BY clock.now
    ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = c.n + excluded.n
), written AS (
    INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
    SELECT %(company_id)s, incoming.key_type, incoming.key_id, incoming.value, policy.now, policy.now, policy.expires_at
    FROM incoming JOIN policy USING (key_type)
    ORDER BY incoming.key_type, incoming.key_id
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
)
SELECT CASE WHEN before IS NULL THEN 'created' ELSE 'renewed' END, key_type, count(*) FROM incoming GROUP BY 1, 2
UNION ALL SELECT 'deleted', key_type, count(*) FROM removed GROUP BY 2
UNION ALL SELECT 'rewritten', key_id, 1 FROM rewritten
UNION ALL SELECT 'refused', (SELECT holder FROM lease), (SELECT epoch FROM lease) WHERE NOT EXISTS (SELECT FROM allowed)

-- A set without deletions, creds and pre-keys, as for nearly every message. Every row returns the lease: a separate row
-- and `allowed` took 0.05 ms more, of 0.6 ms.
-- name: put
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), policy AS (
    SELECT p.key_type, clock.now,
           to_timestamp(ceil((extract(epoch FROM clock.now)::float8 + p.ttl_s) / p.step_s) * p.step_s) AS expires_at
    FROM clock, unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
), lease AS MATERIALIZED (
    SELECT l.holder, CASE WHEN l.expires_at > coalesce(%(now)s::timestamptz, statement_timestamp()) THEN l.epoch END AS epoch
    FROM keystore_company_leases l WHERE l.company_id = %(company_id)s FOR SHARE
), written AS (
    INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
    SELECT %(company_id)s, i.key_type, i.key_id, i.value, policy.now, policy.now, policy.expires_at
    FROM unnest(%(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[]) AS i (key_type, key_id, value)
    JOIN policy USING (key_type)
    WHERE (SELECT epoch FROM lease) IS NOT DISTINCT FROM %(epoch)s::bigint
    ORDER BY i.key_type, i.key_id
    ON CONFLICT (company_id, key_type, key_id) DO UPDATE
    SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at
)
SELECT CASE WHEN before IS NULL THEN 'created' ELSE 'renewed' END, key_type, count(*),
       (SELECT holder FROM lease), (SELECT epoch FROM lease)
FROM (
    SELECT i.key_type, (
        SELECT 1 FROM whatsapp_keys k
        WHERE k.company_id = %(company_id)s AND k.key_type = i.key_type AND k.key_id = i.key_id
    ) AS before
    FROM unnest(%(key_types)b::text[], %(key_ids)b::text[]) AS i (key_type, key_id)
) AS incoming
GROUP BY 1, 2

-- The row without a type holds the creds.
-- name: load
SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %(company_id)s
UNION ALL
SELECT NULL, NULL, creds FROM whatsapp_auth WHERE company_id = %(company_id)s

-- name: get_creds
SELECT creds FROM whatsapp_auth WHERE company_id = %(company_id)s

-- name: set_creds
WITH lease AS MATERIALIZED (
    SELECT l.holder, CASE WHEN l.expires_at > coalesce(%(now)s::timestamptz, statement_timestamp()) THEN l.epoch END AS epoch
    FROM keystore_company_leases l WHERE l.company_id = %(company_id)s FOR SHARE
), allowed AS (
    SELECT WHERE (SELECT epoch FROM lease) IS NOT DISTINCT FROM %(epoch)s::bigint
), paired AS (
    INSERT INTO whatsapp_auth AS a (company_id, creds, created_at, updated_at)
    SELECT %(company_id)s, %(creds)s, clock.now, clock.now
    FROM (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now) AS clock
    WHERE EXISTS (SELECT FROM allowed)
    ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at
)
SELECT 'refused', (SELECT holder FROM lease), (SELECT epoch FROM lease) WHERE NOT EXISTS (SELECT FROM allowed)

-- For an import, which needs no lease.
-- name: write_creds
INSERT INTO whatsapp_auth AS a (company_id, creds, created_at, updated_at)
SELECT %(company_id)s, %(creds)s, clock.now, clock.now
FROM (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now) AS clock
ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at

-- name: clear
WITH lease AS MATERIALIZED (
    SELECT l.holder, CASE WHEN l.expires_at > coalesce(%(now)s::timestamptz, statement_timestamp()) THEN l.epoch END AS epoch
    FROM keystore_company_leases l WHERE l.company_id = %(company_id)s FOR SHARE
), allowed AS (
    SELECT set_config('keystore.clearing', 'on', true)
    WHERE (SELECT epoch FROM lease) IS NOT DISTINCT FROM %(epoch)s::bigint
), keys AS (
    DELETE FROM whatsapp_keys WHERE company_id = %(company_id)s AND EXISTS (SELECT FROM allowed) RETURNING key_type
), creds AS (
    DELETE FROM whatsapp_auth WHERE company_id = %(company_id)s AND EXISTS (SELECT FROM allowed)
)
SELECT 'cleared', key_type, count(*) FROM keys GROUP BY key_type
UNION ALL SELECT 'refused', (SELECT holder FROM lease), (SELECT epoch FROM lease) WHERE NOT EXISTS (SELECT FROM allowed)

-- Follows an allowed `clear` in the same round trip and transaction: see CLEAR_PASSES.
-- name: clear_again
WITH keys AS (
    DELETE FROM whatsapp_keys
    WHERE company_id = %(company_id)s AND current_setting('keystore.clearing', true) = 'on' RETURNING key_type
), creds AS (
    DELETE FROM whatsapp_auth WHERE company_id = %(company_id)s AND current_setting('keystore.clearing', true) = 'on'
)
SELECT 'cleared', key_type, count(*) FROM keys GROUP BY key_type

-- Returns the lease after the attempt: the new one, or that of another holder which is still live.
-- name: lease_company
INSERT INTO keystore_company_leases AS l (company_id, holder, epoch, expires_at)
SELECT %(company_id)s, %(holder)s, 1, clock.now + %(ttl_s)s * interval '1 second'
FROM (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now) AS clock
ON CONFLICT (company_id) DO UPDATE
SET (holder, epoch, expires_at) = (
    SELECT CASE WHEN taken THEN excluded.holder ELSE l.holder END,
           CASE WHEN taken THEN l.epoch + 1 ELSE l.epoch END,
           CASE WHEN taken THEN excluded.expires_at ELSE l.expires_at END
    FROM (
        SELECT %(force)s OR l.holder = excluded.holder
               OR l.expires_at <= coalesce(%(now)s::timestamptz, statement_timestamp()) AS taken
    ) AS decided
)
RETURNING holder, epoch, expires_at

-- name: renew_company
UPDATE keystore_company_leases
SET expires_at = coalesce(%(now)s::timestamptz, statement_timestamp()) + %(ttl_s)s * interval '1 second'
WHERE company_id = %(company_id)s AND holder = %(holder)s AND epoch = %(epoch)s
  AND expires_at > coalesce(%(now)s::timestamptz, statement_timestamp())
RETURNING epoch, expires_at

-- name: release_company
UPDATE keystore_company_leases SET expires_at = coalesce(%(now)s::timestamptz, statement_timestamp())
WHERE company_id = %(company_id)s AND holder = %(holder)s AND epoch = %(epoch)s
  AND expires_at > coalesce(%(now)s::timestamptz, statement_timestamp())

-- name: now
SELECT statement_timestamp()

-- The next two write no row, but need all that a write needs: a primary key to conflict with, the privileges, and a
-- transaction that may write.
-- name: probe_keys
WITH gone AS (
    DELETE FROM whatsapp_keys WHERE false
)
INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT '', '', '', ''::bytea, now(), now(), now() WHERE false
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at

-- name: probe_creds
WITH gone AS (
    DELETE FROM whatsapp_auth WHERE false
)
INSERT INTO whatsapp_auth AS a (company_id, creds, created_at, updated_at)
SELECT '', ''::bytea, now(), now() WHERE false
ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at

-- name: schema
SELECT to_regclass('whatsapp_keys') IS NOT NULL, to_regclass('whatsapp_auth') IS NOT NULL,
       to_regclass('_yoyo_migration') IS NOT NULL,
       coalesce((SELECT format_type(atttypid, NULL) FROM pg_attribute
                 WHERE attrelid = to_regclass('whatsapp_keys') AND attname = 'value'), ''),
       to_regclass('whatsapp_keys') IS NOT NULL AND row_security_active(to_regclass('whatsapp_keys')::oid)

-- name: applied_migrations
SELECT migration_id FROM _yoyo_migration

-- name: migration_lock
SELECT pg_advisory_xact_lock(8317047285)

-- A key past its expiry is `guarded` when a guard keeps it, by the same rules as in sweep_companies.
-- name: census
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), newest_pre_key AS (
    SELECT company_id, max(updated_at) - interval '1 hour' AS generation_from,
           max(created_at) - interval '1 hour' AS created_from
    FROM whatsapp_keys WHERE key_type = 'pre-key' AND %(guard)s GROUP BY company_id
), held_group AS (
    SELECT company_id, CASE key_type WHEN 'sender-key' THEN split_part(key_id, '::', 1) ELSE key_id END AS group_id
    FROM whatsapp_keys, clock
    WHERE key_type IN ('sender-key', 'sender-key-memory') AND %(guard)s
    GROUP BY 1, 2
    HAVING bool_or(key_type = 'sender-key-memory') AND bool_or(expires_at IS NULL OR expires_at > clock.now)
), keys AS (
    SELECT k.key_type, k.created_at, k.updated_at, k.expires_at, clock.now,
           k.expires_at <= clock.now AS past,
           %(guard)s AND (
               k.key_type = 'app-state-sync-key'
               OR (k.key_type = 'pre-key' AND (k.updated_at IS NULL OR k.updated_at >= n.generation_from
                                               OR (%(attached)s AND k.created_at >= n.created_from)))
               OR h.group_id IS NOT NULL
           ) AS guarded
    FROM clock, whatsapp_keys k
    LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
    LEFT JOIN held_group h ON k.key_type IN ('sender-key', 'sender-key-memory') AND h.company_id = k.company_id
        AND h.group_id = CASE k.key_type WHEN 'sender-key' THEN split_part(k.key_id, '::', 1) ELSE k.key_id END
)
SELECT key_type, count(*), count(expires_at),
       count(*) FILTER (WHERE past AND NOT guarded), count(*) FILTER (WHERE past AND guarded),
       count(*) FILTER (WHERE created_at > now - interval '24 hours'),
       count(*) FILTER (WHERE created_at > now - interval '168 hours'),
       max(updated_at), min(created_at)
FROM keys GROUP BY key_type ORDER BY key_type

-- name: census_totals
SELECT coalesce(%(now)s::timestamptz, statement_timestamp()),
       (SELECT count(*) FROM (SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth) AS c),
       (SELECT max(updated_at) FROM whatsapp_auth),
       (SELECT coalesce(sum(n), 0)::bigint FROM keystore_counters
        WHERE event = 'rewritten' AND hour > coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '168 hours'),
       (SELECT sum(pg_total_relation_size(relid)) FROM (
            SELECT 'whatsapp_auth'::regclass AS relid UNION SELECT 'whatsapp_keys'::regclass
            UNION SELECT relid FROM pg_partition_tree('whatsapp_keys')
        ) AS tables)::bigint

-- name: companies
SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth ORDER BY 1

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
    AND l.expires_at > coalesce(%(now)s::timestamptz, statement_timestamp())
ORDER BY page.company_id COLLATE "C"

-- name: largest_company
SELECT company_id FROM whatsapp_keys GROUP BY company_id ORDER BY count(*) DESC, company_id LIMIT 1

-- name: acquire_lease
INSERT INTO keystore_leases AS l (name, holder, epoch, expires_at)
SELECT %(name)s, %(holder)s, 1, clock.now + %(ttl_s)s * interval '1 second'
FROM (SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now) AS clock
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
RETURNING epoch, expires_at

-- name: renew_lease
UPDATE keystore_leases
SET expires_at = coalesce(%(now)s::timestamptz, statement_timestamp()) + %(ttl_s)s * interval '1 second'
WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s
RETURNING expires_at

-- name: release_lease
UPDATE keystore_leases SET expires_at = coalesce(%(now)s::timestamptz, statement_timestamp())
WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s

-- Adding the same token again does nothing, so that the call can be repeated when its answer got lost.
-- name: add_token
INSERT INTO keystore_tokens AS t (token_id, secret_hash, company_id, created_at, expires_at, revoked_at)
VALUES (%(token_id)s, %(secret_hash)s, %(company_id)s, %(created_at)s, %(expires_at)s, %(revoked_at)s)
ON CONFLICT (token_id) DO UPDATE SET token_id = excluded.token_id WHERE t.secret_hash = excluded.secret_hash
RETURNING 1

-- name: tokens
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at
FROM keystore_tokens ORDER BY created_at, token_id

-- name: find_token
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at
FROM keystore_tokens WHERE token_id = %(token_id)s

-- name: revoke_token
UPDATE keystore_tokens
SET revoked_at = coalesce(revoked_at, %(now)s::timestamptz, statement_timestamp()) WHERE token_id = %(token_id)s
RETURNING 1

-- name: start_sweep
INSERT INTO keystore_sweeps (sweeper, started_at)
VALUES (%(sweeper)s, coalesce(%(now)s::timestamptz, statement_timestamp()))
RETURNING run_id, started_at

-- name: due_companies
SELECT company_id, count(*) FROM whatsapp_keys
WHERE expires_at <= coalesce(%(now)s::timestamptz, statement_timestamp())
GROUP BY company_id ORDER BY company_id

-- The guards:
-- * An app-state-sync-key is never deleted.
-- * The newest generation of pre-keys is never deleted: those written within an hour of the newest.
-- * A group that has a sender-key-memory is deleted as a whole or not at all.
-- On a legacy database (attached) a trigger sets updated_at when a backfill fills a row. So there the pre-keys that were
-- created last are kept as well.

-- One batch in one statement, with the lease that protects it and the record of the deletions. Returns no row when the
-- lease has passed to another holder. Keys outside of groups are deleted without locking them first, which takes half as
-- long. A row that another session has locked ends the statement after 50 ms, long before a deadlock; the batch is then
-- repeated with sweep_around_locks. A row that was renewed meanwhile stays: Postgres checks its expiry again.
-- name: sweep_companies
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), lease AS (
    UPDATE keystore_leases SET expires_at = clock.now + %(ttl_s)s * interval '1 second' FROM clock
    WHERE name = %(name)s AND holder = %(holder)s AND epoch = %(epoch)s
    RETURNING set_config('lock_timeout', '50ms', true)
), newest_pre_key AS MATERIALIZED (
    SELECT company_id, max(updated_at) - interval '1 hour' AS generation_from,
           max(created_at) - interval '1 hour' AS created_from
    FROM whatsapp_keys
    WHERE company_id = ANY (%(company_ids)b::text[]) AND key_type = 'pre-key'
    GROUP BY company_id
), gone AS (
    DELETE FROM whatsapp_keys k
    WHERE k.company_id = ANY (%(company_ids)b::text[]) AND k.expires_at <= (SELECT now FROM clock)
      AND EXISTS (SELECT FROM lease)
      AND NOT (%(guard)s AND (
          k.key_type IN ('app-state-sync-key', 'sender-key', 'sender-key-memory')
          OR (k.key_type = 'pre-key' AND (
              k.updated_at IS NULL
              OR k.updated_at >= (SELECT n.generation_from FROM newest_pre_key n WHERE n.company_id = k.company_id)
              OR (%(attached)s AND k.created_at >= (
                  SELECT n.created_from FROM newest_pre_key n WHERE n.company_id = k.company_id))
          ))
      ))
    RETURNING k.key_type
), due AS MATERIALIZED (
    SELECT k.company_id, k.key_type, k.key_id,
           CASE k.key_type WHEN 'sender-key' THEN split_part(k.key_id, '::', 1) ELSE k.key_id END AS group_id
    FROM whatsapp_keys k
    WHERE k.company_id = ANY (%(company_ids)b::text[]) AND k.key_type IN ('sender-key', 'sender-key-memory')
      AND k.expires_at + interval '0' <= (SELECT now FROM clock)  -- a sum, so that the index on expiry isn't read again
      AND EXISTS (SELECT FROM lease) AND %(guard)s
    FOR UPDATE OF k SKIP LOCKED
), held_group AS (
    SELECT k.company_id, CASE k.key_type WHEN 'sender-key' THEN split_part(k.key_id, '::', 1) ELSE k.key_id END AS group_id
    FROM whatsapp_keys k LEFT JOIN due USING (company_id, key_type, key_id)
    WHERE k.company_id IN (SELECT company_id FROM due) AND k.key_type IN ('sender-key', 'sender-key-memory')
    GROUP BY 1, 2
    HAVING bool_or(k.key_type = 'sender-key-memory') AND bool_or(due.key_id IS NULL)
), gone_with_group AS (
    DELETE FROM whatsapp_keys k USING due
    WHERE k.company_id = due.company_id AND k.key_type = due.key_type AND k.key_id = due.key_id
      AND NOT EXISTS (
          SELECT 1 FROM held_group h WHERE h.company_id = due.company_id AND h.group_id = due.group_id
      )
    RETURNING k.key_type
), swept AS (
    SELECT key_type, count(*) AS keys
    FROM (SELECT key_type FROM gone UNION ALL SELECT key_type FROM gone_with_group) AS both_ways
    GROUP BY key_type
), recorded AS (
    UPDATE keystore_sweeps s SET (deleted, by_type) = (
        SELECT coalesce(sum(keys), 0), coalesce(jsonb_object_agg(key_type, keys), '{}')::text
        FROM (
            SELECT key_type, sum(keys) AS keys
            FROM (
                SELECT key_type, keys FROM swept
                UNION ALL
                SELECT key, value::bigint FROM jsonb_each_text(s.by_type::jsonb)
            ) AS before_and_now
            GROUP BY key_type
        ) AS total
    )
    WHERE run_id = %(run_id)s
    RETURNING by_type
)
SELECT coalesce(recorded.by_type, '{}') FROM lease LEFT JOIN recorded ON true

-- The same for a batch in which another session has locked a row. Each row is locked before it is deleted. A row that
-- can't be locked at once stays, and so does its group.
-- name: sweep_around_locks
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), newest_pre_key AS (
    SELECT company_id, max(updated_at) - interval '1 hour' AS generation_from,
           max(created_at) - interval '1 hour' AS created_from
    FROM whatsapp_keys
    WHERE company_id = ANY (%(company_ids)b::text[]) AND key_type = 'pre-key' AND %(guard)s
    GROUP BY company_id
), due AS MATERIALIZED (
    SELECT k.company_id, k.key_type, k.key_id,
           CASE k.key_type WHEN 'sender-key' THEN split_part(k.key_id, '::', 1) ELSE k.key_id END AS group_id
    FROM whatsapp_keys k
    LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
    WHERE k.company_id = ANY (%(company_ids)b::text[]) AND k.expires_at <= (SELECT now FROM clock)
      AND NOT (%(guard)s AND (
          k.key_type = 'app-state-sync-key'
          OR (k.key_type = 'pre-key' AND (k.updated_at IS NULL OR k.updated_at >= coalesce(n.generation_from, 'infinity')
                                          OR (%(attached)s AND k.created_at >= n.created_from)))
      ))
    FOR UPDATE OF k SKIP LOCKED
), held_group AS (
    SELECT k.company_id, CASE k.key_type WHEN 'sender-key' THEN split_part(k.key_id, '::', 1) ELSE k.key_id END AS group_id
    FROM whatsapp_keys k LEFT JOIN due USING (company_id, key_type, key_id)
    WHERE k.company_id = ANY (%(company_ids)b::text[]) AND k.key_type IN ('sender-key', 'sender-key-memory') AND %(guard)s
    GROUP BY 1, 2
    HAVING bool_or(k.key_type = 'sender-key-memory') AND bool_or(due.key_id IS NULL)
), gone AS (
    DELETE FROM whatsapp_keys k USING due
    WHERE k.company_id = due.company_id AND k.key_type = due.key_type AND k.key_id = due.key_id
      AND NOT (due.key_type IN ('sender-key', 'sender-key-memory') AND EXISTS (
          SELECT 1 FROM held_group h WHERE h.company_id = due.company_id AND h.group_id = due.group_id
      ))
    RETURNING k.key_type
)
SELECT key_type, count(*) FROM gone GROUP BY key_type

-- name: recorded_sweep
SELECT by_type FROM keystore_sweeps WHERE run_id = %(run_id)s

-- name: record_sweep
UPDATE keystore_sweeps SET deleted = %(deleted)s, by_type = %(by_type)s WHERE run_id = %(run_id)s

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
WHERE hour < coalesce(%(now)s::timestamptz, statement_timestamp()) - interval '2160 hours'

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

-- name: key_types
SELECT DISTINCT key_type FROM whatsapp_keys

-- gone_on is the first day, counted from 1970, at whose beginning the key has expired. See LifeCount.
-- name: life_counts
WITH policy AS (
    SELECT p.key_type, p.ttl_s, p.step_s
    FROM unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
), newest_pre_key AS (
    SELECT company_id, max(updated_at) - interval '1 hour' AS generation_from
    FROM whatsapp_keys WHERE key_type = 'pre-key' AND %(guard)s GROUP BY company_id
)
SELECT k.key_type,
       CASE WHEN k.key_type = 'pre-key' THEN coalesce(k.updated_at >= n.generation_from, false)
            ELSE coalesce(k.expires_at > to_timestamp(
                ceil((extract(epoch FROM k.created_at)::float8 + policy.ttl_s) / policy.step_s) * policy.step_s
            ), false)
       END AS lasting,
       CASE WHEN k.expires_at < 'infinity' THEN ceil(extract(epoch FROM k.expires_at) / 86400)::bigint END AS gone_on,
       count(*)
FROM whatsapp_keys k JOIN policy USING (key_type)
LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
GROUP BY 1, 2, 3

-- One look-up for each company with creds, which stops after `below` pre-keys.
-- name: low_on_pre_keys
SELECT a.company_id, (
    SELECT count(*) FROM (
        SELECT 1 FROM whatsapp_keys k WHERE k.company_id = a.company_id AND k.key_type = 'pre-key' LIMIT %(below)s
    ) AS first
) AS pre_keys
FROM whatsapp_auth a ORDER BY a.company_id

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

-- name: types_without_expiry
SELECT DISTINCT key_type FROM (SELECT key_type FROM whatsapp_keys WHERE expires_at IS NULL LIMIT %(limit)s) AS next

-- One batch, read from the index on expiry, where keys without expiry lie together. Locked rows are skipped.
-- name: backfill
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), policy AS (
    SELECT p.key_type,
           to_timestamp(ceil((extract(epoch FROM clock.now)::float8 + p.ttl_s) / p.step_s) * p.step_s) AS expires_at
    FROM clock, unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
), lacking AS MATERIALIZED (
    SELECT company_id, key_type, key_id FROM whatsapp_keys
    WHERE expires_at IS NULL AND key_type = ANY (%(types)b::text[])
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), filled AS (
    UPDATE whatsapp_keys k SET expires_at = policy.expires_at
    FROM lacking JOIN policy USING (key_type)
    WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.key_id = lacking.key_id
    RETURNING k.key_type
)
SELECT key_type, count(*) FROM filled GROUP BY key_type

-- For the rest when all of it is locked: waits for the locks, in the order in which a set locks its keys.
-- name: backfill_locked
WITH clock AS (
    SELECT coalesce(%(now)s::timestamptz, statement_timestamp()) AS now
), policy AS (
    SELECT p.key_type,
           to_timestamp(ceil((extract(epoch FROM clock.now)::float8 + p.ttl_s) / p.step_s) * p.step_s) AS expires_at
    FROM clock, unnest(%(types)b::text[], %(ttls_s)b::float8[], %(steps_s)b::float8[]) AS p (key_type, ttl_s, step_s)
), lacking AS (
    SELECT company_id, key_type, key_id FROM whatsapp_keys
    WHERE expires_at IS NULL AND key_type = ANY (%(types)b::text[])
    ORDER BY company_id, key_type, key_id LIMIT %(limit)s FOR UPDATE
), filled AS (
    UPDATE whatsapp_keys k SET expires_at = policy.expires_at
    FROM lacking JOIN policy USING (key_type)
    WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.key_id = lacking.key_id
    RETURNING k.key_type
)
SELECT key_type, count(*) FROM filled GROUP BY key_type

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
DELETE FROM whatsapp_keys
WHERE company_id = %(company_id)s AND key_type = %(to_type)s AND key_id = %(to_id)s AND updated_at < %(updated_at)s

-- name: move_key
UPDATE whatsapp_keys k SET key_type = %(to_type)s, key_id = %(to_id)s
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = %(key_id)s
  AND NOT EXISTS (SELECT 1 FROM whatsapp_keys o
                  WHERE o.company_id = %(company_id)s AND o.key_type = %(to_type)s AND o.key_id = %(to_id)s)
RETURNING 1

-- name: export_rows
SELECT key_type, key_id, value, created_at, updated_at, nullif(expires_at, 'infinity'),
       coalesce(expires_at = 'infinity', false)
FROM whatsapp_keys WHERE company_id = %(company_id)s ORDER BY key_type COLLATE "C", key_id COLLATE "C"

-- name: restore_rows
INSERT INTO whatsapp_keys AS k (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT %(company_id)s, r.key_type, r.key_id, r.value, r.created_at, r.updated_at,
       CASE WHEN r.never_expires THEN 'infinity' ELSE r.expires_at END
FROM unnest(%(key_types)b::text[], %(key_ids)b::text[], %(values)b::bytea[], %(created_at)b::timestamptz[],
            %(updated_at)b::timestamptz[], %(expires_at)b::timestamptz[], %(never_expires)b::boolean[])
     AS r (key_type, key_id, value, created_at, updated_at, expires_at, never_expires)
ORDER BY r.key_type, r.key_id
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, created_at = excluded.created_at, updated_at = excluded.updated_at,
    expires_at = excluded.expires_at

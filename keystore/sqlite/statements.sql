-- The statements of keystore/sqlite/store.py. Times are microseconds since 1970 UTC; :never is the expiry of keys that
-- never expire. Lists are JSON arrays. :policy is a JSON list of [key_type, expires_at, due_before]: a use at :now renews
-- an expiry before due_before to expires_at.

-- name: get
SELECT key_id, value, expires_at < :due_before FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = :key_type AND key_id IN (SELECT value FROM json_each(:key_ids))

-- name: touch
UPDATE whatsapp_keys AS k SET expires_at = used.expires_at
FROM (
    SELECT t.value AS key_type, i.value AS key_id,
           json_extract(p.value, '$[1]') AS expires_at, json_extract(p.value, '$[2]') AS due_before
    FROM json_each(:key_types) AS t
    JOIN json_each(:key_ids) AS i ON i.key = t.key
    JOIN json_each(:policy) AS p ON json_extract(p.value, '$[0]') = t.value
) AS used
WHERE k.company_id = :company_id AND k.key_type = used.key_type AND k.key_id = used.key_id
  AND k.expires_at < used.due_before
RETURNING key_type

-- :names is a JSON list of [key_type, key_id].
-- name: count_existing
SELECT json_extract(i.value, '$[0]'), count(*) FROM json_each(:names) AS i JOIN whatsapp_keys AS k
ON k.company_id = :company_id AND k.key_type = json_extract(i.value, '$[0]') AND k.key_id = json_extract(i.value, '$[1]')
GROUP BY 1

-- name: delete
DELETE FROM whatsapp_keys WHERE company_id = ? AND key_type = ? AND key_id = ?

-- name: put
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at

-- name: unused_pre_keys
SELECT key_id, value FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = 'pre-key' AND key_id IN (SELECT value FROM json_each(:key_ids))

-- name: count_rewritten
INSERT INTO keystore_counters (company_id, hour, key_type, event, n)
VALUES (:company_id, :now / 3600000000 * 3600000000, 'pre-key', 'rewritten', :n)
ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = n + excluded.n

-- The row without a type holds the creds.
-- name: load
SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = :company_id
UNION ALL
SELECT NULL, NULL, creds FROM whatsapp_auth WHERE company_id = :company_id

-- name: get_creds
SELECT creds FROM whatsapp_auth WHERE company_id = :company_id

-- name: write_creds
INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) VALUES (:company_id, :creds, :now, :now)
ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at

-- name: clear_keys
DELETE FROM whatsapp_keys WHERE company_id = :company_id RETURNING key_type

-- name: clear_creds
DELETE FROM whatsapp_auth WHERE company_id = :company_id

-- A key past its expiry is `guarded` when a guard keeps it, by the same rules as in sweep_companies.
-- name: census
WITH newest_pre_key AS (
    SELECT company_id, max(updated_at) - 3600000000 AS generation_from
    FROM whatsapp_keys WHERE key_type = 'pre-key' AND :guard GROUP BY company_id
), held_group AS (
    SELECT company_id,
           CASE key_type WHEN 'sender-key' THEN substr(key_id, 1, instr(key_id || '::', '::') - 1) ELSE key_id END AS group_id
    FROM whatsapp_keys
    WHERE key_type IN ('sender-key', 'sender-key-memory') AND :guard
    GROUP BY 1, 2
    HAVING max(key_type = 'sender-key-memory') AND max(expires_at IS NULL OR expires_at > :now)
), keys AS (
    SELECT k.key_type, k.created_at, k.updated_at, k.expires_at,
           coalesce(k.expires_at <= :now, 0) AS past,
           :guard AND (
               k.key_type = 'app-state-sync-key'
               OR coalesce(k.key_type = 'pre-key' AND k.updated_at >= n.generation_from, 0)
               OR h.group_id IS NOT NULL
           ) AS guarded
    FROM whatsapp_keys k
    LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
    LEFT JOIN held_group h ON k.key_type IN ('sender-key', 'sender-key-memory') AND h.company_id = k.company_id
        AND h.group_id = CASE k.key_type WHEN 'sender-key' THEN substr(k.key_id, 1, instr(k.key_id || '::', '::') - 1)
                                         ELSE k.key_id END
)
SELECT key_type, count(*), count(expires_at), sum(past AND NOT guarded), sum(past AND guarded),
       sum(created_at > :now - 86400000000), sum(created_at > :now - 604800000000), max(updated_at), min(created_at)
FROM keys GROUP BY key_type ORDER BY key_type

-- name: census_totals
SELECT :now,
       (SELECT count(*) FROM (SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth)),
       (SELECT max(updated_at) FROM whatsapp_auth),
       (SELECT coalesce(sum(n), 0) FROM keystore_counters WHERE event = 'rewritten' AND hour > :now - 604800000000),
       (SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size())

-- The next two write no row, but need all that a write needs: a primary key to conflict with, and a file to write to.
-- name: probe_keys
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT '', '', '', x'', :now, :now, :now WHERE false
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at

-- name: probe_creds
INSERT INTO whatsapp_auth (company_id, creds, created_at, updated_at) SELECT '', x'', :now, :now WHERE false
ON CONFLICT (company_id) DO UPDATE SET creds = excluded.creds, updated_at = excluded.updated_at

-- name: companies
SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth ORDER BY 1

-- Skips from one id to the next in the index, instead of reading all of it.
-- name: company_page
WITH RECURSIVE keyed AS (
    SELECT min(company_id) AS company_id FROM whatsapp_keys
    UNION ALL
    SELECT (SELECT min(k.company_id) FROM whatsapp_keys AS k WHERE k.company_id > keyed.company_id)
    FROM keyed WHERE keyed.company_id IS NOT NULL
), found AS (
    SELECT company_id FROM (
        SELECT company_id FROM keyed WHERE company_id IS NOT NULL UNION SELECT company_id FROM whatsapp_auth
    )
    WHERE instr(company_id, :search) > 0
), page AS (
    SELECT company_id FROM found ORDER BY company_id LIMIT :limit OFFSET :offset
), seen AS (
    SELECT page.company_id, count(k.key_id) AS keys, max(k.updated_at) AS updated_at
    FROM page LEFT JOIN whatsapp_keys AS k ON k.company_id = page.company_id GROUP BY page.company_id
)
SELECT total.companies, seen.company_id, seen.keys,
       max(coalesce(seen.updated_at, a.updated_at), coalesce(a.updated_at, seen.updated_at)),
       l.holder, l.epoch, l.expires_at
FROM (SELECT count(*) AS companies FROM found) AS total
LEFT JOIN seen ON 1
LEFT JOIN whatsapp_auth AS a ON a.company_id = seen.company_id
LEFT JOIN keystore_company_leases AS l ON l.company_id = seen.company_id AND l.expires_at > :now
ORDER BY seen.company_id

-- name: largest_company
SELECT company_id FROM whatsapp_keys GROUP BY company_id ORDER BY count(*) DESC, company_id LIMIT 1

-- The live lease.
-- name: company_lease
SELECT holder, epoch FROM keystore_company_leases WHERE company_id = :company_id AND expires_at > :now

-- Returns the lease after the attempt: the new one, or that of another holder which is still live.
-- name: lease_company
INSERT INTO keystore_company_leases AS l (company_id, holder, epoch, expires_at)
VALUES (:company_id, :holder, 1, :now + CAST(:ttl_s * 1000000 AS INTEGER))
ON CONFLICT (company_id) DO UPDATE
SET (holder, epoch, expires_at) = (
    SELECT CASE WHEN taken THEN excluded.holder ELSE l.holder END,
           CASE WHEN taken THEN l.epoch + 1 ELSE l.epoch END,
           CASE WHEN taken THEN excluded.expires_at ELSE l.expires_at END
    FROM (SELECT :force OR l.holder = excluded.holder OR l.expires_at <= :now AS taken)
)
RETURNING holder, epoch, expires_at

-- name: renew_company
UPDATE keystore_company_leases SET expires_at = :now + CAST(:ttl_s * 1000000 AS INTEGER)
WHERE company_id = :company_id AND holder = :holder AND epoch = :epoch AND expires_at > :now
RETURNING epoch, expires_at

-- name: release_company
UPDATE keystore_company_leases SET expires_at = :now
WHERE company_id = :company_id AND holder = :holder AND epoch = :epoch AND expires_at > :now

-- Adding the same token again does nothing, so that the call can be repeated when its answer got lost.
-- name: add_token
INSERT INTO keystore_tokens AS t (token_id, secret_hash, company_id, created_at, expires_at, revoked_at)
VALUES (:token_id, :secret_hash, :company_id, :created_at, :expires_at, :revoked_at)
ON CONFLICT (token_id) DO UPDATE SET token_id = excluded.token_id WHERE t.secret_hash = excluded.secret_hash
RETURNING 1

-- name: tokens
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at
FROM keystore_tokens ORDER BY created_at, token_id

-- name: find_token
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at
FROM keystore_tokens WHERE token_id = :token_id

-- name: revoke_token
UPDATE keystore_tokens SET revoked_at = coalesce(revoked_at, :now) WHERE token_id = :token_id
RETURNING 1

-- name: acquire_lease
INSERT INTO keystore_leases (name, holder, epoch, expires_at)
VALUES (:name, :holder, 1, :now + CAST(:ttl_s * 1000000 AS INTEGER))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = epoch + 1, expires_at = excluded.expires_at
WHERE holder = excluded.holder OR expires_at <= :now
RETURNING epoch, expires_at

-- name: renew_lease
UPDATE keystore_leases SET expires_at = :now + CAST(:ttl_s * 1000000 AS INTEGER)
WHERE name = :name AND holder = :holder AND epoch = :epoch
RETURNING expires_at

-- name: release_lease
UPDATE keystore_leases SET expires_at = :now WHERE name = :name AND holder = :holder AND epoch = :epoch

-- name: start_sweep
INSERT INTO keystore_sweeps (sweeper, started_at) VALUES (:sweeper, :now) RETURNING run_id, started_at

-- name: due_companies
SELECT company_id, count(*) FROM whatsapp_keys WHERE expires_at <= :now GROUP BY company_id ORDER BY company_id

-- The guards are explained at the same statement in keystore/postgres/statements.sql. (SQLite locks no rows.)
-- name: sweep_around_locks
WITH swept AS (
    SELECT value AS company_id FROM json_each(:company_ids)
), newest_pre_key AS (
    SELECT company_id, max(updated_at) - 3600000000 AS generation_from
    FROM whatsapp_keys JOIN swept USING (company_id) WHERE key_type = 'pre-key' AND :guard GROUP BY company_id
), held_group AS (
    SELECT company_id,
           CASE key_type WHEN 'sender-key' THEN substr(key_id, 1, instr(key_id || '::', '::') - 1) ELSE key_id END AS group_id
    FROM whatsapp_keys JOIN swept USING (company_id)
    WHERE key_type IN ('sender-key', 'sender-key-memory') AND :guard
    GROUP BY 1, 2
    HAVING max(key_type = 'sender-key-memory') AND max(expires_at IS NULL OR expires_at > :now)
)
DELETE FROM whatsapp_keys
WHERE (company_id, key_type, key_id) IN (
    SELECT k.company_id, k.key_type, k.key_id
    FROM swept JOIN whatsapp_keys k USING (company_id)
    LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
    LEFT JOIN held_group h ON k.key_type IN ('sender-key', 'sender-key-memory') AND h.company_id = k.company_id
        AND h.group_id = CASE k.key_type WHEN 'sender-key' THEN substr(k.key_id, 1, instr(k.key_id || '::', '::') - 1)
                                         ELSE k.key_id END
    WHERE k.expires_at <= :now AND h.group_id IS NULL
      AND NOT (:guard AND (
          k.key_type = 'app-state-sync-key'
          OR coalesce(k.key_type = 'pre-key' AND k.updated_at >= n.generation_from, 0)
      ))
)
RETURNING key_type

-- name: recorded_sweep
SELECT by_type FROM keystore_sweeps WHERE run_id = :run_id

-- name: record_sweep
UPDATE keystore_sweeps SET deleted = :deleted, by_type = :by_type WHERE run_id = :run_id

-- name: finish_sweep
UPDATE keystore_sweeps SET finished_at = :now, took_ms = :took_ms, error = :error WHERE run_id = :run_id
RETURNING finished_at

-- name: forget_sweeps
DELETE FROM keystore_sweeps WHERE started_at < :now - 7776000000000

-- name: forget_counters
DELETE FROM keystore_counters WHERE hour < :now - 7776000000000

-- The company '' holds the counts of the whole database.
-- name: add_count
INSERT INTO keystore_counters (company_id, hour, key_type, event, n) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = n + excluded.n

-- name: counts
SELECT hour, key_type, event, n FROM keystore_counters
WHERE company_id = '' AND hour >= :since ORDER BY hour, key_type, event

-- name: bursts
SELECT company_id, hour, key_type, n FROM keystore_counters
WHERE event = 'burst' AND hour >= :since ORDER BY hour, company_id, key_type

-- name: key_types
SELECT DISTINCT key_type FROM whatsapp_keys

-- :firsts is a JSON list of [key_type, ttl, step] (microseconds; null for never). gone_on is the first day, counted from
-- 1970, at whose beginning the key has expired. See LifeCount.
-- name: life_counts
WITH policy AS (
    SELECT json_extract(value, '$[0]') AS key_type, json_extract(value, '$[1]') AS ttl, json_extract(value, '$[2]') AS step
    FROM json_each(:firsts)
), newest_pre_key AS (
    SELECT company_id, max(updated_at) - 3600000000 AS generation_from
    FROM whatsapp_keys WHERE key_type = 'pre-key' AND :guard GROUP BY company_id
)
SELECT k.key_type,
       CASE WHEN k.key_type = 'pre-key' THEN coalesce(k.updated_at >= n.generation_from, 0)
            ELSE coalesce(k.expires_at > (k.created_at + policy.ttl + policy.step - 1) / policy.step * policy.step, 0)
       END AS lasting,
       CASE WHEN k.expires_at < :never THEN (k.expires_at + 86399999999) / 86400000000 END AS gone_on,
       count(*)
FROM whatsapp_keys k JOIN policy USING (key_type)
LEFT JOIN newest_pre_key n ON k.key_type = 'pre-key' AND n.company_id = k.company_id
GROUP BY 1, 2, 3

-- One look-up for each company with creds, which stops after :below pre-keys.
-- name: low_on_pre_keys
SELECT a.company_id, (
    SELECT count(*) FROM (
        SELECT 1 FROM whatsapp_keys k WHERE k.company_id = a.company_id AND k.key_type = 'pre-key' LIMIT :below
    )
) AS pre_keys
FROM whatsapp_auth a ORDER BY a.company_id

-- name: remember
INSERT INTO keystore_notes (name, document, updated_at) VALUES (:name, :document, :now)
ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at

-- name: forget
DELETE FROM keystore_notes WHERE name = :name

-- name: recall
SELECT document, updated_at FROM keystore_notes WHERE name = :name

-- name: notes
SELECT name, document, updated_at FROM keystore_notes WHERE substr(name, 1, length(:prefix)) = :prefix ORDER BY name

-- name: add_history
INSERT INTO keystore_history (kind, at, document) VALUES (:kind, :at, :document)
ON CONFLICT (kind, at) DO UPDATE SET document = excluded.document

-- name: history
SELECT at, document FROM keystore_history WHERE kind = :kind AND at >= :since ORDER BY at

-- name: thin_history
DELETE FROM keystore_history
WHERE kind = :kind AND (at < :before OR (at < :daily_before AND EXISTS (
    SELECT 1 FROM keystore_history e
    WHERE e.kind = keystore_history.kind AND e.at < keystore_history.at
      AND e.at >= keystore_history.at / 86400000000 * 86400000000
)))

-- name: sweep_runs
SELECT run_id, sweeper, started_at, finished_at, took_ms, deleted, by_type, error
FROM keystore_sweeps ORDER BY run_id DESC LIMIT :limit

-- name: types_without_expiry
SELECT DISTINCT key_type FROM (SELECT key_type FROM whatsapp_keys WHERE expires_at IS NULL LIMIT :limit)

-- name: backfill
UPDATE whatsapp_keys AS k SET expires_at = lacking.expires_at
FROM (
    SELECT w.company_id, w.key_type, w.key_id, json_extract(p.value, '$[1]') AS expires_at
    FROM whatsapp_keys w JOIN json_each(:policy) AS p ON json_extract(p.value, '$[0]') = w.key_type
    WHERE w.expires_at IS NULL
    LIMIT :limit
) AS lacking
WHERE k.company_id = lacking.company_id AND k.key_type = lacking.key_type AND k.key_id = lacking.key_id
RETURNING key_type

-- name: expiry_enforced
SELECT EXISTS (
    SELECT 1 FROM sqlite_master WHERE name = 'whatsapp_keys' AND sql LIKE '%CHECK (expires_at IS NOT NULL)%'
)

-- SQLite can't add a constraint to a table, so a new table with it takes the place of the old one, in one transaction.
-- name: enforce_create
CREATE TABLE whatsapp_keys_enforced (
    company_id TEXT NOT NULL,
    key_type TEXT NOT NULL,
    key_id TEXT NOT NULL,
    value BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER CHECK (expires_at IS NOT NULL),
    PRIMARY KEY (company_id, key_type, key_id)
) WITHOUT ROWID

-- name: enforce_copy
INSERT INTO whatsapp_keys_enforced
SELECT company_id, key_type, key_id, value, created_at, updated_at, expires_at FROM whatsapp_keys

-- name: enforce_drop
DROP TABLE whatsapp_keys

-- name: enforce_rename
ALTER TABLE whatsapp_keys_enforced RENAME TO whatsapp_keys

-- name: enforce_index
CREATE INDEX whatsapp_keys_expiry ON whatsapp_keys (expires_at)

-- name: key_names
SELECT company_id, key_type, key_id, updated_at FROM whatsapp_keys
WHERE key_type IN (SELECT value FROM json_each(:types)) ORDER BY company_id, key_type, key_id

-- name: hold_key
SELECT 1 FROM whatsapp_keys WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id

-- name: drop_older
DELETE FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = :to_type AND key_id = :to_id AND updated_at < :updated_at

-- name: move_key
UPDATE whatsapp_keys AS k SET key_type = :to_type, key_id = :to_id
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id
  AND NOT EXISTS (SELECT 1 FROM whatsapp_keys o
                  WHERE o.company_id = :company_id AND o.key_type = :to_type AND o.key_id = :to_id)
RETURNING 1

-- name: export_rows
SELECT key_type, key_id, value, created_at, updated_at, nullif(expires_at, :never),
       coalesce(expires_at = :never, 0)
FROM whatsapp_keys WHERE company_id = :company_id ORDER BY key_type, key_id

-- name: restore_row
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, created_at = excluded.created_at, updated_at = excluded.updated_at,
    expires_at = excluded.expires_at

-- name: applied_migrations
SELECT migration_id FROM _yoyo_migration

-- name: schema
SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'whatsapp_keys'),
       EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_yoyo_migration')

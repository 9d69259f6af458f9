-- The statements of keystore/sqlite/queries.py. Times are microseconds since 1970 UTC; :never is the expiry of keys that
-- never expire. Lists are JSON arrays. :policy is a JSON list of [key_type, expires_at, due_before]: a use at :now renews
-- an expiry before due_before to expires_at. CROSS JOIN reads the table on its left first. Without it the planner may read
-- a list once for each key, and no cost may be a product of two lists: all companies share one write lock.

-- name: get
SELECT key_id, keystore_shown(value, value_nonce), expires_at < :due_before FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = :key_type AND key_id IN (SELECT value FROM json_each(:key_ids))

-- SQLite reads no value for this: a row knows how long its value is.
-- name: usage
SELECT count(*), coalesce(sum(length(value)), 0) FROM whatsapp_keys WHERE company_id = :company_id

-- Skips from one type to the next in the index, instead of reading all keys.
-- name: types_of
WITH RECURSIVE stored AS (
    SELECT min(key_type) AS key_type FROM whatsapp_keys WHERE company_id = :company_id
    UNION ALL
    SELECT (SELECT min(k.key_type) FROM whatsapp_keys AS k
            WHERE k.company_id = :company_id AND k.key_type > stored.key_type)
    FROM stored WHERE stored.key_type IS NOT NULL
    LIMIT :limit
)
SELECT key_type FROM stored WHERE key_type IS NOT NULL

-- name: has_type
SELECT 1 FROM whatsapp_keys WHERE company_id = :company_id AND key_type = :key_type LIMIT 1

-- :used is a JSON list of [key_type, key_id, expires_at, due_before]. It is an insert that always conflicts, because the
-- planner reads the table of an UPDATE ... FROM first, and then the list for each key: 319 s for 10,000 ids.
-- name: touch
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
SELECT k.company_id, k.key_type, k.key_id, k.value, k.created_at, k.updated_at, json_extract(used.value, '$[2]')
FROM json_each(:used) AS used CROSS JOIN whatsapp_keys AS k
WHERE k.company_id = :company_id
  AND k.key_type = json_extract(used.value, '$[0]') AND k.key_id = json_extract(used.value, '$[1]')
  AND k.expires_at < json_extract(used.value, '$[3]')
ON CONFLICT (company_id, key_type, key_id) DO UPDATE SET expires_at = excluded.expires_at
RETURNING key_type

-- :names is a JSON list of [key_type, key_id].
-- name: missing
SELECT json_extract(i.value, '$[0]'), json_extract(i.value, '$[1]') FROM json_each(:names) AS i
WHERE NOT EXISTS (
    SELECT 1 FROM whatsapp_keys AS k
    WHERE k.company_id = :company_id
      AND k.key_type = json_extract(i.value, '$[0]') AND k.key_id = json_extract(i.value, '$[1]')
)

-- name: count_existing
SELECT json_extract(i.value, '$[0]'), count(*) FROM json_each(:names) AS i CROSS JOIN whatsapp_keys AS k
ON k.company_id = :company_id AND k.key_type = json_extract(i.value, '$[0]') AND k.key_id = json_extract(i.value, '$[1]')
GROUP BY 1

-- name: delete
DELETE FROM whatsapp_keys WHERE company_id = ? AND key_type = ? AND key_id = ?

-- name: put
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, value_nonce, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, value_nonce = excluded.value_nonce, updated_at = excluded.updated_at,
    expires_at = excluded.expires_at

-- name: unused_pre_keys
SELECT key_id, value FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = 'pre-key' AND key_id IN (SELECT value FROM json_each(:key_ids))

-- name: count_rewritten
INSERT INTO keystore_counters (company_id, hour, key_type, event, n)
VALUES (:company_id, :now / 3600000000 * 3600000000, 'pre-key', 'rewritten', :n)
ON CONFLICT (company_id, hour, key_type, event) DO UPDATE SET n = n + excluded.n

-- The row without a type and an id holds the creds. The row without a type but with an id holds the epoch and the number of
-- the last write.
-- name: load
SELECT key_type, key_id, keystore_shown(value, value_nonce) FROM whatsapp_keys WHERE company_id = :company_id
UNION ALL
SELECT NULL, NULL, keystore_shown(creds, creds_nonce) FROM whatsapp_auth WHERE company_id = :company_id
UNION ALL
SELECT NULL, l.epoch || ' ' || coalesce(w.seq, 0), NULL
FROM keystore_company_leases AS l LEFT JOIN keystore_company_writes AS w USING (company_id, epoch)
WHERE l.company_id = :company_id

-- name: get_creds
SELECT keystore_shown(creds, creds_nonce) FROM whatsapp_auth WHERE company_id = :company_id

-- name: write_creds
INSERT INTO whatsapp_auth (company_id, creds, creds_nonce, created_at, updated_at)
VALUES (:company_id, :creds, keystore_nonce_of(:creds), :now, :now)
ON CONFLICT (company_id) DO UPDATE
SET creds = excluded.creds, creds_nonce = excluded.creds_nonce, updated_at = excluded.updated_at

-- name: clear_keys
DELETE FROM whatsapp_keys WHERE company_id = :company_id RETURNING key_type

-- name: clear_creds
DELETE FROM whatsapp_auth WHERE company_id = :company_id

-- The due keys are counted by due_keys.
-- name: census
SELECT key_type, count(*), count(expires_at),
       sum(created_at > :now - 86400000000), sum(created_at > :now - 604800000000), max(updated_at), min(created_at)
FROM whatsapp_keys GROUP BY key_type ORDER BY key_type

-- name: past_types
SELECT DISTINCT key_type FROM whatsapp_keys WHERE expires_at <= :now

-- The due keys of some companies, or of all if :company_ids is null, and whether a guard keeps each. The guards are
-- explained in keystore/postgres/functions/guards.sql. :waiting is a JSON list of the types that aren't due yet, because
-- their lifetime became longer. What stays of groups, pairs and contacts is looked up only in companies that need it.
-- A condition on several columns with IN stands in a WHEN: elsewhere SQLite compares each row that isn't in the list with
-- the whole list, because a comparison with NULL would be neither true nor false.
-- name: due_keys
WITH past AS MATERIALIZED (
    SELECT company_id, key_type, key_id, keystore_guard(key_type) AS guard,
           keystore_unit(key_type, key_id, CASE key_type WHEN 'lid-mapping' THEN keystore_mapped(value) END) AS unit
    FROM whatsapp_keys
    WHERE expires_at <= :now AND key_type NOT IN (SELECT value FROM json_each(:waiting))
      AND (:company_ids IS NULL OR company_id IN (SELECT value FROM json_each(:company_ids)))
), with_units AS MATERIALIZED (
    SELECT DISTINCT company_id FROM past WHERE :guard AND guard IN ('group', 'pair', 'contact')
), with_pre_keys AS MATERIALIZED (
    SELECT DISTINCT company_id FROM past WHERE :guard AND key_type = 'pre-key'
), related AS MATERIALIZED (
    SELECT k.company_id, k.key_type, k.key_id,
           CASE k.key_type WHEN 'lid-mapping' THEN keystore_mapped(k.value) END AS mapped,
           coalesce(k.expires_at <= :now, 0) AND k.key_type NOT IN (SELECT value FROM json_each(:waiting)) AS goes
    FROM with_units CROSS JOIN whatsapp_keys AS k USING (company_id)
    WHERE k.key_type IN ('sender-key', 'sender-key-memory', 'lid-mapping', 'session', 'tctoken')
), pairs AS MATERIALIZED (
    SELECT company_id, keystore_lid(key_id, mapped) AS lid, goes,
           CASE WHEN key_id LIKE '%\_reverse' ESCAPE '\' THEN mapped ELSE key_id END AS number
    FROM related WHERE mapped IS NOT NULL
), users AS MATERIALIZED (
    SELECT company_id, keystore_user(key_id) AS user_id, max(key_type = 'session') AS has_session
    FROM related WHERE key_type IN ('session', 'tctoken') AND NOT goes GROUP BY 1, 2
), contacts AS MATERIALIZED (
    SELECT company_id, user_id, has_session FROM users
    UNION SELECT p.company_id, p.lid, u.has_session
    FROM pairs AS p JOIN users AS u ON u.company_id = p.company_id AND u.user_id = p.number
    UNION SELECT p.company_id, p.number, u.has_session
    FROM pairs AS p JOIN users AS u ON u.company_id = p.company_id AND u.user_id = p.lid
), staying AS MATERIALIZED (
    SELECT company_id, 'group' AS guard, keystore_unit(key_type, key_id, NULL) AS unit
    FROM related WHERE key_type IN ('sender-key', 'sender-key-memory')
    GROUP BY 1, 3 HAVING max(key_type = 'sender-key-memory') AND NOT min(goes)
    UNION SELECT company_id, 'contact', user_id FROM contacts WHERE has_session
    UNION SELECT company_id, 'pair', user_id FROM contacts
    UNION SELECT company_id, 'pair', lid FROM pairs WHERE NOT goes
), older AS MATERIALIZED (
    SELECT company_id, key_id FROM (
        SELECT k.company_id, k.key_id, row_number() OVER (
            PARTITION BY k.company_id ORDER BY k.updated_at DESC, length(k.key_id) DESC, k.key_id DESC
        ) AS place
        FROM with_pre_keys CROSS JOIN whatsapp_keys AS k USING (company_id) WHERE k.key_type = 'pre-key'
    )
    WHERE place > :pre_keys_kept
)
SELECT company_id, key_type, key_id, CASE
    WHEN NOT :guard OR guard IS NULL THEN 0
    WHEN guard = 'newest' THEN CASE WHEN (company_id, key_id) IN (SELECT * FROM older) THEN 0 ELSE 1 END
    WHEN unit IS NULL OR (company_id, guard, unit) IN (SELECT * FROM staying) THEN 1
    ELSE 0
END
FROM past

-- Gives the keys of a type that isn't due yet their right expiry, so that no later sweep stops at them.
-- name: correct_expiry
UPDATE whatsapp_keys SET expires_at = :due_from WHERE expires_at <= :now AND key_type = :key_type

-- name: count_companies
SELECT count(*) FROM (SELECT company_id FROM whatsapp_keys UNION SELECT company_id FROM whatsapp_auth)

-- name: census_totals
SELECT :now,
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
LEFT JOIN keystore_company_leases AS l ON l.company_id = seen.company_id AND keystore_lease_is_live(l.expires_at, :now)
ORDER BY seen.company_id

-- name: company_page_ranked
WITH counted AS (
    SELECT company_id, count(*) AS keys, max(updated_at) AS updated_at
    FROM whatsapp_keys WHERE instr(company_id, :search) > 0 GROUP BY company_id
    UNION ALL
    SELECT company_id, 0, updated_at FROM whatsapp_auth WHERE instr(company_id, :search) > 0
), every AS (
    SELECT company_id, sum(keys) AS keys, max(updated_at) AS active_at FROM counted GROUP BY company_id
), ranked AS (
    SELECT company_id, keys, active_at, row_number() OVER (ORDER BY
        CASE :order WHEN 'keys' THEN keys END DESC,
        CASE :order WHEN 'latest' THEN active_at END DESC,
        CASE :order WHEN 'oldest' THEN active_at END,
        company_id
    ) AS rank
    FROM every
), page AS (
    SELECT * FROM ranked ORDER BY rank LIMIT :limit OFFSET :offset
)
SELECT total.companies, page.company_id, page.keys, page.active_at, l.holder, l.epoch, l.expires_at
FROM (SELECT count(*) AS companies FROM every) AS total
LEFT JOIN page ON 1
LEFT JOIN keystore_company_leases AS l ON l.company_id = page.company_id AND keystore_lease_is_live(l.expires_at, :now)
ORDER BY page.rank

-- name: largest_company
SELECT company_id FROM whatsapp_keys
WHERE company_id IN (
    SELECT company_id FROM whatsapp_keys GROUP BY company_id ORDER BY count(*) DESC, company_id LIMIT 10
)
GROUP BY company_id
HAVING count(*) <= :most_keys AND sum(length(value)) <= :most_bytes
ORDER BY count(*) DESC, company_id LIMIT 1

-- The latest lease, whose epoch is null once it has ended. A holder without a name can't renew it.
-- name: company_lease
SELECT holder, CASE WHEN keystore_lease_is_live(expires_at, :now) THEN epoch END FROM keystore_company_leases
WHERE company_id = :company_id

-- Take the holder's name from the row of an ended lease.
-- name: forget_holder
UPDATE keystore_company_leases SET holder = '' WHERE company_id = :company_id

-- Returns the lease after the attempt: the new one, or that of another holder which is still live.
-- name: lease_company
INSERT INTO keystore_company_leases AS l (company_id, holder, epoch, expires_at)
VALUES (:company_id, :holder, 1, :now + CAST(:ttl_s * 1000000 AS INTEGER))
ON CONFLICT (company_id) DO UPDATE
SET (holder, epoch, expires_at) = (
    SELECT CASE WHEN taken THEN excluded.holder ELSE l.holder END,
           CASE WHEN taken THEN l.epoch + 1 ELSE l.epoch END,
           CASE WHEN taken THEN excluded.expires_at ELSE l.expires_at END
    FROM (SELECT :force OR l.holder = excluded.holder OR NOT keystore_lease_is_live(l.expires_at, :now) AS taken)
)
RETURNING holder, epoch, expires_at, coalesce((
    SELECT w.seq FROM keystore_company_writes AS w
    WHERE w.company_id = keystore_company_leases.company_id AND w.epoch = keystore_company_leases.epoch
), 0)

-- Returns no row when the lease was released or has passed on, or somebody wrote without a lease since it ran out.
-- name: renew_company
UPDATE keystore_company_leases SET expires_at = :now + CAST(:ttl_s * 1000000 AS INTEGER)
WHERE company_id = :company_id AND holder = :holder AND epoch = :epoch
RETURNING epoch, expires_at, coalesce((
    SELECT w.seq FROM keystore_company_writes AS w
    WHERE w.company_id = keystore_company_leases.company_id AND w.epoch = keystore_company_leases.epoch
), 0)

-- name: release_company
UPDATE keystore_company_leases SET expires_at = :now, holder = ''
WHERE company_id = :company_id AND holder = :holder AND epoch = :epoch AND keystore_lease_is_live(expires_at, :now)
RETURNING 1

-- Returns no row when the database has this number, or a later one, already.
-- name: number_write
INSERT INTO keystore_company_writes AS w (company_id, epoch, seq) VALUES (:company_id, :epoch, :seq)
ON CONFLICT (company_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
WHERE w.epoch <> excluded.epoch OR w.seq < excluded.seq
RETURNING 1

-- name: last_write
SELECT l.epoch, coalesce(w.seq, 0)
FROM keystore_company_leases AS l LEFT JOIN keystore_company_writes AS w USING (company_id, epoch)
WHERE l.company_id = :company_id

-- name: policy
SELECT key_type, matches, ttl_s, lengthened_at
FROM keystore_policy LEFT JOIN keystore_longer_lifetimes USING (place) ORDER BY place

-- name: any_key
SELECT 1 FROM whatsapp_keys LIMIT 1

-- name: forget_policy
DELETE FROM keystore_policy

-- name: add_lifetime
INSERT INTO keystore_policy (place, key_type, matches, ttl_s, step_s)
VALUES (:place, :key_type, :matches, :ttl_s, :step_s)

-- Without :now this machine's clock is read, to the millisecond.
-- name: set_lengthened
INSERT INTO keystore_longer_lifetimes (place, lengthened_at)
SELECT :place, CASE WHEN :longer THEN coalesce(:now, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000)
                    ELSE :lengthened_at END
WHERE true
ON CONFLICT (place) DO UPDATE SET lengthened_at = excluded.lengthened_at

-- Adding the same token again does nothing, so that the call can be repeated when its answer got lost.
-- name: add_token
INSERT INTO keystore_tokens AS t (token_id, secret_hash, company_id, created_at, expires_at, revoked_at)
VALUES (:token_id, :secret_hash, :company_id, :created_at, :expires_at, :revoked_at)
ON CONFLICT (token_id) DO UPDATE SET token_id = excluded.token_id WHERE t.secret_hash = excluded.secret_hash
RETURNING 1

-- The same id with another secret is another token's.
-- name: add_token_companies
INSERT OR IGNORE INTO keystore_token_companies (token_id, place, company_id)
SELECT :token_id, further.key, further.value FROM json_each(:further_companies) AS further
WHERE NOT EXISTS (SELECT 1 FROM keystore_tokens WHERE token_id = :token_id)

-- name: tokens
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at,
    (SELECT json_group_array(company_id) FROM
        (SELECT f.company_id FROM keystore_token_companies f WHERE f.token_id = t.token_id ORDER BY f.place))
FROM keystore_tokens t ORDER BY created_at, token_id

-- name: find_token
SELECT token_id, secret_hash, company_id, created_at, expires_at, revoked_at,
    (SELECT json_group_array(company_id) FROM
        (SELECT f.company_id FROM keystore_token_companies f WHERE f.token_id = t.token_id ORDER BY f.place))
FROM keystore_tokens t WHERE token_id = :token_id

-- name: revoke_token
UPDATE keystore_tokens SET revoked_at = coalesce(revoked_at, :now) WHERE token_id = :token_id
RETURNING 1

-- A lease that ends much later than the asked time from now is free as well: it was made before the clock was set back.
-- Its holder, if it lives, renews it soon. (Two minutes, because :now is from before the wait for other writers.)
-- name: acquire_lease
INSERT INTO keystore_leases (name, holder, epoch, expires_at)
VALUES (:name, :holder, 1, :now + CAST(:ttl_s * 1000000 AS INTEGER))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = epoch + 1, expires_at = excluded.expires_at
WHERE holder = excluded.holder OR expires_at <= :now OR expires_at > excluded.expires_at + 120000000
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

-- name: due_sessions
SELECT d.company_id, d.due, (
    SELECT count(*) FROM whatsapp_keys AS k WHERE k.company_id = d.company_id AND k.key_type = 'session'
)
FROM (
    SELECT company_id, count(*) AS due FROM whatsapp_keys WHERE expires_at <= :now AND key_type = 'session' GROUP BY company_id
) AS d
ORDER BY d.company_id

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

-- :firsts is a JSON list of [key_type, ttl, step, due_from] (microseconds; a null ttl is never), with an entry for each type
-- that is counted by name, and one for all others. gone_on is the first day, counted from 1970, at whose beginning the key
-- is due. See LifeCount.
-- name: life_counts
WITH policy AS MATERIALIZED (
    SELECT CAST(json_extract(value, '$[0]') AS TEXT) AS key_type,
           json_extract(value, '$[1]') AS ttl, json_extract(value, '$[2]') AS step, json_extract(value, '$[3]') AS due_from
    FROM json_each(:firsts)
), older AS MATERIALIZED (
    SELECT company_id, key_id FROM (
        SELECT company_id, key_id, row_number() OVER (
            PARTITION BY company_id ORDER BY updated_at DESC, length(key_id) DESC, key_id DESC
        ) AS place
        FROM whatsapp_keys WHERE key_type = 'pre-key'
    )
    WHERE place > :pre_keys_kept
)
SELECT policy.key_type,
       CASE WHEN k.key_type = 'pre-key'
            THEN CASE WHEN (k.company_id, k.key_id) IN (SELECT * FROM older) THEN 0 ELSE :guard END
            ELSE coalesce(k.expires_at > (k.created_at + policy.ttl + policy.step - 1) / policy.step * policy.step, 0)
       END AS lasting,
       CASE WHEN max(k.expires_at, policy.due_from) < :never
            THEN (max(k.expires_at, policy.due_from) + 86399999999) / 86400000000 END AS gone_on,
       count(*)
FROM whatsapp_keys k CROSS JOIN policy
    ON policy.key_type = CASE WHEN k.key_type IN (SELECT key_type FROM policy) THEN k.key_type ELSE 'other' END
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

-- name: lacks_expiry
SELECT 1 FROM whatsapp_keys WHERE expires_at IS NULL LIMIT 1

-- name: types_without_expiry
SELECT DISTINCT key_type FROM (SELECT key_type FROM whatsapp_keys WHERE expires_at IS NULL LIMIT :limit)

-- An insert that always conflicts, for the reason given at `touch`.
-- name: backfill
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
WITH policy AS MATERIALIZED (
    SELECT CAST(json_extract(value, '$[0]') AS TEXT) AS key_type, json_extract(value, '$[1]') AS expires_at
    FROM json_each(:policy)
)
SELECT k.company_id, k.key_type, k.key_id, k.value, k.created_at, k.updated_at, policy.expires_at
FROM whatsapp_keys AS k CROSS JOIN policy USING (key_type)
WHERE k.expires_at IS NULL
LIMIT :limit
ON CONFLICT (company_id, key_type, key_id) DO UPDATE SET expires_at = excluded.expires_at
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
    value_nonce BLOB,
    PRIMARY KEY (company_id, key_type, key_id)
) WITHOUT ROWID

-- name: enforce_copy
INSERT INTO whatsapp_keys_enforced
SELECT company_id, key_type, key_id, value, created_at, updated_at, expires_at, value_nonce FROM whatsapp_keys

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

-- The statements of the trash (keystore/sqlite/trash.py). :put_at is the time of what one operation puts away.
-- name: trash_s
SELECT coalesce((SELECT value FROM keystore_settings WHERE name = 'trash_s'), 2592000)

-- name: set_trash_s
INSERT INTO keystore_settings AS s (name, value) VALUES ('trash_s', :trash_s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value <> excluded.value

-- name: latest_trash
SELECT max(trashed_at) FROM keystore_trash WHERE company_id = :company_id

-- name: former_creds
SELECT creds, updated_at FROM whatsapp_auth WHERE company_id = :company_id

-- name: put_creds_away
INSERT INTO keystore_trash (company_id, trashed_at, key_type, key_id, reason, value, created_at, updated_at)
SELECT company_id, :put_at, '', '', :reason, keystore_shown(creds, creds_nonce), created_at, updated_at
FROM whatsapp_auth WHERE company_id = :company_id

-- name: put_keys_away
INSERT INTO keystore_trash
SELECT company_id, :put_at, key_type, key_id, :reason, keystore_shown(value, value_nonce), created_at, updated_at, expires_at
FROM whatsapp_keys WHERE company_id = :company_id

-- name: put_key_away
INSERT INTO keystore_trash
SELECT company_id, :put_at, key_type, key_id, :reason, value, created_at, updated_at, expires_at
FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id AND updated_at < :written_before

-- Deletes the oldest parts of a company's trash while all of it takes more than :most_bytes. (A row takes some 200 beside its
-- value.)
-- name: limit_trash
DELETE FROM keystore_trash WHERE company_id = :company_id AND trashed_at <= (
    SELECT max(trashed_at) FROM (
        SELECT trashed_at, row_number() OVER newest AS place, sum(sum(length(value) + 200)) OVER newest AS bytes
        FROM keystore_trash WHERE company_id = :company_id GROUP BY trashed_at
        WINDOW newest AS (ORDER BY trashed_at DESC)
    )
    WHERE bytes > :most_bytes AND place > 1
)

-- name: deletions
SELECT company_id, trashed_at, min(reason), count(*) FILTER (WHERE key_type <> ''), count(*) FILTER (WHERE key_type = ''),
       sum(length(value))
FROM keystore_trash WHERE :company_id IS NULL OR company_id = :company_id
GROUP BY company_id, trashed_at ORDER BY trashed_at DESC, company_id

-- name: deleted_rows
SELECT key_type, key_id, value, created_at, updated_at, nullif(expires_at, :never), coalesce(expires_at = :never, 0)
FROM keystore_trash WHERE company_id = :company_id AND trashed_at = :trashed_at ORDER BY key_type, key_id

-- name: empty_trash
DELETE FROM keystore_trash WHERE trashed_at <= :upto RETURNING 1

-- A sweep's error may name a company.
-- name: purge_sweep_errors
UPDATE keystore_sweeps SET error = replace(error, :company_id, 'purged') WHERE instr(error, :company_id) > 0

-- name: purge_whatsapp_keys
DELETE FROM whatsapp_keys WHERE company_id = :company_id RETURNING 1

-- name: purge_whatsapp_auth
DELETE FROM whatsapp_auth WHERE company_id = :company_id RETURNING 1

-- name: purge_keystore_trash
DELETE FROM keystore_trash WHERE company_id = :company_id RETURNING 1

-- name: purge_keystore_counters
DELETE FROM keystore_counters WHERE company_id = :company_id RETURNING 1

-- name: purge_keystore_company_leases
DELETE FROM keystore_company_leases WHERE company_id = :company_id RETURNING 1

-- name: purge_keystore_company_writes
DELETE FROM keystore_company_writes WHERE company_id = :company_id RETURNING 1

-- A token of several companies loses this one and is for the others from then on. It never becomes an admin's.
-- name: move_tokens
UPDATE keystore_tokens AS t
SET company_id = (SELECT f.company_id FROM keystore_token_companies f WHERE f.token_id = t.token_id ORDER BY place LIMIT 1)
WHERE company_id = :company_id AND token_id IN (SELECT token_id FROM keystore_token_companies)

-- The first company of a token that was moved is in keystore_tokens now.
-- name: purge_token_companies
DELETE FROM keystore_token_companies AS f
WHERE company_id = :company_id
   OR company_id = (SELECT t.company_id FROM keystore_tokens t WHERE t.token_id = f.token_id)

-- name: purge_keystore_tokens
DELETE FROM keystore_tokens WHERE company_id = :company_id RETURNING 1

-- name: move_key
UPDATE whatsapp_keys AS k SET key_type = :to_type, key_id = :to_id
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id
  AND NOT EXISTS (SELECT 1 FROM whatsapp_keys o
                  WHERE o.company_id = :company_id AND o.key_type = :to_type AND o.key_id = :to_id)
RETURNING 1

-- name: export_rows
SELECT key_type, key_id, keystore_shown(value, value_nonce), created_at, updated_at, nullif(expires_at, :never),
       coalesce(expires_at = :never, 0)
FROM whatsapp_keys WHERE company_id = :company_id ORDER BY key_type, key_id

-- :names is a JSON list of [key_type, key_id].
-- name: stored_values
SELECT k.key_type, k.key_id, keystore_shown(k.value, k.value_nonce) FROM json_each(:names) AS i CROSS JOIN whatsapp_keys AS k
WHERE k.company_id = :company_id AND k.key_type = json_extract(i.value, '$[0]') AND k.key_id = json_extract(i.value, '$[1]')

-- name: restore_row
INSERT INTO whatsapp_keys (company_id, key_type, key_id, value, value_nonce, created_at, updated_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (company_id, key_type, key_id) DO UPDATE
SET value = excluded.value, value_nonce = excluded.value_nonce, created_at = excluded.created_at,
    updated_at = excluded.updated_at, expires_at = excluded.expires_at

-- The tables in the file, for a message that it isn't ours.
-- name: tables
SELECT count(*), min(name) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'

-- name: applied_migrations
SELECT migration_id FROM _yoyo_migration

-- name: schema
SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'whatsapp_keys'),
       EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_yoyo_migration')

-- Sealed values: see keystore/postgres/functions/sealing.sql.

-- name: master_keys
SELECT key_id, canary FROM keystore_master_keys

-- name: add_master_key
INSERT INTO keystore_master_keys (key_id, canary, made_at) VALUES (:key_id, :canary, :now) ON CONFLICT (key_id) DO NOTHING

-- Master keys, but for one, that seal no data key any more.
-- name: forget_master_keys
DELETE FROM keystore_master_keys
WHERE key_id <> :key_id AND key_id NOT IN (SELECT substr(sealed_key, 2, 8) FROM keystore_data_keys)
RETURNING 1

-- name: data_key
SELECT key_id, sealed_key FROM keystore_data_keys WHERE company_id = :company_id

-- name: data_keys
SELECT company_id, sealed_key FROM keystore_data_keys ORDER BY company_id

-- name: add_data_key
INSERT INTO keystore_data_keys (company_id, key_id, sealed_key, made_at) VALUES (:company_id, :key_id, :sealed_key, :now)
ON CONFLICT (company_id) DO NOTHING

-- name: rewrap_data_key
UPDATE keystore_data_keys SET sealed_key = :sealed_key WHERE company_id = :company_id AND sealed_key = :former
RETURNING 1

-- name: hold_data_key
SELECT 1 FROM keystore_data_keys WHERE company_id = :company_id AND key_id = :data_key

-- name: purge_keystore_data_keys
DELETE FROM keystore_data_keys WHERE company_id = :company_id RETURNING 1

-- name: reseal_key
UPDATE whatsapp_keys SET value = :sealed, value_nonce = keystore_nonce_of(:sealed)
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id AND value = :former
RETURNING 1

-- name: reseal_creds
UPDATE whatsapp_auth SET creds = :sealed, creds_nonce = keystore_nonce_of(:sealed)
WHERE company_id = :company_id AND creds = :former
RETURNING 1

-- name: reseal_trash
UPDATE keystore_trash SET value = :sealed
WHERE company_id = :company_id AND trashed_at = :trashed_at AND key_type = :key_type AND key_id = :key_id AND value = :former
RETURNING 1

-- The plain values of a company that are to be sealed, after a name.
-- name: plain_values
SELECT key_type, key_id, value FROM whatsapp_keys
WHERE company_id = :company_id AND key_type <> 'lid-mapping' AND (key_type, key_id) > (:after_type, :after_id)
  AND substr(value, 1, 1) = x'00'
ORDER BY key_type, key_id LIMIT :limit

-- name: plain_trash
SELECT trashed_at, key_type, key_id, value FROM keystore_trash
WHERE company_id = :company_id AND key_type <> 'lid-mapping' AND substr(value, 1, 1) = x'00'
LIMIT :limit

-- name: plain_count
SELECT (SELECT count(*) FROM whatsapp_keys
        WHERE company_id = :company_id AND key_type <> 'lid-mapping' AND substr(value, 1, 1) = x'00')
     + (SELECT count(*) FROM whatsapp_auth WHERE company_id = :company_id AND substr(creds, 1, 1) = x'00')
     + (SELECT count(*) FROM keystore_trash
        WHERE company_id = :company_id AND key_type <> 'lid-mapping' AND substr(value, 1, 1) = x'00')

-- Companies whose bots seal their values themselves. A bot seals the creds last.
-- name: companies_sealed_by_bots
SELECT company_id FROM whatsapp_auth WHERE substr(creds, 1, 2) = x'0001' ORDER BY company_id

-- name: trash_companies
SELECT DISTINCT company_id FROM keystore_trash ORDER BY company_id

-- A value that can't be read is kept for inspection: no sweep deletes it.
-- name: keep_unreadable
UPDATE whatsapp_keys SET expires_at = 9223372036854775807
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id

-- name: write_moved_value
UPDATE whatsapp_keys SET value = :value, value_nonce = keystore_nonce_of(:value)
WHERE company_id = :company_id AND key_type = :to_type AND key_id = :to_id

-- name: key_value
SELECT keystore_shown(value, value_nonce) FROM whatsapp_keys
WHERE company_id = :company_id AND key_type = :key_type AND key_id = :key_id

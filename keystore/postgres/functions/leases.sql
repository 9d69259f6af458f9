-- The lease of a company: one process at a time may write its keys.
--
-- A lease's row stays when the lease ends, so that epochs never start again. Its `seq` is the number of the last write
-- under its epoch.

-- Let a write to a company begin, or refuse it. Returns false when the database has this write, or a later one, already.
--
-- A write must carry the epoch of the live lease, and none without a live lease. It locks the lease's row until the
-- transaction ends, so a takeover waits for the write, and a write that waited for a takeover reads the new epoch. A company
-- that never had a lease has no row to lock.
--
-- A write without an epoch takes the name from the row of an ended lease. Its holder can't renew it any more, because its
-- memory lacks this write.
--
-- The writes of a holder may be numbered, from 1 on. A number that isn't above the last one is a repetition, or a write
-- that was given up on and arrives late: it changes nothing. A number may be left out, because a holder gives up on a
-- write that is refused; if that write arrives after all, it is late.
--
-- `known_seq` is the number of the last write that was acknowledged to the holder. If the database lacks it, the database went
-- back to an older state. A write would then hide that from the holder, so it is refused.
CREATE OR REPLACE FUNCTION keystore_admit(
    company text, with_epoch bigint, with_seq bigint, known_seq bigint, clock timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    at_time timestamptz := coalesce(clock, clock_timestamp());
    lease keystore_company_leases%ROWTYPE;
    live_epoch bigint;
BEGIN
    IF with_seq IS NOT NULL THEN
        UPDATE keystore_company_leases l SET seq = with_seq
        WHERE l.company_id = company AND l.epoch = with_epoch AND l.seq < with_seq AND l.seq >= coalesce(known_seq, 0)
          AND keystore_lease_is_live(l.expires_at, at_time);
        IF FOUND THEN
            RETURN true;
        END IF;
    END IF;
    IF with_epoch IS NULL THEN
        -- Before the shared lock: two writers that share it could not change the row.
        UPDATE keystore_company_leases l SET holder = ''
        WHERE l.company_id = company AND l.holder <> '' AND NOT keystore_lease_is_live(l.expires_at, at_time);
    END IF;
    SELECT * INTO lease FROM keystore_company_leases l WHERE l.company_id = company FOR SHARE;
    -- A lease that was live at first counts as live here, because its row has its name still.
    IF (with_epoch IS NULL AND lease.holder <> '')
       OR keystore_lease_is_live(lease.expires_at, coalesce(clock, clock_timestamp())) THEN
        live_epoch := lease.epoch;
    END IF;
    IF live_epoch IS DISTINCT FROM with_epoch THEN
        RAISE EXCEPTION 'the lease of % refuses this write', company
            USING ERRCODE = 'KS001', DETAIL = json_build_object('holder', lease.holder, 'epoch', live_epoch);
    END IF;
    IF lease.seq < known_seq THEN
        RAISE EXCEPTION 'the database has gone back: it lacks an acknowledged write of %', company
            USING ERRCODE = 'KS007', DETAIL = json_build_object('seq', lease.seq);
    END IF;
    RETURN with_seq IS NULL;
END $$;

-- Take the lease of a company under a new epoch. Returns the lease after the attempt: the new one, or that of another
-- holder which is still live. It waits for the writes under way. (The time is that before the wait, so a lease that ends
-- meanwhile counts as live, and its holder's successor tries again.)
CREATE OR REPLACE FUNCTION keystore_take_lease(company text, new_holder text, ttl_s double precision, force boolean, clock timestamptz)
RETURNS TABLE (holder text, epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    at_time timestamptz := coalesce(clock, clock_timestamp());
    until timestamptz := at_time + ttl_s * interval '1 second';
BEGIN
    RETURN QUERY
    INSERT INTO keystore_company_leases AS l (company_id, holder, epoch, expires_at, seq) VALUES (company, new_holder, 1, until, 0)
    ON CONFLICT (company_id) DO UPDATE
    SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at, seq = 0
    WHERE force OR l.holder = excluded.holder OR NOT keystore_lease_is_live(l.expires_at, at_time)
    RETURNING l.holder, l.epoch, l.expires_at, l.seq;
    IF NOT FOUND THEN
        RETURN QUERY SELECT l.holder, l.epoch, l.expires_at, l.seq FROM keystore_company_leases l WHERE l.company_id = company;
    END IF;
END $$;

-- Renew a lease for its holder, also after it has run out. Returns no row when it was released or has passed to another
-- holder or epoch, or when somebody wrote without a lease since it ran out.
CREATE OR REPLACE FUNCTION keystore_renew_lease(company text, of_holder text, with_epoch bigint, ttl_s double precision, clock timestamptz)
RETURNS TABLE (epoch bigint, expires_at timestamptz, seq bigint)
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    until timestamptz := coalesce(clock, clock_timestamp()) + ttl_s * interval '1 second';
BEGIN
    RETURN QUERY
    UPDATE keystore_company_leases l SET expires_at = until
    WHERE l.company_id = company AND l.holder = of_holder AND l.holder <> '' AND l.epoch = with_epoch
    RETURNING l.epoch, l.expires_at, l.seq;
END $$;

-- End a lease now, so that it can't be renewed. Returns false when it has ended, or has passed to another holder or epoch.
CREATE OR REPLACE FUNCTION keystore_release_lease(company text, of_holder text, with_epoch bigint, clock timestamptz)
RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    at_time timestamptz := coalesce(clock, clock_timestamp());
BEGIN
    UPDATE keystore_company_leases l SET expires_at = at_time, holder = ''
    WHERE l.company_id = company AND l.holder = of_holder AND l.epoch = with_epoch
      AND keystore_lease_is_live(l.expires_at, at_time);
    RETURN FOUND;
END $$;

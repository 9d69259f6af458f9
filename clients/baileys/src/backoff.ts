/** Delays between attempts. */

const FIRST_MS = 100
const LONGEST_MS = 5_000

/**
 * The delay before the next attempt: 100 ms, doubling up to 5 s. Each is shortened by a random part of up to half, so
 * that many bots don't reconnect at the same moment.
 */
export function backoffMs(failures: number, atLeastMs = 0, random: () => number = Math.random): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16))
  return Math.max(full * (0.5 + random() / 2), atLeastMs * (1 + random() / 4))
}

/** Resolves after `ms`. Its timer keeps the process alive, because a write may still have to be saved. */
export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

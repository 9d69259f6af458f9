/** How long to wait before trying again. */

const FIRST_MS = 100
const LONGEST_MS = 5_000

/** From a tenth of a second, doubling to five; each shortened by up to half, so that many bots don't come back as one. */
export function backoffMs(failures: number, atLeastMs = 0, random: () => number = Math.random): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 16))
  return Math.max(full * (0.5 + random() / 2), atLeastMs * (1 + random() / 4))
}

/** Keeps the process alive: something waits to be saved. */
export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

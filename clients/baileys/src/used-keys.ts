/** The keys that were read from memory since the last report. The store renews the expiry of reported keys. */
import { KeystoreRefused } from './errors.js'
import type { Transport } from './transport.js'

const IDS_PER_REQUEST = 1_000

export class UsedKeys {
  #used = new Map<string, Set<string>>()

  add(type: string, id: string): void {
    const ids = this.#used.get(type)
    if (ids) ids.add(id)
    else this.#used.set(type, new Set([id]))
  }

  /** Removes a key: it was written, and a write renews it without a report. */
  forget(type: string, id: string): void {
    this.#used.get(type)?.delete(id)
  }

  clear(): void {
    this.#used.clear()
  }

  get size(): number {
    let size = 0
    for (const ids of this.#used.values()) size += ids.size
    return size
  }

  /**
   * Reports all keys to the store, and returns those that it doesn't have: a sweep deleted them before their use was
   * known. If that fails, those not yet reported wait for the next report.
   */
  async report(transport: Transport, company: string): Promise<ReadonlyArray<readonly [string, string]>> {
    const missing: Array<readonly [string, string]> = []
    const used = Array.from(this.#used, ([type, ids]) => Array.from(ids, id => [type, id] as const)).flat()
    this.#used = new Map()
    while (used.length > 0) {
      const batch = used.slice(0, IDS_PER_REQUEST)
      try {
        missing.push(...(await transport.use(company, byType(batch))))
      } catch (error) {
        if (!(error instanceof KeystoreRefused)) for (const [type, id] of used) this.add(type, id)
        throw error
      }
      used.splice(0, IDS_PER_REQUEST)
    }
    return missing
  }
}

function byType(used: ReadonlyArray<readonly [string, string]>): Map<string, Set<string>> {
  const ids = new Map<string, Set<string>>()
  for (const [type, id] of used) {
    const ofType = ids.get(type)
    if (ofType) ofType.add(id)
    else ids.set(type, new Set([id]))
  }
  return ids
}

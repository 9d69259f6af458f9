/** Which keys were read from memory since the store last heard of it: a read is a use, and what is used stays. */
import type { Connection } from './connection.js'
import { KeystoreRefused } from './errors.js'

const IDS_PER_REQUEST = 1_000

export class Uses {
  #used = new Map<string, Set<string>>()

  add(type: string, id: string): void {
    const ids = this.#used.get(type)
    if (ids) ids.add(id)
    else this.#used.set(type, new Set([id]))
  }

  /** A write renews a key by itself. */
  forget(type: string, id: string): void {
    this.#used.get(type)?.delete(id)
  }

  get size(): number {
    let size = 0
    for (const ids of this.#used.values()) size += ids.size
    return size
  }

  /** Tells the store; what it couldn't be told is told next time. */
  async report(connection: Connection): Promise<void> {
    const used = Array.from(this.#used, ([type, ids]) => Array.from(ids, id => [type, id] as const)).flat()
    this.#used = new Map()
    while (used.length > 0) {
      const some = used.slice(0, IDS_PER_REQUEST)
      try {
        await connection.send({ method: 'POST', path: '/keys/used', body: JSON.stringify(byType(some)) })
      } catch (error) {
        if (!(error instanceof KeystoreRefused)) for (const [type, id] of used) this.add(type, id)
        throw error
      }
      used.splice(0, IDS_PER_REQUEST)
    }
  }
}

function byType(used: ReadonlyArray<readonly [string, string]>): Record<string, string[]> {
  const ids = new Map<string, string[]>()
  for (const [type, id] of used) {
    const some = ids.get(type)
    if (some) some.push(id)
    else ids.set(type, [id])
  }
  return Object.fromEntries(ids)
}

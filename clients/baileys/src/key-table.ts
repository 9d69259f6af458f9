/**
 * The keys of one type in memory. Each is one string, of its id and its JSON, and they are in order. A Map would take 40 bytes
 * more for each key, which is half of what is beside the JSON.
 */
export class KeyTable implements Iterable<readonly [string, string]> {
  #entries: string[]

  constructor(entries: Iterable<readonly [string, string]> = []) {
    this.#entries = Array.from(entries, ([id, json]) => startOf(id) + json).sort(inOrder)
  }

  get size(): number {
    return this.#entries.length
  }

  get(id: string): string | undefined {
    const start = startOf(id)
    const entry = this.#entries[this.#placeOf(start)]
    return entry?.startsWith(start) ? entry.slice(start.length) : undefined
  }

  set(id: string, json: string): void {
    const start = startOf(id)
    const at = this.#placeOf(start)
    this.#entries.splice(at, this.#entries[at]?.startsWith(start) ? 1 : 0, start + json)
  }

  delete(id: string): void {
    const start = startOf(id)
    const at = this.#placeOf(start)
    if (this.#entries[at]?.startsWith(start)) this.#entries.splice(at, 1)
  }

  clear(): void {
    this.#entries = []
  }

  /** Goes on in order if keys come or go meanwhile. */
  *[Symbol.iterator](): Generator<readonly [string, string]> {
    for (let at = 0, entry; (entry = this.#entries[at]) !== undefined; ) {
      const [id, start] = [entry.slice(0, entry.indexOf(END)), entry.slice(0, entry.indexOf(END) + 1)]
      yield [id, entry.slice(start.length)]
      at = this.#placeOf(start)
      if (this.#entries[at]?.startsWith(start)) at += 1
    }
  }

  /** The place of the first entry that isn't before this start of one. */
  #placeOf(start: string): number {
    let [low, high] = [0, this.#entries.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]! < start) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** No id has this character: it isn't printable. */
const END = '\0'

function startOf(id: string): string {
  return id + END
}

function inOrder(a: string, b: string): number {
  return a < b ? -1 : 1
}

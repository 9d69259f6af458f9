/**
 * Notices that a bot has wrapped its state in Baileys' `makeCacheableSignalKeyStore`: by the place in Baileys' code from which
 * `get` is called. The place is learned from a call through the same function.
 */
import type { Baileys } from './baileys.js'

type Get = (type: string, ids: readonly string[]) => Promise<Record<string, unknown>>
type Wrap = (store: { get: Get }, logger: object, cache: object) => { get: Get }

/** The place in `makeCacheableSignalKeyStore` that reads from the store; undefined if this Baileys has no such function. */
export async function readsInWrapper(baileys: Baileys): Promise<string | undefined> {
  const { makeCacheableSignalKeyStore: wrap } = baileys as { makeCacheableSignalKeyStore?: Wrap }
  let place: string | undefined
  const get: Get = async () => {
    place = callerOf(get)
    return {}
  }
  const nothing = (): void => {}
  try {
    await wrap?.({ get }, { trace: nothing }, { get: nothing, set: nothing, del: nothing, flushAll: nothing }).get('session', ['a'])
  } catch {
    // It is another function of that name.
  }
  return place
}

/** The place in the code from which this function was called. */
export function callerOf(callee: Get): string {
  const { stackTraceLimit } = Error
  const trace: { stack?: string } = {}
  Error.stackTraceLimit = 1
  Error.captureStackTrace(trace, callee)
  const { stack } = trace
  Error.stackTraceLimit = stackTraceLimit
  return String(stack).split('\n').at(-1)!
}

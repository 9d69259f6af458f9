/**
 * Timeouts of the client and of Baileys in a test's hands. Those of requests go on as they are: with a mocked time
 * they end connections that are gone already, or requests that have just begun.
 */

let restore = () => {}

/** Takes over `setTimeout` and `clearTimeout`. Returns `tick(ms)`, which lets time pass. */
export function takeTimeouts() {
  const { setTimeout, clearTimeout } = globalThis
  const waiting = new Set()
  let now = 0
  globalThis.setTimeout = (action, ms = 0, ...args) => {
    if (/undici|node_modules\/pg|dist\/(http|postgres\/connections)\.js/.test(new Error().stack)) return setTimeout(action, ms, ...args)
    const timer = { at: now + ms, run: () => action(...args), ref: () => timer, unref: () => timer }
    waiting.add(timer)
    return timer
  }
  globalThis.clearTimeout = timer => waiting.delete(timer) || clearTimeout(timer)
  restore = () => Object.assign(globalThis, { setTimeout, clearTimeout })
  return ms => {
    now += ms
    for (const timer of [...waiting].filter(({ at }) => at <= now)) {
      waiting.delete(timer)
      timer.run()
    }
  }
}

/** Gives `setTimeout` and `clearTimeout` back. */
export function releaseTimeouts() {
  restore()
  restore = () => {}
}

/**
 * Timeouts of the client and of Baileys in a test's hands. Those of Node's own `fetch` go on as they are: with a mocked
 * time they end connections that are gone already, which Node reports as an error of another test.
 */

let restore = () => {}

/** Takes over `setTimeout` and `clearTimeout`. Returns `tick(ms)`, which lets time pass. */
export function takeTimeouts() {
  const { setTimeout, clearTimeout } = globalThis
  const waiting = new Set()
  let now = 0
  globalThis.setTimeout = (action, ms = 0, ...args) => {
    if (new Error().stack.includes('undici')) return setTimeout(action, ms, ...args)
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

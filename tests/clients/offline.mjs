/**
 * Keeps a bot away from WhatsApp: a lookup of any name but this machine's fails after a minute. Loaded with `node --import`.
 *
 * (If it failed at once, nothing would keep the bot's process alive, and it would end before a test stops it.)
 */
import dns from 'node:dns'

const MINUTE_MS = 60_000

const { lookup } = dns
dns.lookup = (name, options, done = options) => {
  if (name === 'localhost') return lookup(name, options, done)
  setTimeout(done, MINUTE_MS, Object.assign(new Error(`no address: ${name}`), { code: 'ENOTFOUND' }))
}

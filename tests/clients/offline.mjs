/** Keeps a bot away from WhatsApp: no name but this machine's has an address. Loaded with `node --import`. */
import dns from 'node:dns'

const { lookup } = dns
dns.lookup = (name, options, done = options) => {
  if (name === 'localhost') return lookup(name, options, done)
  setImmediate(done, Object.assign(new Error(`no address: ${name}`), { code: 'ENOTFOUND' }))
}

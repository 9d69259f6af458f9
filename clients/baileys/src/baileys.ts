/** The names that this package uses of Baileys. Baileys 6 is CommonJS, so some may only be in its default export. */
import * as baileys from 'baileys'

const { BufferJSON, initAuthCreds, proto } =
  'proto' in baileys ? baileys : (baileys as unknown as { default: typeof baileys }).default

export { BufferJSON, initAuthCreds, proto }

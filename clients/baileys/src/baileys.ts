/** What we use of Baileys. 6 is CommonJS: of its names Node finds some by itself, and all in its default export. */
import * as found from 'baileys'

const { BufferJSON, initAuthCreds, proto } =
  'proto' in found ? found : (found as unknown as { default: typeof found }).default

export { BufferJSON, initAuthCreds, proto }

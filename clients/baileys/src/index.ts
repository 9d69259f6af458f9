export type { AccountOptions, KeystoreAuthState, KeystoreLogger, KeystoreStats } from './auth-state.js'
export type { Baileys } from './baileys.js'
export {
  KeystoreClosed,
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable
} from './errors.js'
export type { SecretKey } from './sealing.js'
export { connectKeystore, useKeystoreAuthState, type ConnectOptions, type Keystore, type KeystoreOptions } from './keystore.js'

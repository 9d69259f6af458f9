export {
  useKeystoreAuthState,
  type KeystoreAuthState,
  type KeystoreLogger,
  type KeystoreOptions,
  type KeystoreStats
} from './auth-state.js'
export {
  KeystoreClosed,
  KeystoreError,
  KeystoreLeaseHeld,
  KeystoreLeaseLost,
  KeystoreRefused,
  KeystoreUnavailable
} from './errors.js'

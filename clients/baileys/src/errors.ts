/** The errors of this package. Catch the base class, or those that you can act on. None contains a value or a token. */

export class KeystoreError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

/** The service itself refused, and a retry won't help: a wrong token or company, a quota, an invalid request. */
export class KeystoreRefused extends KeystoreError {
  constructor(
    message: string,
    readonly status: number,
    readonly slug: string
  ) {
    super(message)
  }
}

/** The service or its database didn't answer, or something else did. A write stays queued and is retried. */
export class KeystoreUnavailable extends KeystoreError {
  constructor(
    message: string,
    readonly retryAfterMs = 0
  ) {
    super(message)
  }
}

/** Another process holds the account's lease. */
export class KeystoreLeaseHeld extends KeystoreError {
  constructor(
    message: string,
    readonly holder: string,
    readonly expiresAt: Date
  ) {
    super(message)
  }
}

/** Somebody else has written, so this process writes nothing any more. End it. */
export class KeystoreLeaseLost extends KeystoreError {}

/** The database lacks a write that it had acknowledged, so this one wasn't written. The client renews its lease, and writes all. */
export class KeystoreWentBack extends KeystoreError {}

/** The auth state was used after `close()`. */
export class KeystoreClosed extends KeystoreError {}

"""The names in a WSGI environ under which a worker's front hands a request over to the application."""

BODY = "keystore.body"
"""The body: bytes, or the Problem that refuses it. Without a body it is absent."""

CALLER = "keystore.caller"
"""The record of the token, or the error of its look-up. A request that counts for its token already has a record."""

REFUSED = "keystore.refused"
"""The Problem that refuses the request before anything else is done for it."""

SLOW = "keystore.slow"
"""True once the database's own limit ended a request's statement, or its wait for locked rows."""

RESERVE_ANSWER = "keystore.reserve-answer"
"""A function that gets the size of the answer, and raises Problem if the worker can't hold it."""

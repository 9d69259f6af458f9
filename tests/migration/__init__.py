"""Migrations, adopted databases, and the rights of roles: the owner, bots, the service, a monitor."""

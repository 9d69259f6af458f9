"""A growing number of companies on one Postgres server: 10, 1,000 and 10,000."""

"""Databases that hold what must not be lost: a file of SQLite, or a schema of PostgreSQL that several machines share."""

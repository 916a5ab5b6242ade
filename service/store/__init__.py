"""The database and the blobs. Every SQL statement of epochd is in this package."""

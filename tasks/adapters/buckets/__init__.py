"""Object stores: what lies in a bucket of an S3-compatible server."""

"""A store whose shards lie in an object store: conditional puts, a lease for the one writer, a bounded cache for readers."""

"""Pictures of what the network saw, as arrays."""

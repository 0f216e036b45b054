"""Which networks a config can ask for, beside GMIC itself."""

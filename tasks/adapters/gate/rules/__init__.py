"""The gate's rules, in the groups of the reference table."""

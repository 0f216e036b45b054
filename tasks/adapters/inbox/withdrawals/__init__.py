"""Withdrawals: what a person said must never be published again, and how it is taken out."""

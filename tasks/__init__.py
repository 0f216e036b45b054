"""The hands: one Prefect task per stage, thin: open, call pure code, write, report."""

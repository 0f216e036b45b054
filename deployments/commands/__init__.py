"""Commands of `mammo` that are no stage of the pipeline."""

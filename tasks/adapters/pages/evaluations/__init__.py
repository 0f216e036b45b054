"""Pages about evaluations that stand alone: of one, and of the folds of a cross-validation."""

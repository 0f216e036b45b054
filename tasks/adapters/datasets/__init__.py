"""What a data set may break, how its subjects are identified, and the synthetic cohort."""

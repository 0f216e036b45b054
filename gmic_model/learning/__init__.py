"""From stored rows to trained weights: batches, steps, an epoch, several processes."""

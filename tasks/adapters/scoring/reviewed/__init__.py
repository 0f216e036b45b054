"""What a reviewer asks of an evaluation: the original read beside the model, lesion by lesion, group by group."""

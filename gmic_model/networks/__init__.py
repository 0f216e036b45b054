"""Which networks a config can ask for: how each is built, what it is trained with, where pre-training hands weights to."""

"""Other systems: who they are, how they are asked and fetched from, and what of theirs reaches the inbox."""

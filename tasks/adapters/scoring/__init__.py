"""From weights and rows of the store to scores, tables of scores and what they are worth."""

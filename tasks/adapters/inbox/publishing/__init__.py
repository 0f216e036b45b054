"""What becomes visible of the ledger's lines, taken one at a time: the lines of a million images are never there at once."""

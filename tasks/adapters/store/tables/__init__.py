"""The manifest's lines by column: as Arrow has them, and as the texts that the data version is made of."""

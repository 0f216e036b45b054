"""From what is read of a public data set to a folder that `mammo pipeline` reads."""

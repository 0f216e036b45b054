"""What a public data set says of itself, read from its own tables and files: rules and shapes that several sets share."""

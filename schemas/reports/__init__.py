"""What a stage says when it has finished: records that pages, the command line and later stages read."""

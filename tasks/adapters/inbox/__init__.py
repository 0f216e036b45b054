"""From a folder of files to published rows: what arrived, what was seen, where it went."""

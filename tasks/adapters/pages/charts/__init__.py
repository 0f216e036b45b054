"""Charts of the pages as SVG, each with its numbers for a pointer and for a screen reader."""

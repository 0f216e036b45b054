"""The two residual networks below GMIC, their batch statistics and their memory layout."""

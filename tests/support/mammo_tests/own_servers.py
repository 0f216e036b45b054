"""What a Prefect server that a test starts is told, where what it leaves out is not the point."""

from __future__ import annotations

NO_NEW_BLOCKS = dict.fromkeys(
    ("PREFECT_SERVER_REGISTER_BLOCKS_ON_START", "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION"), "false"
)
"""It does not look for the block types of newly installed packages, which takes it a second."""

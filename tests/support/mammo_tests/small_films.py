"""A part of mini-MIAS that is large enough to be trained on: made-up films in the set's own format and size."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from mammo_tests.excerpt_images import breast

SIZE_PX: Final = 1024
_ROWS: Final = ("G CIRC B {place}", "D CALC M {place}", "F NORM", "G SPIC M {place}", "F MISC B {place}", "D NORM")
"""What the right film of each pair shows, in turn; the left one shows nothing."""


def mias_part(root: Path, pairs: int) -> None:
    """Writes Info.txt and two films of each patient; a finding is a bright disc where the table has its circle."""
    root.mkdir(parents=True)
    lines = ["(made up, in the format of Info.txt)", ""]
    rows, columns = np.indices((SIZE_PX, SIZE_PX))
    for pair in range(pairs):
        for number in (2 * pair + 1, 2 * pair + 2):
            side = "R" if number % 2 else "L"
            film = breast((SIZE_PX, SIZE_PX), side, ("film", number), top=180, dtype=np.uint8)
            row = "G NORM"
            if side == "R":
                x, y, radius = 640 + 17 * (pair % 9), 420 + 31 * (pair % 7), 40 + 3 * (pair % 5)
                row = _ROWS[pair % len(_ROWS)].format(place=f"{x} {y} {radius}")
                if "NORM" not in row:
                    film[np.hypot(rows - (SIZE_PX - 1 - y), columns - x) <= radius] = 240
            lines.append(f"mdb{number:03d} {row}")
            (root / f"mdb{number:03d}.pgm").write_bytes(b"P5\n%d %d\n255\n" % (SIZE_PX, SIZE_PX) + film.tobytes())
    (root / "Info.txt").write_text("\n".join(lines) + "\n")

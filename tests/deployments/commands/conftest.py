"""What the tests of several commands start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def scores_csv(tmp_path: Path) -> Path:
    """Forty exams, three readers, one model; a reader's name that is markup."""
    rng = np.random.default_rng(1)
    label_B = (rng.random(80) < 0.3).astype(int)
    score_SB = 1 / (1 + np.exp(-(rng.normal(size=(4, 80)) + rng.normal(size=80) + 1.2 * label_B)))
    lines = ["case_ID,side,label,Reader1_POM,Reader2_POM,Reader<b>&_POM,AI_net_POM"]
    lines += [
        f"{breast // 2},{'LR'[breast % 2]},{label_B[breast]}," + ",".join(f"{score:.3f}" for score in score_SB[:, breast])
        for breast in range(80)
    ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines))
    return path

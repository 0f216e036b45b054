"""The page about a further network, followed step by step in a copy of the repository."""

from __future__ import annotations

from pathlib import Path

from mammo_tests.seams import copy_of_repository

_TRAIN_AND_LOOK = """
import sys
from pathlib import Path
import pandas as pd
import torch
from mammo_tests.training_store import make_store, small_config
from schemas.config.run import RunConfig
from tasks.adapters.models.networks import load_trained
from tasks.adapters.pages.gallery.drawn_views import draw_view
from tasks.adapters.scoring.scored_views import score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import lines_of, read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import training_report, training_request
from gmic_model.networks.registry import config_of

content = small_config(Path(sys.argv[1])).model_dump() | {"model": {"kind": "brightness", "spread_weight": 2.0}}
config = RunConfig.model_validate(content)
splits = make_store(config)
request = training_request(config, splits, None, config.workspace_dir / "train" / "run")
run_training(request, lambda message: None)
report = training_report(request)
network = load_trained(report)
store = open_store(config.workspace_dir / "exam_store")
manifest = read_manifest(store)
views = stored_views(store, manifest, config.preprocess.window_px)
line = next(line for line in lines_of(manifest) if line["has_lesion_mask"])
(view,) = score_rows(network, views, [int(line["row"])], batch_images=1, device=torch.device("cpu"))
image = draw_view(view, line, views, config_of(network), config.workspace_dir)
print(len(report.epochs), config_of(network).title, len(view.score_C), view.corner_K2.shape, image.panel_path.is_file())
"""


def test_the_page_adds_a_network(tmp_path: Path) -> None:
    """After its steps the copy's own tests of networks pass with it, and it is trained, loaded, scored and drawn by its name.

    It has neither patches nor a map, so nothing behind it may count on them.
    """
    copy = copy_of_repository(tmp_path)
    steps = copy.follow("docs/how-to/add-a-network.md")
    assert {step.path for step in steps} == {
        "schemas/config/network.py",
        "gmic_model/networks/brightness.py",
        "gmic_model/networks/registry.py",
        "tests/gmic_model/networks/test_registry.py",
    }
    assert "passed" in copy.pytest("tests/gmic_model/networks/test_registry.py")
    said = copy.python("-c", _TRAIN_AND_LOOK, str(tmp_path / "workspace"))
    assert said.splitlines()[-1] == "3 brightness 2 (0, 2) True"

"""What somebody does with what the pages of ``docs/how-to/add-a-...`` have added: scripts for a Python that imports the copy.

Each gets a folder as its first argument. ``TRIED`` runs them in one interpreter, where each is alone with its names, and the
tests before and after them: what all import is imported once.
"""

from __future__ import annotations

from typing import Final

FOUND: Final = """
import contextlib
import sys

from deployments.cli import main
from tasks.adapters.datasets.catalogue import PROFILES, profile_named
from tasks.adapters.gate.rules.table import RULES

print('county' in PROFILES, profile_named('county').title)
print(RULES['V16'].by, RULES['V16'].demand)
sys.argv = ["mammo", "census", "--help"]
with contextlib.suppress(SystemExit):
    main()
"""

INGESTED: Final = """
import sys
from pathlib import Path

from mammo_tests.mammograms import accept, setting, write
from mammo_tests.manifests import clean_manifest
from mammo_tests.reference import wanted
from gmic_model.preprocess import prepare_view
from schemas.exam import UNKNOWN
from tasks.adapters.checks.image_suites import manifest_suites
from tasks.adapters.gate.messages import PreparedImage
from tasks.adapters.inbox.shard_writer import stored_line
from tasks.adapters.store.exam_store import create_store, reserve_rows
from tasks.adapters.store.manifest import publish, read_manifest
from schemas.config.ingest import PreprocessConfig

folder, lines = Path(sys.argv[1]), []
for row, edit in enumerate([setting(BodyPartThickness="61"), None]):
    record, gated = accept(write(folder / f"{row}.dcm", edit=edit))
    prepared = prepare_view(gated.pixels_HW, record.laterality)
    ready = PreparedImage(
        record=record, prepared=prepared, mask_HW=None, is_mask_unusable=False, pixel_sha256=gated.pixel_sha256,
        warnings=gated.warnings, background_median=gated.background_median,
    )
    labels = dict.fromkeys(("benign", "malignant", "birads"), UNKNOWN) | {"batch": 1, "batch_date": "2026-01-02"}
    lines.append(stored_line(row, ready) | labels)
store = create_store(folder / "exam_store", preprocess=PreprocessConfig(), preprocess_version="1", rows_per_shard=4, key_id="k")
reserve_rows(store, 4)
publish(store, lines, [])
column = read_manifest(store)["body_part_thickness_mm"]
print(column[0], column.isna().tolist())
checks = [check for suite in manifest_suites(clean_manifest().assign(body_part_thickness_mm=300.0)) for check in suite.checks]
print([check.name for check in checks if check.column == "body_part_thickness_mm"])
print(["body_part_thickness_mm" in line for line in (lines[0], lines[1])])
(page,) = [text for name, text in wanted().items() if name.endswith("store-layout.md")]
print([line for line in page.splitlines() if "body_part_thickness_mm` |" in line])
"""

DRAWN: Final = """
import sys
from pathlib import Path

import pandas as pd

from gmic_model.metrics.bootstrap import Bootstrap
from tasks.adapters.pages.report_page import render_report
from tasks.adapters.scoring.model_ranking import with_ranking

sys.path.insert(0, "tests/tasks/adapters/pages")
from test_report_page import CREATED, make_config, make_report

folder = Path(sys.argv[1])
breasts = pd.DataFrame({"patient_id": list("ABCD"), "score": [0.9, 0.1, 0.7, 0.3], "label": [1, 0, 1, 0]})
metrics = with_ranking(breasts, breasts, Bootstrap(resamples=10, confidence=0.95, seed=0))
report = make_report(folder)
evaluated = report.evaluation.model_copy(update={"by_finding": {"malignant": metrics}})
report = report.model_copy(update={"evaluation": evaluated})
path = folder / "report.html"
render_report(report, config=make_config(folder), scores=[], output_path=path, created=CREATED)
print(path.read_text(encoding="utf-8"))
"""

TRAINED: Final = """
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
from tasks.adapters.training.process_main import serve
from tasks.adapters.training.request import training_report, training_request
from gmic_model.learning.processes import ALONE
from gmic_model.networks.registry import config_of

content = small_config(Path(sys.argv[1]), epochs=1).model_dump() | {"model": {"kind": "brightness", "spread_weight": 2.0}}
config = RunConfig.model_validate(content)
splits = make_store(config)
request = training_request(config, splits, None, config.workspace_dir / "train" / "run")
serve(request, ALONE)  # as a training's own process does
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

COUNTED: Final = """
import sys
from pathlib import Path

from deployments.cli import main
from mammo_tests.training_store import make_store, small_config

folder = Path(sys.argv[1])
config = small_config(folder / "workspace")
make_store(config, exams=3)
(folder / "run.yaml").write_text(config.model_dump_json())
sys.argv = ["mammo", "census", str(folder / "run.yaml"), "--json"]
try:
    main()
except SystemExit as ended:
    print("ended with", ended.code or 0)
"""

TRIED: Final = """
import gc
gc.disable()  # what is imported stays, and the rest ends with the process
import contextlib, io, json, os, runpy, sys
import pytest


def test(*arguments):
    for name in [name for name in sys.modules if name.rpartition(".")[2].startswith("test_")]:
        del sys.modules[name]  # its file may be another by now
    print("ended with", int(pytest.main([*arguments])))


def write(module):
    sys.argv = [module, "write"]
    runpy.run_module(module, run_name="__main__")


def use(script, folder):
    sys.argv = ["script", folder]
    exec(compile(script, "script", "exec"), {"__name__": "script"})


said = {}
for name, do, *given in json.loads(sys.argv[1]):
    said[name] = io.StringIO()
    with contextlib.redirect_stdout(said[name]):
        {"move": os.replace, "test": test, "use": use, "write": write}[do](*given)
print(json.dumps({name: text.getvalue() for name, text in said.items()}))
"""
"""Does one thing after another, and prints what each printed, as the last line's JSON.

Its argument is JSON too. Each has a name, and is to *move* one file into the place of another, to *test* with pytest's
arguments, to *write* with a module as ``make reference`` does, or to *use* what was added: a script's text and its folder.
"""

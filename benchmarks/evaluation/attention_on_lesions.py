"""How often the patch with most attention touches the lesion, over the annotated test views of a finished workspace.

python -m benchmarks.evaluation.attention_on_lesions demo
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import torch

from schemas.config.run import Stage
from schemas.reports.data import SplitReport
from schemas.reports.training import TrainReport
from tasks.adapters.models.networks import load_trained
from tasks.adapters.scoring.localized_views import annotated_rows, annotations_of
from tasks.adapters.scoring.scored_views import score_rows
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import manifest_with_splits, read_manifest
from tasks.adapters.store.views import stored_views
from tasks.adapters.workspace import Workspace


def main(workspace_dir: Path) -> None:
    """Prints the share and the number of annotated views of each finding."""
    workspace = Workspace(workspace_dir)
    splits = workspace.read_report(Stage.SPLIT.value, SplitReport)
    network = load_trained(workspace.read_report(Stage.TRAIN.value, TrainReport))
    manifest = manifest_with_splits(splits, read_manifest(open_store(workspace.store_dir)))
    test = manifest[manifest["split"] == "test"]
    views = stored_views(open_store(workspace.store_dir), manifest, network.config.image_size)
    annotated = annotated_rows(test)
    patch_rows, patch_columns = network.config.patch_px
    touches: defaultdict[str, list[bool]] = defaultdict(list)
    rows = [int(row) for row in test["row"] if int(row) in annotated]
    for view in score_rows(network, views, rows, batch_images=8, device=torch.device("cpu")):
        top, left = view.corner_K2[int(view.attention_K.argmax())].tolist()
        for annotation in annotations_of(annotated[view.row], views):
            patch_HW = annotation.mask_HW[max(top, 0) : top + patch_rows, max(left, 0) : left + patch_columns]
            touches[annotation.finding.value].append(bool(patch_HW.any()))
    for finding, are_touched in sorted(touches.items()):
        print(f"{finding}: {sum(are_touched) / len(are_touched):.2f} of {len(are_touched)} annotated test views")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

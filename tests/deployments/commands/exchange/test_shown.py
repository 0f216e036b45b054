"""``mammo pacs show``: from a study to its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deployments.cli import main
from mammo_tests.other_systems import free_port
from schemas.reports.pages import ExplainedImage, ExplainReport, ImageScore, PredictReport
from tasks.adapters.pseudonyms import open_key
from tasks.adapters.workspace import Workspace

Says = Callable[..., tuple[int, str, str]]
SHOWN, PREDICTED, UNKNOWN = "2.25.1", "2.25.2", "2.25.3"


@pytest.fixture
def says(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Runs ``mammo pacs show CONFIG STUDY`` in a workspace with one exam in the gallery, and one that was predicted."""
    workspace = Workspace(tmp_path / "ws")
    key = open_key(workspace.key_path, creates=True)
    of = {"laterality": "L", "view_position": "CC", "scores": {"malignant": 0.5}}
    path = tmp_path / "ws" / "some.png"
    image = ExplainedImage(
        image_id="I1",
        exam_id=key.exam_id(SHOWN),
        panel_path=path,
        saliency_path=path,
        labels={},
        **of,  # type: ignore[arg-type]
    )
    index = tmp_path / "ws" / "explain" / "gallery" / "index.html"
    workspace.write_report("explain", ExplainReport(output_dir=tmp_path / "ws", images=(image,), gallery_path=index))
    score = ImageScore(image_id="I2", exam_id=key.exam_id(PREDICTED), gate_warnings="", **of)  # type: ignore[arg-type]
    predicted = PredictReport(
        images=(score,), breast_scores={}, missing=(), quarantined_by_reason={}, advice=None, panels=(),
        scores_path=tmp_path / "ws" / "scores.csv", report_path=tmp_path / "ws" / "predict" / "prediction.html",
    )  # fmt: skip
    workspace.write_report("predict", predicted)

    def run(*arguments: str) -> tuple[int, str, str]:
        web = {"kind": "dicomweb", "url": f"http://127.0.0.1:{free_port()}/dicom-web", "attempts": 1}
        content = {"workspace_dir": str(tmp_path / "ws"), "ingest": {"source_dir": "in"}, "pacs": {"peers": {"web": web}}}
        config_path = tmp_path / "run.yaml"
        config_path.write_text(yaml.safe_dump(content))
        monkeypatch.setattr("sys.argv", ["mammo", "pacs", "show", str(config_path), *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_study_leads_to_its_page(says: Says, tmp_path: Path) -> None:
    """Of the gallery, or its line on the page of predictions: the UID is digested here, and no other system is asked."""
    key = open_key(Workspace(tmp_path / "ws").key_path)
    folder = (tmp_path / "ws").as_uri()
    assert says(SHOWN) == (0, f"{folder}/explain/gallery/{key.exam_id(SHOWN)}.html\n", "")
    assert says(PREDICTED) == (0, f"{folder}/predict/prediction.html#{key.exam_id(PREDICTED)}\n", "")


def test_what_is_shown_nowhere_is_a_sentence(says: Says) -> None:
    """A study that was not ingested; a number that no PACS can be asked for, or only one that is away. None is repeated."""
    code, _, error = says(UNKNOWN)
    assert code == 2 and "No page of this workspace" in error and UNKNOWN not in error
    code, _, error = says("CANARY1")
    assert code == 2 and "StudyInstanceUID" in error and "CANARY" not in error
    code, _, error = says("CANARY1", "--peer", "web")
    assert code == 75 and "cannot be reached" in error and "CANARY" not in error

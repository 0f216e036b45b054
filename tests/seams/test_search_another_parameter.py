"""The page about a further searched parameter: its YAML is the only thing that is written."""

from __future__ import annotations

from pathlib import Path

import yaml

from mammo_tests.seams import ROOT
from schemas.config.run import RunConfig
from tasks.adapters.training.search_study import SearchStudy, trial_config


def test_the_page_searches_a_further_parameter(tmp_path: Path) -> None:
    """Its block of YAML, read as a config: each path is drawn within its ends, and set in the trial's config."""
    page = (ROOT / "docs" / "how-to" / "search-another-parameter.md").read_text(encoding="utf-8")
    content = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    config = RunConfig.model_validate({"workspace_dir": tmp_path, "ingest": {"source_dir": "exams"}, **content})
    assert config.search.study == "with-decay"
    study = SearchStudy(config.search, tmp_path)
    study.prepare("identity")
    for _ in range(5):
        with study.claimed_trial() as trial:
            assert trial is not None and set(trial.parameters) == set(content["search"]["ranges"])
            found = trial_config(config, trial)
            assert found.train.ema_decay is not None and 0.9 <= found.train.ema_decay <= 0.99
            assert found.model.model_dump()["K"] in range(2, 9)
            assert 10**-5.5 <= found.train.learning_rate <= 10**-3.8
            trial.complete(0.5, checkpoint=tmp_path, sha256="")
    assert set(study.records()[0].parameters) == set(content["search"]["ranges"])

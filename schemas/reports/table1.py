"""What ``mammo reproduce table1`` reports: the paper's Table 1, row by row, beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from schemas.config.network import TableRow
from schemas.exam import Finding
from schemas.reports.evaluation import AurocDifference, JudgedPatients, ModelSpread
from schemas.reports.report import Interval, Provenance, Report, ReportPath


class PaperLocalization(NamedTuple):
    """Continuous F1, precision and recall of the paper's section 3.3."""

    f1: float
    precision: float
    recall: float


PAPER_AUROC: Mapping[TableRow, Mapping[Finding, float]] = {
    variant: {Finding.MALIGNANT: malignant, Finding.BENIGN: benign}
    for variant, malignant, benign in (
        (TableRow.RESNET22, 0.827, 0.731),
        (TableRow.LOC, 0.885, 0.777),
        (TableRow.MIL, 0.878, 0.766),
        (TableRow.NOATTN, 0.823, 0.726),
        (TableRow.RANDOM, 0.757, 0.692),
        (TableRow.LOC_RANDOM, 0.889, 0.776),
        (TableRow.GMIC, 0.900, 0.784),
    )
}
"""Table 1 of the paper, in its order: mean test AUROC of the search's five best models."""

PAPER_LOCALIZATION: Mapping[Finding, PaperLocalization] = {
    Finding.MALIGNANT: PaperLocalization(0.207, 0.288, 0.254),
    Finding.BENIGN: PaperLocalization(0.133, 0.135, 0.224),
}


TRAINED_AS = {TableRow.LOC: TableRow.GMIC, TableRow.MIL: TableRow.GMIC, TableRow.LOC_RANDOM: TableRow.RANDOM}
"""Rows that are another prediction of another row's weights (paper 3.2); every other row is trained as itself."""


class Table1Cell(Report):
    """One row's numbers for one finding, over its models."""

    paper_auroc: float
    auroc: ModelSpread
    auprc: ModelSpread
    ensemble_auroc: Interval = Field(description="AUROC of the models' mean score")
    minus_gmic: AurocDifference | None = Field(
        description="Ensemble AUROC less that of the row GMIC; None for GMIC, or not defined"
    )
    localization_images: int
    localization_f1: Interval = Field(description="F1 of the model with the best malignant F1 on tuning (paper 3.3)")
    localization_precision: Interval
    localization_recall: Interval


class Table1Row(Report):
    """One row of Table 1."""

    variant: TableRow
    trained_as: TableRow = Field(description="Whose weights these are: gmic-loc and gmic-mil are gmic's other predictions")
    models: int
    model_sha256: tuple[str, ...]
    localization_sha256: str = Field("", description="Of the weights whose localisation it is: best malignant F1 on tuning")
    by_finding: dict[str, Table1Cell]
    patients: JudgedPatients | None = Field(None, description="Whether the weights had seen them; None = nobody looked")


class Table1Report(Report):
    """The paper's table beside ours."""

    rows: tuple[Table1Row, ...]
    breasts: dict[str, int] = Field(description="Test breasts with a known label, by finding")
    positive_breasts: dict[str, int]
    test_patients: dict[str, int] = Field({}, description="Whose breasts these are, by finding; empty in former reports")
    positive_patients: dict[str, int] = Field({}, description="Of these, with the finding in some breast")
    confidence: float
    resamples: int
    markdown_path: ReportPath
    provenance: Provenance

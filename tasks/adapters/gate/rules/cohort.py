"""Rules on more than one file (E, I06), and on what is found when the breast is cut out (C): other modules apply them."""

from __future__ import annotations

from tasks.adapters.gate.rules.rule import BLOCK, WARN, row

row("I06", BLOCK, "A SOPInstanceUID comes with one image, patient, exam, side, view, date and age only", by="inbox.claims")
row("C01", BLOCK, "A breast is found in the image", by="gmic_model.preprocess")
row(
    "C02",
    BLOCK,
    "The pixel spacing is known where `preprocess.pixel_spacing_mm` asks for a common one",
    by="gmic_model.preprocess",
)
row("E01", WARN, "An exam has all four standard views", by="checks.image_suites")
row("E02", WARN, "An exam has one image per view; where a view comes twice, both are used", by="checks.image_suites")
row("E03", BLOCK, "No two images of different UIDs have the same pixels", by="inbox.claims")
row("E04", BLOCK, "An exam has one patient and one date", by="inbox.claims")

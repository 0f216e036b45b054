"""What a run can say to the items of a reporting guideline: sentences of its config and reports, and what is left to people.

Nothing is guessed: what no report knows is not answered, and where only a part is known, the rest is named. Folders and files
are not named: their names can identify a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.config.run import RunConfig
from tasks.adapters.models.scorings import scorings_sentence
from tasks.adapters.pages.charts.training_curves import kept_for
from tasks.adapters.pages.reporting.sentences import (
    KnownRun,
    areas,
    files_refused,
    first_weights,
    group_sizes,
    lesion_marks,
    network_sentence,
    operating_points,
    part_of,
    pointing,
    shown_findings,
    split_sizes,
    updates,
)
from tasks.adapters.scoring.metrics_table import patients_sentence, weights_sentence

SECTIONS: Final = {
    "cohort": "Cohort",
    "checks": "Data quality",
    "training": "Training",
    "performance": "Test performance",
    "operating": "Operating points",
    "calibration": "Calibration",
    "subgroups": "Subgroups",
    "localisation": "Localisation",
    "measures": "All measures",
    "failures": "Failures",
    "gallery": "Example panels",
    "provenance": "Provenance",
    "card": "Model card",
    "config": "Configuration",
}
"""Headings of the run's report by the name of their section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of an item.

    Attributes:
        said: Sentences from this run.
        left: What its authors have to add; empty = nothing.
        see: Section of the run's report that has it in full, of ``SECTIONS``; empty = none.
    """

    said: tuple[str, ...]
    left: str = ""
    see: str = ""


def answers(report: KnownRun, config: RunConfig) -> dict[str, Answer]:
    """An answer to each topic that a run knows something of."""
    is_of_training = report.train is not None and report.evaluation.model_sha256 in ("", report.train.checkpoint_sha256)
    return {
        **_data_answers(report, config),
        **_image_answers(report, config),
        **_model_answers(report, config, is_of_training),
        **_training_answers(report, config, is_of_training),
        **_sharing_answers(report),
        **_result_answers(report, config),
    }


def _data_answers(report: KnownRun, config: RunConfig) -> dict[str, Answer]:
    ingest, split = report.ingest, report.split
    eligible = (
        f"{ingest.files_found:,} files were looked at under the rules of profile {config.ingest.profile}: "
        f"{ingest.images_published:,} images of {ingest.exams:,} exams were taken in, {files_refused(report)} files refused, "
        f"{ingest.files_not_ours:,} were objects of another kind.",
    )
    divided = {
        "seed": f"Drawn at random by seed {config.split.seed}",
        "file": f"Given by a file, sha256 {split.file_sha256[:12]}",
        "external": "No division: every patient is a test patient",
        "folds": f"Fold {split.fold} of {config.split.folds} tests, the others train",
    }[split.divided_by]
    synthetic = () if config.phantom is None else ("The exams are synthetic (phantom): no patient took part.",)
    missing = (
        f"{ingest.exams_incomplete:,} exams lack a standard view: a breast's score is the mean of the images that it has.",
        f"{ingest.unlabelled_breasts:,} breasts have no label. What is not known is neither trained nor scored as absent.",
    )
    return {
        "source": Answer(said=(*synthetic, *eligible), left="centres, years, how they were chosen, whom they represent"),
        "eligibility": Answer(said=eligible, left="which patients could take part", see="checks"),
        "subsets": Answer(
            said=(
                f"{split.patients_left_out:,} patients were left out by the file of splits, {ingest.files_withdrawn:,} files "
                f"withdrawn, {ingest.images_copied:,} images came more than once and one of each is used.",
            ),
            left="what was chosen before the files were handed over",
        ),
        "missing": Answer(said=missing, see="cohort"),
        "partition": Answer(said=(f"{divided}. {split_sizes(report)}",), see="cohort"),
        "disjoint": Answer(
            said=("Patients are divided, with all their exams.", patients_sentence(report.evaluation.patients)),
            see="performance",
        ),
        "sample_size": Answer(
            said=(split_sizes(report), "Widths that a size gives: mammo reproduce precision."),
            left="what was intended, and why",
        ),
        "flow": Answer(said=(*eligible, *missing, split_sizes(report)), see="cohort"),
        "characteristics": Answer(
            said=(split_sizes(report), *group_sizes(report.evaluation, ("age", "density", "vendor"))),
            left="what is not recorded here: ethnicity, symptoms, history",
            see="subgroups",
        ),
        "numbers": Answer(said=(split_sizes(report),), see="cohort"),
        "difference": Answer(
            said=(split_sizes(report),),
            left="how the settings, patients and labels of development and evaluation differ",
            see="cohort",
        ),
    }


def _image_answers(report: KnownRun, config: RunConfig) -> dict[str, Answer]:
    preprocess, seen = config.preprocess, report.ingest.seen
    window = f"{preprocess.window_px[0]} x {preprocess.window_px[1]}"
    larger = "cut at its best centre" if preprocess.oversize == "cut" else "shrunk to fit"
    spacing = "as they came" if preprocess.pixel_spacing_mm is None else f"brought to {preprocess.pixel_spacing_mm} mm"
    prepared = (
        f"Values: {preprocess.voi.value}; pixels {spacing}; the breast found ({preprocess.crop_mode.value}) and placed in a "
        f"window of {window} pixels; one that is larger is {larger}; preprocessing "
        f"{report.evaluation.provenance.preprocess_version}.",
        *(() if seen is None else (f"{part_of(seen.images_cut, seen.images)} images are cut by the window.",)),
    )
    checks = report.validation
    checked: tuple[str, ...] = ()
    if checks is not None:
        found = f"{len(checks.blocking)} blocked, {len(checks.warnings)} warned"
        checked = (f"{len(checks.checks)} checks of {checks.images:,} images: {found}.",)
    return {
        "preprocessing": Answer(said=prepared, see="checks"),
        "preparation": Answer(said=(*prepared, *checked), left="whether it is alike for all groups of people", see="checks"),
        "identity": Answer(
            said=(
                "Behind the gate patients, exams and images have pseudonyms under a secret key, and dates are shifted; no "
                "identifier of a header is stored. Pixels are as they came.",
            ),
            left="whether identities are burned into pixels",
        ),
        "acquisition": Answer(
            said=tuple(group_sizes(report.evaluation, ("vendor", "device model", "acquisition"))),
            left="protocols, and what is not recorded",
            see="subgroups",
        ),
        "reference": Answer(
            said=(
                f"{report.ingest.labelled_breasts:,} breasts are labelled benign, malignant, both or neither, each from the "
                "file of labels that was given.",
                *group_sizes(report.evaluation, ("label source",)),
            ),
            left="how these labels were obtained (pathology, follow-up, reading), after what time",
        ),
        "annotation": Answer(said=tuple(lesion_marks(report.evaluation)), left="who annotated, with what", see="localisation"),
        "predictors": Answer(said=("The images alone are the input; nobody chose or judged features.",)),
        "poor_input": Answer(
            said=("What the gate cannot read or does not trust is refused with its rule; a missing view is named.",),
            left="what a clinic is to do then",
            see="checks",
        ),
    }


def _model_answers(report: KnownRun, config: RunConfig, is_of_training: bool) -> dict[str, Answer]:
    evaluated = report.evaluation
    networks = evaluated.networks or (config.model,)
    described = tuple(dict.fromkeys(network_sentence(network) for network in networks))
    of_models = f"The score is the mean of {len(evaluated.models)} networks." if len(evaluated.models) > 1 else "One network."
    goal = "Development of a network and its evaluation on other patients of the same source."
    if not is_of_training:
        goal = "Evaluation of given weights."
    if report.split.divided_by == "external":
        goal = "External evaluation of given weights: every patient is a test patient."
    return {
        "technology": Answer(said=("Deep learning.", *described), left="the title"),
        "goal": Answer(said=(goal,), left="hypotheses"),
        "design": Answer(said=("The exams were there when they were scored.",), left="whether they were made for this study"),
        "intended_use": Answer(
            said=("This software is for research only, and not a medical device.",), left="for whom, where in care, and by whom"
        ),
        "model": Answer(said=described, see="card"),
        "ensemble": Answer(said=(of_models, weights_sentence(evaluated))),
        "calculation": Answer(
            said=("A breast's score is the mean over its images.", of_models, weights_sentence(evaluated)),
            see="card",
        ),
        "specification": Answer(said=(*described, weights_sentence(evaluated)), left="where they can be had", see="card"),
        "internal": Answer(
            said=(goal, *(areas(evaluated) if is_of_training else ())), left="" if is_of_training else "internal evaluation"
        ),
        "external": Answer(
            said=(goal, *(() if is_of_training else areas(evaluated))), left="external evaluation" if is_of_training else ""
        ),
        "users": Answer(said=("Scores are per breast, with maps of what they rest on.",), left="who uses them"),
    }


def _training_answers(report: KnownRun, config: RunConfig, is_of_training: bool) -> dict[str, Answer]:
    evaluated, train = report.evaluation, config.train
    elsewhere = ("The weights were given: what they were trained on is in the checkpoint.json beside them.",)
    made = report.train if is_of_training else None
    trained = (
        ()
        if made is None
        else (
            f"{len(made.epochs)} epochs of {made.train_exams:,} exams; {train.batch_exams} exams a step, Adam with "
            f"learning rate {train.learning_rate:g}, {train.precision}, seed {train.seed}; {train.negatives_per_positive:g} "
            "exams without a finding for each one with it; windows shifted by up to "
            f"{config.preprocess.jitter_shift_px} pixels. Labels of breasts only, no outlines.",
        )
    )
    chosen = () if made is None else (f"Epoch {made.best_epoch} of {len(made.epochs)}: {kept_for(train.recipe)}.",)
    looked = scorings_sentence(evaluated.scorings)
    balanced = (
        f"Each epoch has {train.negatives_per_positive:g} exams without a finding for each one with it, so scores run higher "
        "than the share of findings.",
    )
    return {
        "initial_weights": Answer(said=tuple(first_weights(report, config)) if is_of_training else elsewhere),
        "training": Answer(said=trained if is_of_training else elsewhere, see="training"),
        "building": Answer(said=trained + chosen if is_of_training else elsewhere, see="training"),
        "selection": Answer(
            said=(*(chosen if is_of_training else ()), *((looked,) if looked else ())),
            left="" if is_of_training else "how the given weights were chosen",
            see="performance",
        ),
        "imbalance": Answer(
            said=(*(balanced if is_of_training else elsewhere), *updates(evaluated)),
            see="calibration",
        ),
    }


def _sharing_answers(report: KnownRun) -> dict[str, Answer]:
    evaluated = report.evaluation
    return {
        "software": Answer(
            said=(f"Code {evaluated.provenance.code_version}; its libraries are pinned in constraints.txt.",),
            left="the machine",
            see="provenance",
        ),
        "protocol": Answer(
            said=(f"Every setting is in the config, sha256 {evaluated.provenance.config_sha256[:12]}.",),
            left="the protocol",
            see="config",
        ),
        "availability": Answer(
            said=(f"Code {evaluated.provenance.code_version}; {weights_sentence(evaluated)}",),
            left="where code, weights and data can be had, and under what licence",
            see="provenance",
        ),
        "code_sharing": Answer(
            said=(f"Code {evaluated.provenance.code_version}.",), left="where it can be had", see="provenance"
        ),
        "data_sharing": Answer(
            said=(f"Data version {evaluated.provenance.data_version[:12]}.",), left="whether they can be had", see="provenance"
        ),
    }


def _result_answers(report: KnownRun, config: RunConfig) -> dict[str, Answer]:
    evaluated, confidence = report.evaluation, f"{config.evaluate.confidence:.0%}"
    attributes = sorted({group.attribute for metrics in evaluated.by_finding.values() for group in metrics.subgroups})
    groups = (f"By group: {', '.join(attributes)}.",) if attributes else ()
    method = evaluated.interval_method or "percentile bootstrap over patients, of a former release"
    updated = tuple(updates(evaluated))
    is_compared = any(metrics.group_differences for metrics in evaluated.by_finding.values())
    drawn: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    if (pictures := report.explanation) is not None:
        drawn = (f"Saliency maps and patches with their attention, drawn for {len(pictures.images)} images.",)
        failed = tuple(f"The worst {len(one)} misjudged breasts are drawn." for one in (pictures.failures,) if one)
    is_beside_readers = any(metrics.original_read is not None for metrics in evaluated.by_finding.values())
    return {
        "metrics": Answer(
            said=(
                "AUROC and average precision of breasts and exams; sensitivity, specificity, recall rate, predictive values; "
                "calibration; localisation against masks and boxes where there are any.",
                *(("The original read of the same exams is the comparator.",) if is_beside_readers else ()),
            ),
            see="measures",
        ),
        "uncertainty": Answer(
            said=(
                f"{confidence} intervals: {method}. Differences: DeLong, patients as clusters.",
                *(("Differences between groups: p adjusted by Holm.",) if is_compared else ()),
            )
        ),
        "robustness": Answer(said=groups, left="other trials of robustness, and centres", see="subgroups"),
        "fairness": Answer(said=groups, left="what was done for fairness, and why", see="subgroups"),
        "explanation": Answer(
            said=(*drawn, *pointing(evaluated)),
            see="gallery",
        ),
        "performance": Answer(said=(*areas(evaluated), *groups), see="performance"),
        "diagnostic": Answer(said=tuple(operating_points(evaluated)), see="operating"),
        "failures": Answer(
            said=failed,
            left="why they were misjudged",
            see="failures",
        ),
        "updating": Answer(said=updated or ("The network was not updated after evaluation.",), see="calibration"),
        "output": Answer(
            said=(
                "A score from 0 to 1 for each breast and finding.",
                *(
                    f"{finding.capitalize()}: errors are told at threshold {metrics.subgroup_threshold:.3f}"
                    + (f", {metrics.subgroup_threshold_basis}." if metrics.subgroup_threshold_basis else ".")
                    for finding, metrics in shown_findings(evaluated)
                    if metrics.subgroup_threshold is not None
                ),
            ),
            see="operating",
        ),
        "limits": Answer(
            said=("Prior exams, symptoms and history are not seen. Another site or population will give other numbers.",),
            left="limits of this study",
            see="card",
        ),
    }

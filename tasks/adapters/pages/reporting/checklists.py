"""What two reporting guidelines ask, item by item, in our own words; the guidelines' numbers, so that a form can be filled.

CLAIM, 2024 update: Tejani and others, Radiology: Artificial Intelligence 2024;6(4):e240300, copyright RSNA: its numbers and
sections are given and its wording is not. TRIPOD+AI: Collins and others, BMJ 2024;385:e078378, CC BY 4.0, paraphrased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item: its number, the part of a paper that it stands in, what it asks, and which answer of a run is to it.

    An item without a topic asks what no run knows.
    """

    number: str
    part: str
    asks: str
    topic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """A guideline."""

    key: str
    name: str
    source: str
    items: tuple[Item, ...]


def _items(*rows: tuple[str, str, str, str]) -> tuple[Item, ...]:
    return tuple(Item(number=number, part=part, asks=asks, topic=topic) for number, part, asks, topic in rows)


CLAIM: Final = Checklist(
    key="claim",
    name="CLAIM, 2024 update",
    source="Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300, doi 10.1148/ryai.240300. "
    "Copyright RSNA; the questions are put in our own words.",
    items=_items(
        ("1", "Title", "Say that it is a study of artificial intelligence, and of which kind.", "technology"),
        ("2", "Abstract", "A structured summary: design, methods, results, conclusions.", ""),
        ("3", "Introduction", "The background, and what the method is meant to be used for.", "intended_use"),
        ("4", "Introduction", "Aims, objectives and hypotheses.", ""),
        ("5", "Study design", "Were data gathered for this study, or before it?", "design"),
        ("6", "Study design", "What the study is for: to make a model, to test one, to compare.", "goal"),
        ("7", "Data", "Where the data come from.", "source"),
        ("8", "Data", "Who and what was taken in, and what was kept out.", "eligibility"),
        ("9", "Data", "What was done to the images before the model saw them.", "preprocessing"),
        ("10", "Data", "Which subsets were chosen, and how.", "subsets"),
        ("11", "Data", "How identities were removed.", "identity"),
        ("12", "Data", "What was done where data were missing.", "missing"),
        ("13", "Data", "How images were acquired.", "acquisition"),
        ("14", "Reference standard", "How the truth was obtained.", "reference"),
        ("15", "Reference standard", "Why this reference standard.", ""),
        ("16", "Reference standard", "Who annotated, and how they were prepared.", ""),
        ("17", "Reference standard", "How the test set was annotated.", "annotation"),
        ("18", "Reference standard", "How far annotators agree with each other and with themselves.", ""),
        ("19", "Data partitions", "How data were assigned to training, tuning and test.", "partition"),
        ("20", "Data partitions", "At which level the partitions have nothing in common.", "disjoint"),
        ("21", "Testing data", "How many cases were intended, and why.", "sample_size"),
        ("22", "Model", "The model in full.", "model"),
        ("23", "Model", "Software, libraries and versions.", "software"),
        ("24", "Model", "What the weights were before training.", "initial_weights"),
        ("25", "Training", "How it was trained.", "training"),
        ("26", "Training", "How the final model was chosen.", "selection"),
        ("27", "Training", "Whether models were combined, and how.", "ensemble"),
        ("28", "Evaluation", "How performance is measured.", "metrics"),
        ("29", "Evaluation", "How uncertainty and significance are measured.", "uncertainty"),
        ("30", "Evaluation", "Whether it is robust, and how that was tried.", "robustness"),
        ("31", "Evaluation", "How its scores can be explained.", "explanation"),
        ("32", "Evaluation", "How it does on internal data.", "internal"),
        ("33", "Evaluation", "How it does on external data.", "external"),
        ("34", "Evaluation", "Registration, if it is a trial.", ""),
        ("35", "Results: data", "How many patients or exams were taken in and left out.", "flow"),
        ("36", "Results: data", "Who the patients of each partition are.", "characteristics"),
        ("37", "Results: performance", "The measures of performance, with their uncertainty.", "performance"),
        ("38", "Results: performance", "Diagnostic performance and its precision.", "diagnostic"),
        ("39", "Results: performance", "An analysis of what was misjudged.", "failures"),
        ("40", "Discussion", "Limits of the study.", "limits"),
        ("41", "Discussion", "What follows for practice.", ""),
        ("42", "Other", "Where the full protocol or further technical details are.", "protocol"),
        ("43", "Other", "Whether software, model and data can be had.", "availability"),
        ("44", "Other", "Who paid, and what part they had in it.", ""),
    ),
)

TRIPOD_AI: Final = Checklist(
    key="tripod",
    name="TRIPOD+AI",
    source="Collins et al., BMJ 2024;385:e078378, doi 10.1136/bmj-2023-078378. CC BY 4.0; paraphrased and shortened.",
    items=_items(
        (
            "1",
            "Title",
            "Say whether a prediction model is developed or evaluated, for whom and for what outcome.",
            "technology",
        ),
        ("2", "Abstract", "An abstract by TRIPOD+AI for Abstracts.", ""),
        ("3a", "Background", "The setting in health care, why a model, and which models there are.", ""),
        ("3b", "Background", "For whom it is, where in the pathway of care, and who uses it.", "intended_use"),
        ("3c", "Background", "Which inequalities between groups of people are known.", ""),
        ("4", "Objectives", "What the study is to find out: development, evaluation or both.", "goal"),
        ("5a", "Data", "Where the data of development and evaluation come from, and whom they represent.", "source"),
        ("5b", "Data", "From when to when they were gathered.", ""),
        ("6a", "Participants", "Setting, number and places of the centres.", ""),
        ("6b", "Participants", "Who could take part.", "eligibility"),
        ("6c", "Participants", "Treatments received, and how they were dealt with.", ""),
        ("7", "Data preparation", "Preprocessing and checks of quality, and whether alike for all groups.", "preparation"),
        ("8a", "Outcome", "What is predicted, when and how it is told, and why.", "reference"),
        ("8b", "Outcome", "Who judged it, where that takes judgement.", ""),
        ("8c", "Outcome", "Whether those were blinded, and how.", ""),
        ("9a", "Predictors", "How predictors were chosen before modelling.", "predictors"),
        ("9b", "Predictors", "What they are, how and when measured.", "acquisition"),
        ("9c", "Predictors", "Who judged them, where that takes judgement.", "predictors"),
        ("10", "Sample size", "How the size came about, and why it is enough.", "sample_size"),
        ("11", "Missing data", "What was done where data were missing.", "missing"),
        ("12a", "Analysis", "How data were used and divided.", "partition"),
        ("12b", "Analysis", "In which form predictors enter.", "preprocessing"),
        ("12c", "Analysis", "Kind of model, each step of its making, tuning, internal validation.", "building"),
        ("12d", "Analysis", "Whether centres or countries differ, and how that was dealt with.", "robustness"),
        ("12e", "Analysis", "Measures and plots of performance.", "metrics"),
        ("12f", "Analysis", "Whether the model was updated after evaluation, such as by recalibration.", "updating"),
        ("12g", "Analysis", "How predictions are calculated.", "calculation"),
        ("13", "Class imbalance", "Whether classes were balanced, how, and what was mended afterwards.", "imbalance"),
        ("14", "Fairness", "What was done for fairness, and why.", "fairness"),
        ("15", "Model output", "What the model says, and where thresholds come from.", "output"),
        ("16", "Training and evaluation", "How the data of development and of evaluation differ.", "difference"),
        ("17", "Ethical approval", "Who approved, and consent or its waiver.", ""),
        ("18a", "Open science", "Funding, and the part of those who gave it.", ""),
        ("18b", "Open science", "Conflicts of interest.", ""),
        ("18c", "Open science", "Where the protocol is, or that there is none.", "protocol"),
        ("18d", "Open science", "Registration, or that there is none.", ""),
        ("18e", "Open science", "Whether the data can be had.", "data_sharing"),
        ("18f", "Open science", "Whether the code can be had.", "code_sharing"),
        ("19", "Patients and public", "What part patients and the public had, or none.", ""),
        ("20a", "Participants", "The flow of participants, with and without the outcome.", "flow"),
        ("20b", "Participants", "Who they are, by setting: predictors, sizes, missing data.", "characteristics"),
        ("20c", "Participants", "How those of evaluation differ from those of development.", "difference"),
        ("21", "Model development", "Numbers of participants and outcomes in each analysis.", "numbers"),
        ("22", "Model specification", "The whole model, so that others can use it.", "specification"),
        ("23a", "Performance", "Performance with intervals, in subgroups too, and its plots.", "performance"),
        ("23b", "Performance", "How performance varies between centres or countries.", "robustness"),
        ("24", "Model updating", "What an update gave.", "updating"),
        ("25", "Interpretation", "What the results mean, fairness included, beside earlier studies.", ""),
        ("26", "Limitations", "Limits, and what they do to bias, uncertainty and use elsewhere.", "limits"),
        ("27a", "Usability", "What to do where input is poor or missing.", "poor_input"),
        ("27b", "Usability", "What users have to do, and what they must know.", "users"),
        ("27c", "Usability", "What comes next, and where it may hold.", ""),
    ),
)

CHECKLISTS: Final = (CLAIM, TRIPOD_AI)

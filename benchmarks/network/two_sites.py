"""What a beginning and a recipe are worth at a small site: a phantom world of two sites, the same test patients for every arm.

Site A has many patients; site B has few, drawn with another seed, another tone curve, more noise and another pixel spacing, and
is brought to A's spacing by the ingest. All arms are judged on B's held-out patients; an arm's score of a breast is the mean of
its seeds' networks. Run again, it goes on where it stopped, and arms of former calls stand in the table too.

    python -m benchmarks.network.two_sites OUT                 # 600 and 90 patients, three seeds: a GPU
    python -m benchmarks.network.two_sites OUT --without-each  # also the recipe less each ingredient, and with each other one
    python -m benchmarks.network.two_sites OUT --folds 3       # also the recipe in folds, their networks as an ensemble
    python -m benchmarks.network.two_sites OUT --pretrained hidden birads  # also begun with pre-training on A's images
    python -m benchmarks.network.two_sites OUT --pretrained-at-home hidden  # and with pre-training on B's own
    python -m benchmarks.network.two_sites OUT --only none --each 3  # every third epoch of the recipe on B's test patients
    python -m benchmarks.network.two_sites OUT --patients 200 90 --judges 150 --coarser 2 --difficulty 0.25 --epochs 12
                                                               # reduced, on a CPU
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from benchmarks.network.phantom_sites import MACHINE_OF_B, Site, phantom_site
from gmic_model.sampling import draw_folds
from schemas.config.training import PretrainConfig, PretrainTarget
from schemas.exam import FINDINGS, Split
from schemas.reports.training import TrainReport
from tasks.adapters.models.checkpoints import epoch_dir
from tasks.adapters.scoring.model_ranking import paired_difference
from tasks.adapters.scoring.score_tables import BREAST, labelled, read_breast_scores
from tasks.adapters.store.exam_store import open_store
from tasks.adapters.store.manifest import exam_records, read_manifest, read_splits
from tasks.adapters.training.process import run_training
from tasks.adapters.training.request import training_report, training_request
from tasks.adapters.workspace import Workspace
from tasks.evaluate import evaluate_network
from tasks.pretrain import pretrain_network

CONFIGS: Final = Path(__file__).parents[2] / "deployments" / "configs"
ADDED: Final[Mapping[str, Mapping[str, Any]]] = {
    "mixup": {"augment": {"mixup": 0.2}},
    "noise": {"augment": {"noise": 0.2}},
    "drop_views": {"augment": {"drop_views": 0.2}},
    "drop_breasts": {"augment": {"drop_breasts": 0.2}},
    "label smoothing": {"labels": {"smoothing": 0.1}},
    "malignant_weight": {"labels": {"malignant_weight": 2.0}},
    "best_by loss": {"recipe": {"best_by": "loss", "best_of_epochs": 1}},
    "plateau": {"recipe": {"schedule": "plateau"}},
    "stop_after_epochs": {"recipe": {"stop_after_epochs": 20}},
    "ema_decay": {"ema_decay": 0.98},
    "twice the rate": {"learning_rate": 2},
    "half the rate": {"learning_rate": 0.5},
    "a fifth of the rate": {"learning_rate": 0.2},
    "weak saliency term": {"saliency_weight": 0.1},
}
"""What the recipe does not have: what it is tried with, section by section; a rate or weight is a factor on the recipe's."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to get a network for site B.

    Attributes:
        train: The config's section.
        model: Changes to the sites' network.
        is_begun: From site A's network.
        pretrained: What a localisation network learnt first, of a site's training patients, to begin this one's.
        is_pretrained_at_home: On B's own patients, as long as the arm trains; else on A's, as long as the config says.
    """

    train: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    is_begun: bool = False
    pretrained: PretrainTarget | None = None
    is_pretrained_at_home: bool = False


def main() -> None:
    """Draws the two sites, trains every arm, and prints what each is worth."""
    asked = _asked()
    a, b = (phantom_site(asked, name) for name in ("a", "b"))
    arms = dict(_arms(asked))
    start = None if asked.start_of_a is None else {"network": asked.start_of_a}
    given = {"epochs": asked.epochs_of_a, "learning_rate": asked.rate_of_a, "start": start}
    recipe_a = Arm(train=arms["recipe"].train | {name: value for name, value in given.items() if value is not None})
    for seed in asked.seeds:
        at_a, name = seed if asked.networks_of_a is None else seed % asked.networks_of_a, "site A's, zero-shot"
        trained_at_a = _trained(asked, "site-a", a, recipe_a, at_a)
        _judged(asked, "site A's, at home", a, recipe_a, trained_at_a, at_a)
        _judged(asked, name, b, recipe_a, trained_at_a, seed)  # of each seed, for the differences to what began with it
        for name in asked.at_a:
            trained, more = _trained(asked, f"site-a {name}", a, arms[name], seed), f", of site A's {asked.patients[0]}"
            _judged(asked, f"{name}{more}, at home", a, arms[name], trained, seed)
            _judged(asked, f"{name}{more}, zero-shot", b, arms[name], trained, seed)
        for name, arm in arms.items():
            if (asked.only is not None and name not in asked.only) or _scores_path(asked, name, seed).exists():
                continue
            begun = {"start": {"network": trained_at_a.checkpoint_path}} if arm.is_begun else {}
            if arm.pretrained is not None:
                begun = {"start": {"localization": _pretrained(asked, b if arm.is_pretrained_at_home else a, arm)}}
            trained = _trained(asked, name, b, replace(arm, train={**arm.train, **begun}), seed)
            _judged(asked, name, b, arm, trained, seed)
        if asked.folds is not None:
            _judge_folds(asked, b, arms["recipe"], seed)
        if asked.each is not None:
            _judge_epochs(asked, b, arms["recipe"], seed)
    print(_table(asked))


def _pretrained(asked: argparse.Namespace, site: Site, arm: Arm) -> Path:
    """The site's localisation network after pre-training; one for all seeds, and what is there already is left as it is."""
    config, splits = site
    section = {"target": arm.pretrained, "device": asked.device, "num_threads": asked.threads, "batch_exams": 2}
    if arm.is_pretrained_at_home:
        section.update({name: arm.train[name] for name in ("epochs", "learning_rate")})
    config = config.model_copy(update={"pretrain": PretrainConfig.model_validate(section)})
    report = pretrain_network.body(config, splits)
    print(f"pre-trained on {arm.pretrained}", report.epochs[report.best_epoch].model_dump_json(), flush=True)
    return report.checkpoint_path


def _judge_folds(asked: argparse.Namespace, site: Site, arm: Arm, seed: int) -> None:
    """The arm once a fold of B's patients who train and tune, of whom one fold tunes; the networks judge as an ensemble."""
    name = f"recipe, ensemble of {asked.folds} folds"
    if _scores_path(asked, name, seed).exists():
        return
    config, splits = site
    manifest = read_manifest(open_store(Workspace(config.workspace_dir).store_dir))
    table = read_splits(splits.splits_path)
    learning = table.loc[table["split"] != Split.TEST.value, "patient_id"]
    exams = exam_records(manifest[manifest["patient_id"].isin(learning)])
    by_patient = draw_folds(exams, asked.folds, seed=seed)
    scores = []
    for fold in range(1, asked.folds + 1):
        part = {patient_id: (Split.TUNING if at == fold else Split.TRAIN).value for patient_id, at in by_patient.items()}
        folder = asked.out / "folds" / f"{asked.folds}-{seed}-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "splits.parquet"
        table.assign(split=table["patient_id"].map(part).fillna(table["split"])).to_parquet(path, index=False)
        of_fold = config, splits.model_copy(update={"splits_path": path})
        trained = _trained(asked, f"fold {fold} of {asked.folds}", of_fold, arm, seed)
        scores.append(_scores(folder, of_fold, arm, trained, seed))
    _keep(asked, name, _mean(scores), seed)


def _judge_epochs(asked: argparse.Namespace, site: Site, arm: Arm, seed: int) -> None:
    """What the arm's epochs are worth, whichever of them tuning would keep: says for each what tuning and test patients say."""
    arm = replace(arm, train={**arm.train, "keep_checkpoints": arm.train["epochs"]})
    trained = _trained(asked, "recipe all epochs", site, arm, seed)
    for record in trained.epochs[asked.each - 1 :: asked.each]:
        of_epoch = trained.model_copy(update={"checkpoint_path": epoch_dir(trained.checkpoint_path.parent, record.epoch)})
        path = asked.out / "epochs" / f"{seed}-{record.epoch}.csv"
        if not path.exists():
            _scores(path.with_suffix(""), site, arm, of_epoch, seed).to_csv(path, index=False)
        test = {finding.value: round(_auroc(pd.read_csv(path), finding.value), 3) for finding in FINDINGS}
        tuning = {"auroc": record.tuning_malignant_auroc, "loss": record.tuning_loss}
        print(f"recipe {seed}, epoch {record.epoch}: test {json.dumps(test)}, tuning {json.dumps(tuning)}", flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, nargs=2, default=(600, 90), metavar=("A", "B"))
    parser.add_argument("--judges", type=int, default=None, help="Further patients of B, who test; else two fifths of B's do")
    parser.add_argument("--coarser", type=int, default=1, help="Times the phantoms' pixel spacing: fewer pixels, less detail")
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, default=None, help="Instead of the arms' own")
    parser.add_argument("--epochs-of-a", type=int, default=None, help="Instead of the recipe's own")
    parser.add_argument("--rate-of-a", type=float, default=None, help="Learning rate instead of the recipe's own")
    parser.add_argument("--start-of-a", type=Path, default=None, help="Checkpoint that A's networks begin with, of an easier A")
    parser.add_argument("--networks-of-a", type=int, default=None, help="So many, shared by the seeds; else one a seed")
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument(
        "--machine", type=float, nargs=2, default=MACHINE_OF_B, metavar=("EXPONENT", "NOISE"),
        help="How B's machine differs: its tone curve's exponent (1: as A's) and its noise's spread in stored values of 12 bit",
    )  # fmt: skip
    parser.add_argument("--resnet18", type=Path, default=None, help="torchvision's ResNet-18: also the arms that begin with it")
    parser.add_argument(
        "--folds", type=int, default=None, help="Also the recipe in so many folds of B's patients, as an ensemble"
    )
    parser.add_argument("--pretrained", nargs="*", default=(), help="Also begun with A's pre-training: hidden, birads")
    parser.add_argument("--pretrained-at-home", nargs="*", default=(), help="Also begun with B's own pre-training")
    parser.add_argument(
        "--each", type=int, default=None, help="Also the recipe after every so many epochs: 3 = after the 3rd, 6th ..."
    )
    parser.add_argument("--without-each", action="store_true", help="Also the recipe less each ingredient, and with each other")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=None, help="Of a CPU; another number rounds otherwise")
    parser.add_argument("--at-a", nargs="*", default=(), help="Names of arms to train at A too, and to judge at both sites")
    parser.add_argument("--only", nargs="*", default=None, help="Names of the arms at B to train")
    return parser.parse_args()


def _arms(asked: argparse.Namespace) -> Iterator[tuple[str, Arm]]:
    """Name and settings of what is trained at B; fine-tuned arms begin with A's network of the same seed."""
    common = {"device": asked.device, "tracking": {"tensorboard": False}, "keep_checkpoints": 1, "num_threads": asked.threads}
    common |= {} if asked.epochs is None else {"epochs": asked.epochs}
    plain = {**yaml.safe_load((CONFIGS / "paper.yaml").read_text())["train"], **common}
    del plain["start"]
    recipe = {**yaml.safe_load((CONFIGS / "small-cohort.yaml").read_text())["train"], **common}
    slow = recipe["learning_rate"] / 5
    parts = {part: {"learning_rate": slow, "frozen_epochs": 1} for part in ("localization", "patches")}
    yield "plain", Arm(train=plain)
    yield "recipe", Arm(train=recipe)
    yield "plain, fine-tuned", Arm(train=plain, is_begun=True)
    yield "fine-tuned", Arm(train={**recipe, "parts": parts}, is_begun=True)
    yield "fine-tuned, one rate", Arm(train={**recipe, "learning_rate": slow}, is_begun=True)
    if asked.resnet18 is not None:
        begun = {"start": {"patches": asked.resnet18}}
        yield "plain, ResNet-18 of a file", Arm(train={**plain, **begun})
        yield "recipe, ResNet-18 of a file", Arm(train={**recipe, **begun})
    for target in map(PretrainTarget, asked.pretrained):
        yield f"recipe, pre-trained on {target.value} of site A's", Arm(train=recipe, pretrained=target)
    for target in map(PretrainTarget, asked.pretrained_at_home):
        own = Arm(train=recipe, pretrained=target, is_pretrained_at_home=True)
        yield f"recipe, pre-trained on {target.value} of its own", own
    if asked.without_each:
        yield from _less_one(plain, recipe)
        yield from ((f"recipe with {name}", Arm(train=_with(recipe, more))) for name, more in ADDED.items())
        by_groups = {**recipe, "recipe": {name: value for name, value in recipe["recipe"].items() if name != "batch_norm"}}
        yield "recipe with normalization: group", Arm(train=by_groups, model={"normalization": "group"})


def _less_one(plain: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[tuple[str, Arm]]:
    """Less an ingredient: what plain training has in its place."""
    for name in ("learning_rate", "batch_exams", "saliency_weight", "warmup_steps", "ema_decay"):
        if name in recipe:
            less = {key: value for key, value in recipe.items() if key != name}
            yield f"recipe without {name}", Arm(train=less | ({name: plain[name]} if name in plain else {}))
    yield "recipe without augment", Arm(train={key: value for key, value in recipe.items() if key != "augment"})
    for section in ("augment", "recipe"):
        for name in recipe[section]:
            less = {key: value for key, value in recipe[section].items() if key != name}
            yield f"recipe without {section}.{name}", Arm(train={**recipe, section: less})


def _with(recipe: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    joined = deepcopy(dict(recipe))
    for name, value in more.items():
        if isinstance(value, Mapping):
            joined[name] = {**joined.get(name, {}), **value}
        else:
            joined[name] = value if name == "ema_decay" else value * joined[name]
    return joined


def _trained(asked: argparse.Namespace, name: str, site: Site, arm: Arm, seed: int) -> TrainReport:
    """The arm's network; what is trained already is left as it is."""
    config, splits = _of_arm(site, arm, seed)
    request = training_request(config, splits, None, asked.out / "arms" / f"{_slug(name)}-{seed}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    def say(message: Mapping[str, Any]) -> None:
        if message["kind"] == "epoch":
            record = message["record"]
            said = {key: record[key] for key in ("epoch", "train_loss", "tuning_loss", "tuning_malignant_auroc")}
            print(name, seed, json.dumps(said), flush=True)

    run_training(request, say)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = training_report(request)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name} {seed}: epoch {report.best_epoch} of {len(report.epochs)}, {cpu_s:.0f} s of CPU", flush=True)
    return report


def _of_arm(site: Site, arm: Arm, seed: int) -> Site:
    config, splits = site
    section = type(config.train).model_validate({**arm.train, "seed": seed})
    return config.model_copy(update={"train": section, "model": config.model.model_copy(update=dict(arm.model))}), splits


def _scores_path(asked: argparse.Namespace, name: str, seed: int) -> Path:
    kept: Path = asked.out / "judged" / name / f"{seed}.csv"
    return kept


def _judged(asked: argparse.Namespace, name: str, site: Site, arm: Arm, trained: TrainReport, seed: int) -> None:
    """Keeps the scores of the site's test breasts."""
    path = _scores_path(asked, name, seed)
    if not path.exists():
        _keep(asked, name, _scores(path.with_suffix(""), site, arm, trained, seed), seed)


def _scores(folder: Path, site: Site, arm: Arm, trained: TrainReport, seed: int) -> pd.DataFrame:
    """Of the site's test breasts; what evaluate writes goes into the folder."""
    config, splits = _of_arm(site, arm, seed)
    named = config.evaluate.model_copy(update={"checkpoints": (trained.checkpoint_path,)})
    store = Workspace(config.workspace_dir).store_dir
    config = config.model_copy(update={"workspace_dir": folder, "store_dir": store, "evaluate": named})
    return read_breast_scores(evaluate_network.body(config, splits, None))


def _keep(asked: argparse.Namespace, name: str, table: pd.DataFrame, seed: int) -> None:
    path = _scores_path(asked, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    said = ", ".join(f"{finding.value} {_auroc(table, finding.value):.3f}" for finding in FINDINGS)
    print(f"{name} {seed}: {said}", flush=True)


def _table(asked: argparse.Namespace) -> str:
    """AUROC of each arm's mean score, and its paired difference to plain training, to zero-shot and to the recipe.

    A difference to an arm is taken over the seeds that both have.
    """
    scores = dict[str, dict[int, pd.DataFrame]]()
    for path in sorted((asked.out / "judged").glob("*/*.csv")):
        scores.setdefault(path.parent.name, {})[int(path.stem)] = pd.read_csv(path)
    others = ("plain", "site A's, zero-shot", "recipe")
    lines = ["| arm | finding | AUROC by seed | " + " | ".join(f"less {other}" for other in others) + " |", "|---" * 6 + "|"]
    for name, of_seed in scores.items():
        for finding in FINDINGS:
            seeds = ", ".join(f"{_auroc(one, finding.value):.3f}" for _, one in sorted(of_seed.items()))
            differences = [_difference(of_seed, scores.get(other, {}), finding.value) for other in others]
            lines.append(f"| {name} | {finding.value} | {seeds} | {' | '.join(differences)} |")
    return "\n".join(lines)


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    columns = [f"{finding.value}_score" for finding in FINDINGS]
    kept = [name for name in BREAST if name in tables[0]]
    mean = pd.concat(tables).groupby(kept, sort=True)[columns].mean().reset_index()
    return mean.merge(tables[0].drop(columns=columns), on=kept)


def _auroc(table: pd.DataFrame, finding: str) -> float:
    known = labelled(table, next(one for one in FINDINGS if one.value == finding), BREAST)
    positive, negative = (known.loc[known["label"] == label, "score"].to_numpy() for label in (1, 0))
    if not len(positive) or not len(negative):
        return float("nan")
    return float(np.mean(np.sign(positive[:, None] - negative[None]) / 2 + 0.5))


def _difference(of_seed: Mapping[int, pd.DataFrame], others: Mapping[int, pd.DataFrame], finding: str) -> str:
    seeds = sorted(of_seed.keys() & others.keys())
    if not seeds or of_seed is others:
        return "-"
    table, other = (_mean([one[seed] for seed in seeds]) for one in (of_seed, others))
    one = next(each for each in FINDINGS if each.value == finding)
    both = [name for name in BREAST if name in table and name in other]
    paired = labelled(table, one, BREAST).merge(other[[*both, f"{finding}_score"]], on=both)
    if paired.empty:
        return "-"  # of other patients
    found = paired_difference(paired, paired.assign(score=paired[f"{finding}_score"]), 0.95)
    return "no interval" if found is None else f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


if __name__ == "__main__":
    main()

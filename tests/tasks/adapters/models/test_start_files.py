"""Files that first weights come from: each form is recognised and made ours; what is not whole, or no weights, is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from gmic_model.backbones.resnet import ResNet18
from gmic_model.model import GMIC
from gmic_model.networks.birads_classifier import BIRADSClassifier
from gmic_model.weights import torchvision_name
from mammo_tests.training_store import small_config
from schemas.config.network import GMICConfig
from schemas.config.recipe import StartConfig
from schemas.errors import CheckpointError, ConfigError
from tasks.adapters.models.checkpoints import load_checkpoint, save_checkpoint
from tasks.adapters.models.start_files import described, import_weights, open_start, require_start, require_starts, start_digest
from tasks.adapters.provenance import config_preprocessing

REPOSITORY = Path(__file__).parents[4]
SMALL = small_config(Path("nowhere")).model


def resnet18(*, classes: int = 1000) -> dict[str, Tensor]:
    """As torchvision writes it: no counters in the published file, three equal channels of its own."""
    torch.manual_seed(3)
    state = {torchvision_name(name): value for name, value in ResNet18().state_dict().items()}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    stem = state["conv1.weight"].repeat(1, 3, 1, 1)
    return {**state, "conv1.weight": stem, "fc.weight": torch.zeros(classes, 512), "fc.bias": torch.zeros(classes)}


@pytest.fixture(scope="module")
def released_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the released ones: a pickled state dict under their names."""
    shapes = json.loads((REPOSITORY / "tests" / "golden" / "parity" / "nyu_state_dict_shapes.json").read_text())
    state = {}
    for key, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        kind = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        state[key] = torch.zeros(shape, dtype=kind) if kind is torch.int64 else torch.rand(shape, generator=generator)
    path = tmp_path_factory.mktemp("released") / "sample_model_1.p"
    torch.save({**state, "shared_rep_filter.weight": torch.zeros(3)}, path)
    return path


@pytest.fixture(scope="module")
def imagenet_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torch hub's: its name ends with its digest."""
    folder = tmp_path_factory.mktemp("hub")
    torch.save(resnet18(), folder / "resnet18.pth")
    digest = hashlib.sha256((folder / "resnet18.pth").read_bytes()).hexdigest()
    return (folder / "resnet18.pth").rename(folder / f"resnet18-{digest[:8]}.pth")


def test_released_weights_become_a_checkpoint_that_loads_strictly(released_path: Path, tmp_path: Path) -> None:
    """All keys find their place in the network of the released form; the sidecar names the source and its digest."""
    digest = import_weights(released_path, tmp_path / "imported", top_t=0.03).sha256
    checkpoint = load_checkpoint(tmp_path / "imported", with_training=True)
    assert checkpoint.sha256 == digest
    assert checkpoint.training == {}
    assert checkpoint.sidecar["source"] == "sample_model_1.p"
    assert checkpoint.sidecar["source_sha256"] == hashlib.sha256(released_path.read_bytes()).hexdigest()
    assert checkpoint.model_config == GMICConfig.released(top_t=0.03)
    with torch.device("meta"):
        network = GMIC(checkpoint.model_config)
    network.load_state_dict(checkpoint.weights, assign=True)
    theirs = torch.load(released_path, weights_only=True)["fusion_dnn.weight"]
    assert torch.equal(checkpoint.weights["fusion.classifier.weight"], theirs)
    with pytest.raises(ConfigError, match="--top-t"):
        import_weights(released_path, tmp_path / "without")


def test_imagenet_s_resnet18_is_the_patch_network_and_has_seen_no_patient(imagenet_path: Path, tmp_path: Path) -> None:
    """As published and as safetensors; imported it is the same. With a classifier of other than 1000 classes nobody knows."""
    published = open_start(imagenet_path)
    save_file({name: value.contiguous() for name, value in resnet18().items()}, tmp_path / "model.safetensors")
    imported = import_weights(tmp_path / "model.safetensors", tmp_path / "imported")
    assert published.weights.keys() == {f"mil.patch_network.{name}" for name in ResNet18().state_dict()}
    for name, value in published.weights.items():
        assert torch.equal(value, imported.weights[name]), name
    assert published.left == ("fc.bias", "fc.weight") and imported.left == ()
    assert published.has_seen_patients is False and imported.has_seen_patients is False
    assert published.form == imported.form == "torchvision's ResNet-18"
    torch.save(resnet18(classes=2), tmp_path / "mine.pth")
    assert open_start(tmp_path / "mine.pth").has_seen_patients is None
    with pytest.raises(CheckpointError, match="describes no network of this version"):
        load_checkpoint(tmp_path / "imported").model_config  # noqa: B018


def test_what_is_inside_is_said(imagenet_path: Path, tmp_path: Path) -> None:
    """Form, digest, tensors of each module, what it can begin, and whom it has seen."""
    said = "\n".join(described(open_start(imagenet_path)))
    assert "torchvision's ResNet-18" in said and hashlib.sha256(imagenet_path.read_bytes()).hexdigest() in said
    assert "mil.patch_network         120 tensors" in said and "fc.bias, fc.weight" in said
    assert "It can begin: network, patches" in said and "Patients it has seen: no patient" in said
    save_checkpoint(tmp_path / "pretrained", weights=BIRADSClassifier().state_dict(), training={}, model=SMALL, about={})
    said = "\n".join(described(open_start(tmp_path / "pretrained")))
    assert "pre-training of the localisation network" in said and "It can begin: network, localization" in said
    assert "classifier.bias" in said and "Patients it has seen: not known" in said


def test_a_file_of_ours_alone_can_begin_and_a_checkpoint_is_ours_already(tmp_path: Path) -> None:
    """The weights file without its folder is recognised by its names."""
    save_checkpoint(tmp_path / "ours", weights=GMIC(SMALL).state_dict(), training={}, model=SMALL, about={})
    alone = next((tmp_path / "ours").glob("*.safetensors")).rename(tmp_path / "alone.safetensors")
    assert import_weights(alone, tmp_path / "again").weights.keys() == GMIC(SMALL).state_dict().keys()
    with pytest.raises(CheckpointError, match="ours already"):
        import_weights(tmp_path / "ours", tmp_path / "twice")


def test_an_import_takes_nobody_s_folder(imagenet_path: Path, tmp_path: Path) -> None:
    """A folder of other things stays as it is, and so does a checkpoint that stands there."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").touch()
    import_weights(imagenet_path, tmp_path / "imported")
    for taken in ("models", "imported"):
        with pytest.raises(ConfigError, match="is there already"):
            import_weights(imagenet_path, tmp_path / taken)
    assert (tmp_path / "models" / "mine").exists()


def test_what_was_cut_off_or_altered_is_refused(imagenet_path: Path, tmp_path: Path) -> None:
    """At a third and near the end; a bit turned, in an archive with check sums and in a file named by its digest."""
    content = imagenet_path.read_bytes()
    save_file({name: value.contiguous() for name, value in resnet18().items()}, tmp_path / "whole.safetensors")
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    for cut in (tensors[: len(tensors) // 3], tensors[:-1], content[: len(content) // 3], content[:-30], b""):
        (tmp_path / "cut").write_bytes(cut)
        with pytest.raises(CheckpointError, match="whole file"):
            open_start(tmp_path / "cut")
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    (tmp_path / "altered.pth").write_bytes(altered)
    with pytest.raises(CheckpointError, match="BadZipFile"):
        open_start(tmp_path / "altered.pth")
    altered = bytearray(tensors)
    altered[len(tensors) // 2] ^= 1
    digest = hashlib.sha256(tensors).hexdigest()
    (tmp_path / f"model-{digest[:8]}.safetensors").write_bytes(altered)
    (tmp_path / "altered.safetensors").write_bytes(altered)
    for path, expected in ((tmp_path / f"model-{digest[:8]}.safetensors", ""), (tmp_path / "altered.safetensors", digest)):
        with pytest.raises(CheckpointError, match=rf"was altered or damaged.*sha256 {digest[:8]}"):
            open_start(path, expected_sha256=expected)


def test_weights_of_other_forms_and_numbers_are_refused(tmp_path: Path) -> None:
    """Another network's names, a missing and a misshapen tensor, a number that is not finite."""
    state = resnet18()
    for change, said in (
        ({"layer4.1.bn2.bias": None}, "missing"),
        ({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, "another shape"),
        ({"bn1.bias": torch.full((64,), float("nan"))}, "not finite"),
        (dict.fromkeys(state), "of no network that is known"),
    ):
        changed = {name: value for name, value in (state | change).items() if value is not None}
        torch.save(changed or {"embedder.weight": torch.zeros(1)}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match=said):
            open_start(tmp_path / "other.pth")


def test_weights_within_another_dict_are_refused_with_what_to_save(tmp_path: Path) -> None:
    """As trainings of others keep them, with epoch and optimiser: fetching them again would bring the same."""
    torch.save({"state_dict": resnet18(), "epoch": 3}, tmp_path / "wrapped.pth")
    with pytest.raises(CheckpointError, match="save the state dict alone"):
        open_start(tmp_path / "wrapped.pth")


def test_a_file_that_is_not_there_is_missed_at_once_and_scratch_says_otherwise(tmp_path: Path) -> None:
    """The message says where ImageNet's is to be had; --from-scratch asks for no file, of training and pre-training alike."""
    start = StartConfig(patches=tmp_path / "resnet18.pth")
    with pytest.raises(ConfigError, match=r"begin the patches with.*train\.start\.patches.*https://.*--from-scratch"):
        require_start(start)
    with pytest.raises(ConfigError, match="begin the patches"):
        start_digest(start)
    scratch = start.model_copy(update={"from_scratch": True})
    require_start(scratch)
    assert start_digest(scratch) == start_digest(StartConfig()) == ""
    content = small_config(tmp_path).model_dump()
    pretrain = {"start": {"localization": tmp_path / "gone"}}
    config = type(small_config(tmp_path)).model_validate({**content, "pretrain": pretrain})
    with pytest.raises(ConfigError, match=r"pretrain\.start\.localization.*mammo pretrain") as missed:
        require_starts(config)
    assert "ResNet-18" not in str(missed.value)  # it is no backbone of the localisation network
    require_starts(type(config).model_validate({**content, "pretrain": pretrain, "train": {"start": {"from_scratch": True}}}))


def test_a_download_that_broke_off_is_told_before_any_other_work(tmp_path: Path) -> None:
    """Of a file whose name or config says its digest, whose digest that is is asked before images are read, by section."""
    content, half = b"all of it", b"all o"
    named = tmp_path / f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    plain = tmp_path / "weights.pth"
    digests = {"localization": hashlib.sha256(content).hexdigest()[:12]}
    config = type(small_config(tmp_path)).model_validate(
        {
            **small_config(tmp_path).model_dump(),
            "train": {"start": {"patches": named}},
            "pretrain": {"start": {"localization": plain, "digests": digests}},
        }
    )
    for of_train, of_pretrain, broken in ((half, content, named), (content, half, plain), (content, content, None)):
        named.write_bytes(of_train)
        plain.write_bytes(of_pretrain)
        said = "" if broken is None else f"{broken.name} was altered.*fetch it again"
        with nullcontext() if broken is None else pytest.raises(CheckpointError, match=said):
            require_starts(config)


def test_images_that_a_start_does_not_know_are_told_before_they_are_made(tmp_path: Path) -> None:
    """A copied preprocess section beside another site's checkpoint would be found out after every image was ingested."""
    begun = tmp_path / "begun"
    config = small_config(tmp_path)
    for version, is_known in ((config_preprocessing(config.preprocess), True), ("robust-2+0.1mm", False)):
        about = {"provenance": {"preprocess_version": version}}
        save_checkpoint(begun, weights=GMIC(SMALL).state_dict(), training={}, model=SMALL, about=about)
        train = config.train.model_copy(update={"start": StartConfig(network=begun)})
        with nullcontext() if is_known else pytest.raises(CheckpointError, match=r"another preprocessing.*0\.1mm.*leave the"):
            require_starts(config.model_copy(update={"train": train}))


def test_a_start_is_named_by_its_digest_wherever_it_lies(imagenet_path: Path, tmp_path: Path) -> None:
    """The same file elsewhere is the same start; as another part, or with another byte, it is another."""
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(imagenet_path.read_bytes())
    named = start_digest(StartConfig(patches=imagenet_path))
    assert named == start_digest(StartConfig(patches=moved)) != start_digest(StartConfig(network=moved))
    moved.write_bytes(moved.read_bytes() + b"\0")
    assert named != start_digest(StartConfig(patches=moved))


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 46827520\n", "a Git LFS pointer"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.0.1" + bytes(300), "an ONNX model"),
        (b"", "an empty file"),
        (None, "a TorchScript program"),
    ],
    ids=["page", "pointer", "onnx", "empty", "script"],
)
def test_what_lies_in_place_of_weights_is_said(tmp_path: Path, content: bytes | None, got: str) -> None:
    """A name of an exception tells nobody that a server answered with a page, or that the file is of another program."""
    source = tmp_path / "resnet18.pth"
    if content is None:
        with warnings.catch_warnings(action="ignore"):  # torch would rather have it written otherwise
            torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(source))
    else:
        source.write_bytes(content)
    with warnings.catch_warnings(action="error"), pytest.raises(CheckpointError, match=f"Got: {got}. Remedy: "):
        open_start(source)


class _Touch:
    """Unpickled by a careless reader, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("saved_by", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, saved_by: str) -> None:
    """The marker file is not made, no checkpoint appears; the same pickle does run when loaded plainly."""
    marker, source = tmp_path / "ran", tmp_path / "evil.p"
    if saved_by == "torch":
        torch.save({"weight": _Touch(marker)}, source)
    else:
        source.write_bytes(pickle.dumps({"weight": _Touch(marker)}))
    got = "a pickle that would run getattr when opened" if saved_by == "torch" else "a pickle that is cut off, or of more"
    with pytest.raises(CheckpointError, match=rf"evil.p is not a plain state dict.*Got: {got}.*Remedy"):
        import_weights(source, tmp_path / "imported", top_t=0.02)
    assert not marker.exists()
    assert not (tmp_path / "imported").exists()
    pickle.loads(pickle.dumps(_Touch(marker)))  # noqa: S301  shows that the trap works
    assert marker.exists()


@pytest.mark.parametrize(
    "content", [torch.zeros(3), [torch.zeros(3)], {"weight": "text"}, {"weight": torch.zeros(3)}, None], ids=str
)
def test_what_is_no_released_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    """A tensor, a list, texts, other names, an empty file: each is a CheckpointError."""
    source = tmp_path / "other.p"
    if content is None:
        source.touch()
    else:
        torch.save(content, source)
    with pytest.raises(CheckpointError):
        import_weights(source, tmp_path / "imported", top_t=0.02)
    assert not (tmp_path / "imported").exists()

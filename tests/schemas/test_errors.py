"""The error tree: drawn as it is, with messages that survive the way from a worker."""

from __future__ import annotations

import ast
import pickle
import re
from collections import defaultdict
from pathlib import Path

import pytest

from schemas import errors
from schemas.errors import GateRejection, MammoError

CLASSES = sorted(
    (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MammoError)),
    key=lambda kind: kind.__name__,
)


def _drawn_tree() -> dict[str, tuple[str, int]]:
    """Name -> (parent, exit code) as the module's docstring draws it."""
    drawn, path = {}, {0: "MammoError"}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([│ ]*)[├└]── (\w+) .*exit (\d+)$", line)
        if found:
            depth = len(found[1]) // 4 + 1
            path[depth] = found[2]
            drawn[found[2]] = (path[depth - 1], int(found[3]))
    return drawn


def test_the_drawing_is_the_tree() -> None:
    """Every class stands in the docstring under its parent, with its exit code; nothing else does."""
    real = {kind.__name__: (kind.__bases__[0].__name__, kind.exit_code) for kind in CLASSES if kind is not MammoError}
    assert _drawn_tree() == real


def test_exit_codes_tell_families_apart() -> None:
    """One code, one kind of trouble: 3 is the data that came in; the rest have their own, and none is 0, 1 or a shell's.

    An error that is a special case of another has its code.
    """
    names = defaultdict(set)
    for kind in CLASSES:
        if kind.exit_code == 3 or not any(
            parent in CLASSES and parent.exit_code == kind.exit_code for parent in kind.mro()[1:]
        ):
            names[kind.exit_code].add(kind.__name__)
    assert names[3] == {"NoExamsFound", "DicomError", "GateRejection", "LabelError", "DatasetError"}
    own = {code: found for code, found in names.items() if code not in (1, 3, 75)}
    assert all(len(found) == 1 for found in own.values()), own
    assert names[75] == {"StoreBusy", "SourceUnavailable"}  # EX_TEMPFAIL: try again later
    assert all(0 < code < 126 for code in names)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_pickles_with_its_sentence_and_attributes(kind: type[MammoError]) -> None:
    """A Dask worker's error arrives as it was raised."""
    raised = kind("The store is gone", expected="a folder", got=3, remedy="ingest again")
    raised.seen_on = "worker 1"  # type: ignore[attr-defined]
    arrived = pickle.loads(pickle.dumps(raised))  # noqa: S301  made one line above
    assert type(arrived) is kind
    assert str(arrived) == str(raised) == "The store is gone. Expected: a folder. Got: 3. Remedy: ingest again."
    assert vars(arrived) == vars(raised)
    assert arrived.exit_code == kind.exit_code


def test_a_gate_rejection_brings_its_reasons() -> None:
    """The reason codes survive pickling too."""
    arrived = pickle.loads(pickle.dumps(GateRejection("refused", reason_codes=("V01", "X20"))))  # noqa: S301  made here
    assert arrived.reason_codes == ("V01", "X20")


def test_messages_leave_out_what_is_not_known_and_end_once() -> None:
    """No empty parts, no double full stops; 0 and False are values, None is not."""
    assert str(MammoError("It broke")) == "It broke"
    assert str(MammoError("It broke.", remedy="mend it.")) == "It broke. Remedy: mend it."
    assert str(MammoError("It broke", got=0, expected=False)) == "It broke. Expected: False. Got: 0."


def test_the_module_holds_the_tree_only_and_every_error_says_what_it_is() -> None:
    """Each class has a docstring of its own; the module defines nothing but classes of the tree."""
    module = ast.parse(Path(errors.__file__).read_text())
    defined = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
    assert defined == {kind.__name__ for kind in CLASSES}
    assert all(kind.__doc__ and kind.__doc__ != MammoError.__doc__ for kind in CLASSES if kind is not MammoError)

"""A trained network over store rows: scores, saliency and patches, for evaluate, explain and predict alike."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gmic_model.backbones.memory_layout import placed
from gmic_model.devices import Device, choose_device, computing, further_devices
from gmic_model.learning.exam_loader import ExamViews, batches_of, loaded
from gmic_model.learning.learner import predict_batches
from gmic_model.model import GMICOutput
from gmic_model.networks.network import FindingsNetwork
from gmic_model.preprocess import PreparedView
from schemas.config.run import RunConfig
from schemas.config.training import Precision
from schemas.exam import FINDINGS
from tasks.adapters.allocator import keep_freed_memory
from tasks.adapters.cards import unused_card
from tasks.adapters.store.views import StoredViews

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How images are brought and computed; the same in every stage that scores.

    Attributes:
        threads: Read the next batches while the network has this one; 0 = each is read when it is asked for.
        ahead: Batches that are read ahead.
        further: GPUs that share the batches with the one that is named. What comes out, and its order, are those of one.
    """

    threads: int = 2
    ahead: int = 1
    precision: Precision = "fp32"
    further: tuple[Device, ...] = ()

    @classmethod
    def of(cls, config: RunConfig) -> Scoring:
        """As a config says; a graphics card that is not used is told in the log."""
        if unused := unused_card(config.train, choose_device(config.train)):
            logger.warning("%s", unused)
        return cls(
            threads=config.train.loader_workers,
            ahead=config.train.prefetch_batches,
            precision=config.evaluate.precision,
            further=further_devices(config.train),
        )


AS_SHIPPED: Final = Scoring()


def predicted_at_once(config: RunConfig, device: Device) -> int:
    """Images of one pass where all of a store are predicted.

    One on a CPU, and where each is drawn: a picture takes far longer than its scores. A GPU that draws nothing is given as many
    as an evaluation gives it, for of one at a time it waits for its host (docs/how-to/train-and-search.md).
    """
    return 1 if config.predicted_panels or device.type == "cpu" else config.evaluate.batch_images


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredView:
    """The network's outputs for one view.

    Attributes:
        score_C: ``y`` per finding.
        saliency_CIJ: Saliency maps.
        corner_K2: Upper left (row, column) of each patch in the window, pixels.
        attention_K: Attention of each patch.
    """

    row: int
    score_C: NDArray[np.float64]
    saliency_CIJ: NDArray[np.float32]
    corner_K2: NDArray[np.int64]
    attention_K: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ViewsReadOnce:
    """Stored views of which every picture and every mask is read from the store once, and kept until it is let go.

    What draws a view needs the pixels that the network was given. Views are read ahead by threads, each row by one of them.
    """

    views: StoredViews
    _prepared: dict[int, PreparedView] = field(default_factory=dict)
    _masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __call__(self, row: int) -> PreparedView:
        """The view as ingest prepared it."""
        if row not in self._prepared:
            self._prepared[row] = self.views(row)
        return self._prepared[row]

    def lesion_mask(self, row: int) -> NDArray[np.uint8]:
        """Lesion bits in the stored crop's frame.

        Raises:
            StoreError: The stored bytes are damaged or missing.
        """
        if row not in self._masks:
            self._masks[row] = self.views.lesion_mask(row)
        return self._masks[row]

    def let_go(self, row: int) -> None:
        """Frees a view that is drawn: a picture is some ten megabytes."""
        self._prepared.pop(row, None)
        self._masks.pop(row, None)


def score_rows(
    network: FindingsNetwork,
    views: Callable[[int], PreparedView],
    rows: Sequence[int],
    *,
    batch_images: int,
    device: Device,
    scoring: Scoring = AS_SHIPPED,
) -> Iterator[ScoredView]:
    """Runs the network over rows of the store, in order."""
    for (view,) in score_rows_of_each([network], views, rows, batch_images=batch_images, device=device, scoring=scoring):
        yield view


def score_rows_of_each(
    networks: Sequence[FindingsNetwork],
    views: Callable[[int], PreparedView],
    rows: Sequence[int],
    *,
    batch_images: int,
    device: Device,
    scoring: Scoring = AS_SHIPPED,
) -> Iterator[tuple[ScoredView, ...]]:
    """Runs several networks over rows of the store, in order; each image is read and prepared once."""
    single_views = ExamViews(
        rows_of_exam=[(row,) for row in rows],
        label_by_row={row: (0,) * len(FINDINGS) for row in rows},
        read_view=views,
    )
    keep_freed_memory()
    batches = batches_of(len(rows), batch_images)
    devices = (device, *scoring.further)[: max(len(batches), 1)]
    shares = [
        _score_batches(
            networks if place == 0 else deepcopy(networks), single_views, batches[place :: len(devices)], one, scoring
        )
        for place, one in enumerate(devices)
    ]
    if len(shares) == 1:
        for scored in shares[0]:
            yield from scored
        return
    with computing(device, scoring.precision):  # what it sets is the process's: no thread may set it back for the others
        for scored in _in_turn(shares):
            yield from scored


# ---------------------------------------------------------------------------------------------------------------------


def _score_batches(
    networks: Sequence[FindingsNetwork],
    views: ExamViews,
    batches: Sequence[Sequence[int]],
    device: Device,
    scoring: Scoring,
) -> Iterator[list[tuple[ScoredView, ...]]]:
    """One device's batches, in order."""
    for network in networks:
        placed(network, device)
    for batch in loaded(views, batches, device, threads=scoring.threads, ahead=scoring.ahead):
        outputs = [
            output for network in networks for _, output in predict_batches(network, [batch], precision=scoring.precision)
        ]
        yield [tuple(_view_of(output, index, row) for output in outputs) for index, row in enumerate(batch.row_N.tolist())]


def _in_turn(shares: Sequence[Iterator[list[tuple[ScoredView, ...]]]]) -> Iterator[list[tuple[ScoredView, ...]]]:
    """What was dealt round, gathered round; each share is a batch ahead, in a thread of its own."""
    with ThreadPoolExecutor(len(shares), thread_name_prefix="scoring") as pool:
        waiting = deque((pool.submit(next, share, None), share) for share in shares)
        while waiting:
            found, share = waiting.popleft()
            scored = found.result()
            if scored is None:
                return
            waiting.append((pool.submit(next, share, None), share))
            yield scored


def _view_of(output: GMICOutput, index: int, row: int) -> ScoredView:
    return ScoredView(
        row=row,
        score_C=output.y_NC[index].double().numpy(),
        saliency_CIJ=output.saliency_NCIJ[index].numpy(),
        corner_K2=output.corner_NK2[index].long().numpy(),
        attention_K=output.attention_NK[index].numpy(),
    )

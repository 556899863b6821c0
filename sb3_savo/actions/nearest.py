"""The nearest items f_NN (paper, §3.2.1): from points in the space of the embeddings to the items that are closest to them."""

import threading
import warnings
from itertools import count
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import torch as th
from torch import nn

from sb3_savo.extras import needs_extra
from sb3_savo.tracing import is_exporting

Nearest = Literal["exact", "approximate"]

# The recall below which an approximate search scans more items
MIN_RECALL = 0.9

# Number of groups of columns in :func:`row_argmax`
ARGMAX_GROUPS = 16


class NearestItems(nn.Module):
    """
    Exact search over all items, by their Euclidean distance (up to the rounding of its square).

    The distance |q - e|² falls as q·e - |e|²/2 grows, so one matrix product with the embeddings, widened by -|e|²/2, ranks
    the items. It is computed in float32, which ranks items that are further apart than 3e-4. In one dimension many items lie
    closer, and it is computed in float64.

    :param embeddings: One row per item, (N, D); they are scaled to [-1, 1] in each dimension (§14.6), 0 where all are equal
    """

    # Largest number of queries and of items per block of scores, so that a block stays in the processor's cache; the number
    # of items is a multiple of the groups
    block_queries = 1024
    block_items = 4096

    widened: th.Tensor

    def __init__(self, embeddings: np.ndarray):
        super().__init__()
        self.n_items = len(embeddings)
        rows = th.as_tensor(scale(embeddings))
        if rows.shape[1] == 1:
            rows = rows.double()
        widened = th.cat([rows, -0.5 * (rows * rows).sum(dim=1, keepdim=True)], dim=1)
        # Pad to a multiple of the groups with items whose score is minus infinity
        padding = widened.new_tensor([0.0] * rows.shape[1] + [-th.inf]).expand(-self.n_items % ARGMAX_GROUPS, -1)
        # Not in the state dict, since the embeddings are saved once, with the action space
        self.register_buffer("widened", th.cat([widened, padding]), persistent=False)
        self.key = register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.key = register(self)

    @property
    def embeddings(self) -> th.Tensor:
        """The scaled embeddings, (N, D)."""
        return self.widened[: self.n_items, :-1].float()

    def embed(self, items: th.Tensor) -> th.Tensor:
        """
        :param items: Items, of any shape (...)
        :return: Their scaled embeddings, (..., D)
        """
        return self.widened[: self.n_items, :-1][items].float()

    @th.no_grad()
    def nearest(self, queries: th.Tensor, k: int = 1, masks: th.Tensor | None = None) -> th.Tensor:
        """
        :param queries: Points, (batch, n, D)
        :param k: Number of items to find for each point, at most N
        :param masks: Which items may be found, (batch, N); None for all
        :return: The k nearest items, the nearest first, (batch, n, k); where fewer may be found, followed by the nearest again
        :raises ValueError: if k is too large, or, on the CPU, if a row of the masks allows no item
        """
        if is_exporting():
            return self._find_at_once(queries, k, masks)
        if type(queries) is not th.Tensor:  # a loss is being traced: the search becomes one operator of the graph
            return nearest_operator(queries, k, masks, self.key)
        # On a GPU, Python would have to wait for the answer. Masks are checked too when they come from outside.
        if masks is not None and masks.device.type == "cpu" and not masks.any(dim=1).all():
            raise ValueError(f"action_masks: a row allows none of the {self.n_items} items.")
        if k > self.n_items:
            raise ValueError(f"k={k} is too large: there are {self.n_items} items.")
        return self._find(queries, k, masks)

    def _find(self, queries: th.Tensor, k: int, masks: th.Tensor | None) -> th.Tensor:
        rows = max(1, self.block_queries // queries.shape[1])
        chunks = queries.split(rows)
        mask_chunks = [None] * len(chunks) if masks is None else masks.split(rows)
        return th.cat([self._search(chunk, k, mask) for chunk, mask in zip(chunks, mask_chunks, strict=True)])

    def _widen(self, queries: th.Tensor) -> th.Tensor:
        return th.cat([queries, th.ones_like(queries[..., :1])], dim=2).to(self.widened.dtype)

    def _find_at_once(self, queries: th.Tensor, k: int, masks: th.Tensor | None) -> th.Tensor:
        # The exact search in one product, without our operator, which other runtimes do not have
        scores = self._widen(queries) @ self.widened[: self.n_items].T
        if masks is not None:
            scores = scores.masked_fill(~masks.unsqueeze(1), -th.inf)
        if k == 1:
            return scores.argmax(dim=2, keepdim=True)
        best, items = scores.topk(k, dim=2)
        return items if masks is None else th.where(best > -th.inf, items, items[..., :1])

    def _search(self, queries: th.Tensor, k: int, masks: th.Tensor | None) -> th.Tensor:
        points = self._widen(queries).flatten(0, 1)
        best, items = points.new_empty(len(points), 0), points.new_empty(len(points), 0, dtype=th.long)
        for start in range(0, len(self.widened), self.block_items):
            block = self.widened[start : start + self.block_items]
            scores = scratch(len(points) * len(block), points.device, points.dtype).view(len(points), len(block))
            th.mm(points, block.T, out=scores)
            if masks is not None:
                allowed = masks[:, start : start + self.block_items].repeat_interleave(queries.shape[1], dim=0)
                scores[:, : allowed.shape[1]].masked_fill_(~allowed, -th.inf)
            values, positions = row_argmax(scores) if k == 1 else scores.topk(min(k, len(block)), dim=1)
            best, items = th.cat([best, values], dim=1), th.cat([items, start + positions], dim=1)
            if start > 0:
                best, order = best.topk(min(k, best.shape[1]), dim=1)
                items = items.gather(1, order)
        if masks is not None and k > 1:
            items = th.where(best > -th.inf, items, items[:, :1])
        # Scores of a point that is NaN are NaN for the padding too. An item is returned anyway: the caller checks its points.
        return items.clamp_(max=self.n_items - 1).unflatten(0, queries.shape[:2])


class ApproximateNearestItems(NearestItems):
    """
    Search by a faiss index, for so many items that exact search dominates the run time. The items lie in about √N cells of
    an inverted file; product quantization scans the nearest cells, and the best few items found are ranked by their distance.

    ``recall`` is the share of uniformly random points for which the index finds the nearest item. While it is below
    :data:`MIN_RECALL`, the search scans twice as many cells and ranks twice as many items. If that does not help either, every
    search is exact, with a warning. Masked searches are exact too.

    :param embeddings: One row per item, (N, D), at least 1,000
    :raises ImportError: if faiss is not installed
    :raises ValueError: if there are fewer items
    """

    n_probes = 128
    n_ranked = 8
    index: Any

    def __init__(self, embeddings: np.ndarray):
        super().__init__(embeddings)
        with needs_extra("faiss", "nearest='approximate'"):
            import faiss
        rows = np.ascontiguousarray(self.embeddings.numpy())
        n_items, dim = rows.shape
        if n_items < 1_000:
            raise ValueError(f"nearest='approximate' is for many items: use 'exact' for {n_items}.")
        index: Any = faiss.index_factory(dim, f"IVF{int(n_items**0.5)},PQ{dim}x4fs,RFlat")
        cells: Any = faiss.downcast_index(index.base_index)
        cells.cp.max_points_per_centroid = 64  # enough to place the cells, in a fraction of the time
        index.train(rows[:: max(1, n_items // 100_000)])
        index.add(rows)
        cells.nprobe, index.k_factor = self.n_probes, self.n_ranked
        self.index = index
        points = th.as_tensor(np.random.default_rng(0).uniform(-1, 1, (1, 512, dim)).astype(np.float32))
        self.recall = self._measure_recall(points)
        while self.recall < MIN_RECALL and (cells.nprobe < cells.nlist or index.k_factor < n_items):
            cells.nprobe, index.k_factor = min(2 * cells.nprobe, cells.nlist), min(2 * index.k_factor, n_items)
            self.recall = self._measure_recall(points)
        if self.recall < MIN_RECALL:
            warnings.warn(
                f"nearest='approximate': the index finds the nearest of these {n_items} items in {self.recall:.0%} of the "
                f"searches only, so all searches are exact, as with nearest='exact'.",
                stacklevel=2,
            )
            self.index, self.recall = None, 1.0

    def _measure_recall(self, points: th.Tensor) -> float:
        found, nearest = (self.embed(find(points, 1, None)) for find in (self._find, super()._find))
        squares = [(items.squeeze(2) - points).square().sum(dim=2) for items in (found, nearest)]
        # Another item at the same distance is as good
        return (squares[0] <= squares[1] * (1 + 1e-5)).float().mean().item()

    def _find(self, queries: th.Tensor, k: int, masks: th.Tensor | None) -> th.Tensor:
        if masks is not None or self.index is None:
            return super()._find(queries, k, masks)
        found = self.index.search(queries.flatten(0, 1).cpu().numpy(), k)[1]
        items = th.as_tensor(found, device=queries.device).unflatten(0, queries.shape[:2])
        if found.min() < 0:  # the scanned cells hold fewer than k items
            incomplete = (items < 0).flatten(1).any(dim=1)
            items[incomplete] = super()._find(queries[incomplete], k, None)
        return items


# In a compiled loss the search is one opaque operator. An operator takes tensors and numbers only, so it finds the search by
# its key in this table.

SEARCHES: WeakValueDictionary[int, NearestItems] = WeakValueDictionary()


def register(items: NearestItems) -> int:
    """:return: The key by which the operator finds this search, as long as the search lives"""
    key = next(key for key in count() if SEARCHES.get(key, items) is items)
    SEARCHES[key] = items
    return key


@th.library.custom_op("sb3_savo::nearest", mutates_args=())
def nearest_operator(queries: th.Tensor, k: int, masks: th.Tensor | None, key: int) -> th.Tensor:
    """:meth:`NearestItems.nearest` of the registered items"""
    return SEARCHES[key].nearest(queries, k, masks)


@nearest_operator.register_fake
def _(queries: th.Tensor, k: int, masks: th.Tensor | None, key: int) -> th.Tensor:
    return queries.new_empty((*queries.shape[:2], k), dtype=th.long)


def make_nearest_items(nearest: Nearest, embeddings: np.ndarray) -> NearestItems:
    """
    :param nearest: How to search, ``exact`` or ``approximate``
    :param embeddings: One row per item, (N, D)
    :return: The search
    """
    return ApproximateNearestItems(embeddings) if nearest == "approximate" else NearestItems(embeddings)


# Every thread has memory of its own, by device and type: a model may predict in several threads
SCRATCH = threading.local()


def scratch(size: int, device: th.device, dtype: th.dtype) -> th.Tensor:
    """
    :param size: How many numbers
    :param device: Where
    :param dtype: Of which type
    :return: Memory for the scores of one block, (size,). Allocating it would take about as long as computing the scores.
    """
    name = f"{device} {dtype}"
    memory: th.Tensor | None = getattr(SCRATCH, name, None)
    if memory is None or len(memory) < size:
        memory = th.empty(size, device=device, dtype=dtype)
        setattr(SCRATCH, name, memory)
    return memory[:size]


def row_argmax(scores: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Row-wise argmax in two steps. ``amax`` is much faster than ``max`` with indices, so find the maximum of each group first
    and search for the index in the winning group only.

    :param scores: (n, m), m a multiple of :data:`ARGMAX_GROUPS`
    :return: The highest score of each row and its column, (n, 1) each
    """
    groups = scores.unflatten(1, (ARGMAX_GROUPS, -1))
    values, residues = groups.amax(dim=1).max(dim=1, keepdim=True)
    residue_scores = groups.gather(2, residues.unsqueeze(1).expand(-1, ARGMAX_GROUPS, -1)).squeeze(2)
    return values, residue_scores.argmax(dim=1, keepdim=True) * groups.shape[2] + residues


def scale(embeddings: np.ndarray) -> np.ndarray:
    """
    :param embeddings: (N, D)
    :return: The embeddings with each dimension scaled from its range to [-1, 1]; 0 where all are equal
    """
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    return ((embeddings - middle) / np.where(half > 0, half, 1)).astype(np.float32)

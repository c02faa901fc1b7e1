"""Interactions in blocks of time: the tables, a teacher made of those so far, and the questions about each block.

It knows nothing of students that learn.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables.student import TableStudent

K = 20


class Block(NamedTuple):
    """One block, as CSR tables users × items."""

    train: Any
    valid: Any
    test: Any


def read_blocks(file: Path) -> list[Block]:
    """The blocks of a file with the columns block, split, user and item, separated by tabs, and a header."""
    from scipy import sparse

    parts: dict[tuple[int, str], list[tuple[int, int]]] = {}
    with file.open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            block, split, user, item = line.split("\t")
            parts.setdefault((int(block), split), []).append((int(user), int(item)))
    shape = tuple(1 + max(pair[side] for pairs in parts.values() for pair in pairs) for side in (0, 1))

    def table(block: int, split: str) -> Any:
        pairs = np.array(parts.get((block, split), []), np.int64).reshape(-1, 2)
        made = sparse.csr_matrix((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape)
        made.data[:] = 1.0
        made.sort_indices()
        return made

    blocks = sorted({block for block, _ in parts})
    return [Block(*(table(block, split) for split in ("train", "valid", "test"))) for block in blocks]


def smaller(blocks: list[Block], users: int) -> list[Block]:
    """The blocks of the first users alone."""
    return [Block(*(part[:users].tocsr() for part in block)) for block in blocks]


def union(parts: list[Any]) -> Any:
    """What is in any of some tables, as ones."""
    found = parts[0].copy()
    for part in parts[1:]:
        found = found + part
    found.data[:] = 1.0
    found.sort_indices()
    return found.tocsr()


def alike(seen: Any, shrinkage: float = 5.0) -> Any:
    """Cosines of items over users, shrunk, with a zero diagonal: `linear.itemknn`, where all are neighbours. CSR."""
    root_N = np.sqrt(np.asarray(seen.sum(axis=0)).ravel())
    found = (seen.T @ seen).tocsr()
    rows_E = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
    found.data /= root_N[rows_E] * root_N[found.indices] + shrinkage
    found.data[rows_E == found.indices] = 0.0
    return found


class Taught(NamedTuple):
    """The teacher's best unseen places of each user, and its shares of them."""

    places_UM: Tensor
    shares_UM: Tensor
    seconds: float

    @classmethod
    def of(cls, seen: Any, count: int, temperature: float) -> Taught:
        """Asks item neighbours over what was seen.

        Args:
            seen: All train parts so far.
            count: M.
            temperature: Of the softmax over the M scores, which are brought to a deviation of 1.
        """
        began = time.process_time()
        neighbours_NN, users = alike(seen), seen.shape[0]
        places_UM = np.zeros((users, count), np.int64)
        scores_UM = np.full((users, count), -np.inf, np.float32)
        for start in range(0, users, 1024):
            rows = seen[start : start + 1024].astype(np.float32)
            scored = (rows @ neighbours_NN).tocsr()
            scored = (scored - scored.multiply(rows)).tocsr()  # what a user had is not taught
            for at in range(rows.shape[0]):
                part = slice(scored.indptr[at], scored.indptr[at + 1])
                scores, places = scored.data[part], scored.indices[part]
                best = np.argsort(-scores)[:count]
                best = best[scores[best] > 0]
                places_UM[start + at, : len(best)], scores_UM[start + at, : len(best)] = places[best], scores[best]
        real_UM = np.isfinite(scores_UM)
        flat_UM = np.where(real_UM, scores_UM, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a user without a neighbour has no deviation
            deviation_U1 = np.nan_to_num(np.nanstd(flat_UM, axis=1, keepdims=True)) + 1e-9
        logits_UM = torch.from_numpy(np.where(real_UM, scores_UM / deviation_U1 / temperature, -1e9).astype(np.float32))
        shares_UM = logits_UM.softmax(1) * torch.from_numpy(real_UM)
        places_UM[~real_UM] = -1
        return cls(torch.from_numpy(places_UM), shares_UM, time.process_time() - began)


class Asked(NamedTuple):
    """The users of a part who are asked about, the places that are left out for them, and those that are right."""

    users: np.ndarray
    hidden: Any
    right: Any


def asked(block: Block, part: str, hidden: list[Any], count: int) -> Asked:
    """Questions of a block: of at most `count` users, the same ones for every row; 0: of all."""
    right = getattr(block, part)
    users = np.flatnonzero(np.diff(right.indptr))
    if count and len(users) > count:
        users = np.sort(np.random.default_rng(0).permutation(users)[:count])
    return Asked(users, union(hidden)[users], right[users])


def recall(student: TableStudent, questions: Asked, k: int = K) -> np.ndarray:
    """R@k of each user: the share of its right places that are among the first k."""
    found = []
    for start in range(0, len(questions.users), 256):
        part = slice(start, start + 256)
        scores_BN = student.scores(questions.users[part])
        hidden, right = questions.hidden[part], questions.right[part]
        # What is both hidden and right is asked for.
        wanted = right.toarray() > 0
        scores_BN[(hidden.toarray() > 0) & ~wanted] = -np.inf
        best_BK = torch.from_numpy(scores_BN).topk(k, dim=1).indices.numpy()
        hits_B = np.take_along_axis(wanted, best_BK, 1).sum(1)
        found.append(hits_B / wanted.sum(1))
    return np.concatenate(found)

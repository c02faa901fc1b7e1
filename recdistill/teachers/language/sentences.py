"""A sentence encoder of the BERT family, read from its files. It makes vectors of length 1 from texts.

The folder has the layout of sentence-transformers: `config.json`, `vocab.txt`, `model.safetensors` and
`1_Pooling/config.json`. The encoder must have uncased WordPiece, absolute positions, GELU and the mean over tokens, as
all-MiniLM-L6-v2 and many similar models. Others are refused. Nothing in the folder is executed. A Python package with
such a folder is not imported.

Sources: Devlin et al., "BERT", 2019 (network, WordPiece); Reimers and Gurevych, "Sentence-BERT", 2019 (the mean).

It knows nothing of items or scores.

Example:
    >>> wordpieces("Mr. Holland's opus", {"mr", ".", "holland", "'", "s", "op", "##us"})
    ['mr', '.', 'holland', "'", 's', 'op', '##us']
"""

from __future__ import annotations

import hashlib
import importlib.util
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from recdistill.errors import ConfigError, TeacherError
from recdistill.given import read_bytes

WEIGHTS = "model.safetensors"
_MOST_BYTES = 8 << 30  # of one file; an encoder of this kind has at most some GB
_LONGEST_WORD = 100  # characters; a longer word is unknown, as in BERT's own tokeniser


class _Config(msgspec.Struct, frozen=True):
    """The part of `config.json` that is needed."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    model_type: str = ""
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"
    layer_norm_eps: float = 1e-12


class Encoder:
    """An opened encoder.

    Attributes:
        dim: Length of a vector.
        digest: First 12 digits of the hash of its files.
    """

    def __init__(self, config: _Config, vocabulary: dict[str, int], weights: dict[str, Tensor], digest: str) -> None:
        self.dim = config.hidden_size
        self.digest = digest
        self.max_tokens = config.max_position_embeddings
        self._config = config
        self._vocabulary = vocabulary
        self._weights = weights

    @classmethod
    def open(cls, model: str) -> Encoder:
        """Opens a folder, or the folder inside a Python package.

        Args:
            model: Path of the folder, or name of the package.

        Raises:
            ConfigError: There is neither.
            TeacherError: The folder holds no encoder that this module can run.
        """
        folder = _folder(model)
        try:
            texts = {
                name: read_bytes(folder / name, TeacherError, advice="an encoder's folder holds it", most=_MOST_BYTES)
                for name in ("config.json", "vocab.txt", WEIGHTS)
            }
            pooling = folder / "1_Pooling" / "config.json"
            pools = (
                msgspec.json.decode(read_bytes(pooling, TeacherError), type=dict[str, bool | int | None])
                if pooling.is_file()
                else {}
            )
            config = msgspec.json.decode(texts["config.json"], type=_Config)
            words = texts["vocab.txt"].decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            raise TeacherError(
                f"{folder}: its config.json, vocab.txt or 1_Pooling do not describe an encoder: {e}"
            ) from e
        kind = (config.model_type, config.hidden_act, config.position_embedding_type)
        if kind != ("bert", "gelu", "absolute") or not pools.get("pooling_mode_mean_tokens", True):
            raise TeacherError(
                f"{folder}: only encoders of type bert with gelu, absolute positions and the mean over tokens can be "
                f"run here, not {', '.join(kind)}, pooling {pools or 'mean'}"
            )
        try:
            weights = {name.removeprefix("bert."): value for name, value in load(texts[WEIGHTS]).items()}
        except (SafetensorError, KeyError, ValueError, TypeError) as e:
            raise TeacherError(f"{folder / WEIGHTS}: is not a safetensors file: {e}") from e
        _check(folder, config, words, weights)
        digest = hashlib.sha256(b"".join(hashlib.sha256(texts[name]).digest() for name in sorted(texts)))
        used = [*_shapes(config), "embeddings.token_type_embeddings.weight"]
        floats = {name: weights[name].to(torch.float32) for name in used}
        return cls(config, {word: row for row, word in enumerate(words)}, floats, digest.hexdigest()[:12])

    def tokens(self, text: str, most: int) -> list[int]:
        """Rows of a text's tokens, between [CLS] and [SEP]. They are cut to `most` tokens."""
        unknown = self._vocabulary["[UNK]"]
        pieces = [self._vocabulary.get(piece, unknown) for piece in wordpieces(text, self._vocabulary)]
        return [self._vocabulary["[CLS]"], *pieces[: most - 2], self._vocabulary["[SEP]"]]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, batch: int = 64, max_tokens: int = 256) -> NDArray[np.float32]:
        """Unit vectors [N, dim] of texts.

        Args:
            texts: Any texts. An empty text has a vector too.
            batch: Texts at once.
            max_tokens: A longer text is cut.
        """
        most = min(max_tokens, self.max_tokens)
        rows = [self.tokens(text, most) for text in texts]
        vectors_ND = np.zeros((len(rows), self.dim), np.float32)
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))  # texts of similar length need little padding
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            length = len(rows[numbers[-1]])
            tokens_BT = torch.zeros(len(numbers), length, dtype=torch.int64)
            there_BT = torch.zeros(len(numbers), length, dtype=torch.bool)
            for place, number in enumerate(numbers):
                tokens_BT[place, : len(rows[number])] = torch.tensor(rows[number])
                there_BT[place, : len(rows[number])] = True
            vectors_ND[numbers] = self._forward(tokens_BT, there_BT).numpy()
        return vectors_ND

    def _forward(self, tokens_BT: Tensor, there_BT: Tensor) -> Tensor:
        w, config = self._weights, self._config
        batch, length = tokens_BT.shape

        def linear(x: Tensor, name: str) -> Tensor:
            return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

        def norm(x: Tensor, name: str) -> Tensor:
            return F.layer_norm(x, (self.dim,), w[f"{name}.weight"], w[f"{name}.bias"], config.layer_norm_eps)

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, length, config.num_attention_heads, -1).transpose(1, 2)

        # Sum of word, position and type embeddings; then each layer adds attention and a two-layer network.
        x_BTD = (
            w["embeddings.word_embeddings.weight"][tokens_BT]
            + w["embeddings.position_embeddings.weight"][:length]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x_BTD = norm(x_BTD, "embeddings.LayerNorm")
        for number in range(config.num_hidden_layers):
            at = f"encoder.layer.{number}"
            q, k, v = (heads(linear(x_BTD, f"{at}.attention.self.{part}")) for part in ("query", "key", "value"))
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=there_BT[:, None, None, :])
            seen = linear(seen.transpose(1, 2).reshape(batch, length, self.dim), f"{at}.attention.output.dense")
            x_BTD = norm(x_BTD + seen, f"{at}.attention.output.LayerNorm")
            wide = F.gelu(linear(x_BTD, f"{at}.intermediate.dense"))
            x_BTD = norm(x_BTD + linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        # Mean over the real tokens, scaled to length 1.
        weights_BT1 = there_BT[:, :, None].to(x_BTD.dtype)
        return F.normalize((x_BTD * weights_BT1).sum(1) / weights_BT1.sum(1), dim=1)


def wordpieces(text: str, vocabulary: Collection[str]) -> list[str]:
    """Lower-case words and punctuation, each cut from the left into the longest pieces that the vocabulary has.

    A word that cannot be cut in this way is `[UNK]`.
    """
    pieces: list[str] = []
    for word in _words(text):
        pieces += _cut(word, vocabulary)
    return pieces


def _words(text: str) -> list[str]:
    spaced = []
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn" or char == "\ufffd" or (kind in ("Cc", "Cf", "Co", "Cs", "Cn") and not char.isspace()):
            continue
        if char.isspace():
            spaced.append(" ")
        elif _stands_alone(char, kind):
            spaced.append(f" {char} ")
        else:
            spaced.append(char)
    return "".join(spaced).split()


def _stands_alone(char: str, kind: str) -> bool:
    """Whether a character is a word: punctuation, ASCII signs and East Asian ideographs (they have no spaces)."""
    code = ord(char)
    if kind.startswith("P") or (33 <= code <= 126 and not char.isalnum()):
        return True
    ideographs = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))
    return code >= 0x3400 and any(low <= code <= high for low, high in ideographs)


def _cut(word: str, vocabulary: Collection[str]) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(word) <= _LONGEST_WORD:
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else f"##{word[start:end]}"
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            break
    return pieces if start == len(word) else ["[UNK]"]


def _folder(model: str) -> Path:
    if not model:
        raise ConfigError("teacher.language.model: name the folder of an encoder, or a Python package that carries one")
    if Path(model).is_dir():
        return Path(model)
    name = model.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted({weights.parent for place in places for weights in Path(place).rglob(WEIGHTS)})
    if len(found) != 1:
        what = f"a package that carries {len(found)} encoders" if places else "no folder and no installed package"
        raise ConfigError(f"teacher.language.model: {model!r} is {what}")
    return found[0]


def _shapes(config: _Config) -> dict[str, tuple[int, ...]]:
    """Every array that the network reads, with its shape."""
    dim, wide = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, dim),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, dim),
    }
    vectors = ["embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"]
    for number in range(config.num_hidden_layers):
        at = f"encoder.layer.{number}"
        squares = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        for name in (*squares, f"{at}.attention.output.dense"):
            shapes[f"{name}.weight"] = (dim, dim)
            vectors.append(f"{name}.bias")
        shapes |= {f"{at}.intermediate.dense.weight": (wide, dim), f"{at}.intermediate.dense.bias": (wide,)}
        shapes[f"{at}.output.dense.weight"] = (dim, wide)
        vectors.append(f"{at}.output.dense.bias")
        for norm in ("attention.output", "output"):
            vectors += [f"{at}.{norm}.LayerNorm.weight", f"{at}.{norm}.LayerNorm.bias"]
    shapes |= dict.fromkeys(vectors, (dim,))
    return shapes


def _check(folder: Path, config: _Config, words: Sequence[str], weights: dict[str, Tensor]) -> None:
    """Checks that sizes, special tokens and numbers fit each other, so that nothing fails later."""
    layers = sum(name.endswith("attention.self.query.weight") for name in weights)
    if config.num_hidden_layers != layers or config.hidden_size % max(1, config.num_attention_heads):
        raise TeacherError(f"{folder}: config.json names {config.num_hidden_layers} layers, {WEIGHTS} holds {layers}")
    for name, shape in _shapes(config).items():
        array = weights.get(name)
        if array is None or tuple(array.shape) != shape:
            found = "is missing" if array is None else f"has shape {tuple(array.shape)}"
            raise TeacherError(f"{folder / WEIGHTS}: {name} {found}; config.json wants {shape}")
        if not bool(torch.isfinite(array).all()):
            raise TeacherError(f"{folder / WEIGHTS}: {name} holds numbers that are not finite")
    types = weights.get("embeddings.token_type_embeddings.weight")
    if types is None or types.ndim != 2 or types.shape[1] != config.hidden_size or not len(types):
        raise TeacherError(f"{folder / WEIGHTS}: embeddings.token_type_embeddings.weight is missing or misshapen")
    absent = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in words]
    if absent or len(words) != config.vocab_size:
        raise TeacherError(
            f"{folder}: vocab.txt has {len(words)} tokens and lacks {absent or 'none'}; config.json wants "
            f"{config.vocab_size}"
        )

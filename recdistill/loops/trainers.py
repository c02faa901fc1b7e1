"""Makes a fresh student of its settings, the recipe that its checkpoints name, and what evaluates it as it learns.

It knows nothing of logs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from recdistill.config import DistilSettings, LossSettings, PrequentialSettings, StudentSettings, WatchSettings
from recdistill.errors import CheckpointError
from recdistill.features import FeatureSpec
from recdistill.loops.distil import Ahead, Recipe

if TYPE_CHECKING:
    from recdistill.loops.follow import Champion
    from recdistill.loops.prequential import HeldAhead
    from recdistill.train import Trainer


def make_trainer(
    spec: FeatureSpec,
    student: StudentSettings,
    loss: LossSettings,
    *,
    seed: int,
    watch: WatchSettings | None = None,
    batch: int = 0,
) -> Trainer:
    """A fresh student of some settings.

    Args:
        spec: What a model sees.
        student: Shape and learning rates.
        loss: What it learns from a list.
        seed: Of every initial value.
        watch: How teachers' scores are made comparable and watched. None: as their scale says, and whoever is learnt
            from is believed.
        batch: Lists of a whole batch: the loss of each step is divided by it. 0: by those that the step has.
    """
    from recdistill.train import Rates, Shape, SoftTerms, Trainer
    from recdistill.watch import Watch

    return Trainer(
        spec,
        Shape(dim=student.dim, hidden=student.hidden, context_dim=student.context_dim, init=student.init),
        Rates(
            dense=student.learning_rate,
            rows=student.embedding_learning_rate,
            id_dropout=student.id_dropout,
            dropout=student.dropout,
            warmup=-(-student.warmup_lists // (batch or 256)),
            forget=-(-student.forget_lists // (batch or 256)),
            average=-(-student.average_lists // (batch or 256)),
        ),
        SoftTerms(loss.recipe, soft=loss.soft, label=loss.label, temperature=loss.temperature),
        seed=seed,
        softmax_items=loss.full_softmax_items,
        sampled_items=loss.sampled_items,
        previous=loss.previous,
        previous_every=loss.previous_every,
        comparable="scale" if watch is None else watch.comparable,
        watch=None if watch is None else Watch(**msgspec.structs.asdict(watch), numbers=_numbers(spec)),
        batch=batch,
        replay=loss.replay_lists,
        power=loss.sampled_power,
        position_cap=loss.position_cap,
        head=loss.soft_head,
    )


def _numbers(spec: FeatureSpec) -> list[str]:
    """The fields of the context that are numbers."""
    return [name for name, field in spec.context.items() if field.kind == "number"]


def recipe_of(
    trainer: Trainer,
    spec: FeatureSpec,
    student: StudentSettings,
    loss: LossSettings,
    distil: DistilSettings,
    watch: WatchSettings,
) -> Recipe:
    """Everything that decides what a student becomes; the arguments are those that it was made with."""
    said = trainer.terms.resolved() | {
        "full_softmax_items": loss.full_softmax_items,
        "sampled_items": loss.sampled_items,
        "sampled_power": loss.sampled_power,
        "replay_lists": loss.replay_lists,
    }
    if loss.position_cap != LossSettings().position_cap:
        said["position_cap"] = loss.position_cap
    if loss.soft_head:
        said |= {"soft_head": True}
    if loss.previous:
        said |= {"previous": loss.previous, "previous_every": loss.previous_every}
    return Recipe(
        student=msgspec.to_builtins(student),
        loss=said,
        batch=distil.batch,
        passes=distil.passes,
        seed=distil.seed,
        threads=distil.threads,
        features=spec.hash,
        watch={name: value for name, value in msgspec.to_builtins(watch).items() if name != "drift_lists"},
        within_s=distil.learn_within_s,
        rebuild=distil.rebuild_lists,
    )


DECIDING: Final = ("batch", "passes", "seed", "threads", "learn_within_s", "rebuild_lists")
"""Settings of `[distil]` that decide what a student becomes."""


def sections(
    student: StudentSettings, loss: LossSettings, distil: DistilSettings, watch: WatchSettings
) -> dict[str, Any]:
    """The settings that decide what a student becomes, as a checkpoint keeps them."""
    return {
        "student": msgspec.to_builtins(student),
        "loss": msgspec.to_builtins(loss),
        "watch": msgspec.to_builtins(watch),
        "distil": {name: getattr(distil, name) for name in DECIDING},
    }


def made_of(spec: FeatureSpec, given: dict[str, Any]) -> tuple[Trainer, Recipe]:
    """A fresh student of what `sections` returned, now or in an earlier run, and its recipe. torch gets its threads.

    Raises:
        CheckpointError: The sections were kept by another version.
    """
    from recdistill.train import use_threads

    try:
        student = msgspec.convert(given["student"], StudentSettings)
        loss = msgspec.convert(given["loss"], LossSettings)
        distil = msgspec.convert(given["distil"], DistilSettings)
        watch = msgspec.convert(given["watch"], WatchSettings)
    except (KeyError, msgspec.ValidationError) as e:
        raise CheckpointError(f"settings of an earlier run cannot be read: {e}; resume with the version of then") from e
    use_threads(distil.threads)
    trainer = make_trainer(spec, student, loss, seed=distil.seed, watch=watch, batch=distil.batch)
    return trainer, recipe_of(trainer, spec, student, loss, distil, watch)


def ahead_of(chosen: PrequentialSettings, champion: Callable[[], Champion] | None, registry: str) -> Ahead | None:
    """What scores lists before they are learnt; None where nothing does.

    Args:
        chosen: Its settings.
        champion: Makes what knows the champion; None: this distiller has to do with no registry.
        registry: Where the registry is. One in a file that is not there yet is not asked, since asking would make it.
    """
    from recdistill.loops.prequential import Following, Prequential

    if chosen.share == 0:
        return None
    prequential = Prequential(
        share=chosen.share,
        window_s=chosen.window_s,
        labels_within_s=chosen.labels_within_s,
        half_life=chosen.half_life,
    )
    there = find_spec("mlflow") is not None and find_spec("onnxruntime") is not None
    if champion is None or not chosen.champion or not there:
        return Ahead(prequential)
    from recdistill.loops.prequential.opening import InRegistry

    file = Path(registry.removeprefix("sqlite:///")) if registry.startswith("sqlite:///") else None
    return Ahead(
        prequential,
        Following(InRegistry(champion(), lambda: file is None or file.exists()), every_s=chosen.follow_s),
    )


def held_ahead_of(chosen: PrequentialSettings, champion: Champion) -> HeldAhead | None:
    """What scores held-out lists with the champion of their time; None where nothing does."""
    from recdistill.loops.prequential import HeldAhead
    from recdistill.loops.prequential.opening import InRegistry

    if chosen.share == 0 or not chosen.champion:
        return None
    return HeldAhead(InRegistry(champion, lambda: True), share=chosen.share, window_s=chosen.window_s)

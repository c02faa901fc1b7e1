"""The settings of the translator -> what translates each topic. As `wire`, it is a place where settings become parts.

It knows nothing of how a loop works.

Example:
    >>> translators_of(Settings())
    {}
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

from recdistill.config import Settings
from recdistill.data import mapping
from recdistill.data.foreign import Registry, Translator, decoder_of
from recdistill.errors import ConfigError
from recdistill.features import FeatureSpec
from recdistill.loops import translate
from recdistill.loops.letters import Theirs
from recdistill.loops.translate import Translate, raw_of
from recdistill.progress import Progress
from recdistill.stream import Place, open_log, outside, standard_topics


def check_names(settings: Settings) -> None:
    """Refuses topics to translate that are recdistill's own: it would read what it writes.

    Raises:
        ConfigError: One is.
    """
    for one in settings.translate.topics:
        if outside(settings.log.prefix, one.topic) in standard_topics():
            raise ConfigError(translate.own_topic(one.topic))


def translators_of(settings: Settings) -> dict[str, Translator]:
    """What translates each of the settings' topics, by the name by which the log calls it.

    Raises:
        ConfigError: A topic is one of recdistill's own, or a mapping, a schema or the registry does not fit.
    """
    check_names(settings)
    chosen = settings.translate
    features = Path(settings.features.file)
    spec = FeatureSpec.load(features) if features.is_file() else None
    at = chosen.registry
    registry = (
        Registry(
            at.url,
            user=at.user,
            password=at.password,
            token=at.token,
            ca_file=at.ca_file,
            timeout_s=at.timeout_s,
        )
        if at.url
        else None
    )
    found: dict[str, Translator] = {}
    for one in chosen.topics:
        name = outside(settings.log.prefix, one.topic)
        if name in found:
            raise ConfigError(f"translate.topics: {one.topic!r} is named twice; give one entry all of its mappings")
        schema = Path(one.schema) if one.schema else None
        decode = decoder_of(one.format, registry=registry, schema=schema, message=one.message)
        found[name] = Translator(
            one.topic, [mapping.TableMapping.load(file) for file in one.mappings], decode, spec=spec
        )
    return found


def theirs_of(settings: Settings) -> dict[str, Translate]:
    """As `translators_of`, for messages of the log."""

    def of_log(translator: Translator) -> Translate:
        return lambda message: translator.encoded(raw_of(message))

    return {name: of_log(translator) for name, translator in translators_of(settings).items()}


def understood_by(settings: Settings) -> dict[str, Theirs]:
    """As `translators_of`, for whoever mends and sends dead letters."""

    def of_letters(translator: Translator) -> Theirs:
        return Theirs(
            fields=lambda message: translator.fields(raw_of(message)),
            records=lambda message: translator.encoded(raw_of(message)),
            of_fields=translator.encoded_fields,
        )

    return {name: of_letters(translator) for name, translator in translators_of(settings).items()}


def run(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    begin: Place | None,
) -> Counter[str]:
    """Runs the translator over the settings' topics; see `recdistill.loops.translate`."""
    chosen = settings.translate
    with closing(open_log(settings.log, stop.is_set)) as log:
        return translate.run(
            log,
            theirs_of(settings),
            batch=chosen.batch,
            wait_s=chosen.wait_s,
            patience_s=chosen.patience_s,
            worker=chosen.worker,
            workers=chosen.workers,
            most_bad=(settings.bad_records.most, settings.bad_records.of),
            begin=begin,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )

"""The settings: one Struct for each section of the file, with the meaning of every key.

They know nothing of files, the environment, or what the parts do with them.

Example:
    >>> Settings().student.dim
    24
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from recdistill.config.canary import CanarySettings
from recdistill.config.distil import DistilSettings
from recdistill.config.interactions import InteractionSettings
from recdistill.config.join import HeldOutSettings, JoinSettings
from recdistill.config.judge import GateSettings, JudgeSettings, PromoteSettings
from recdistill.config.keys import KeySettings
from recdistill.config.prequential import PrequentialSettings
from recdistill.config.rank import RankSettings
from recdistill.config.student import LossSettings, StudentSettings
from recdistill.config.teachers import (
    HttpTeacherSettings,
    LanguageTeacherSettings,
    LinearTeacherSettings,
    OnnxTeacherSettings,
)
from recdistill.config.translate import BadRecordSettings, TranslateSettings
from recdistill.config.trial import TrialSettings
from recdistill.config.watching import StatusSettings, TellSettings
from recdistill.limits import MIN_BUDGET

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: where the topics live."""

    kind: Annotated[
        Literal["embedded", "kafka"],
        Meta(description="Where the records are. embedded: one SQLite file on this machine. kafka: Apache Kafka."),
    ] = "embedded"
    path: Annotated[str, Meta(min_length=1, description="File of the embedded log.")] = "recdistill-data/log.sqlite"
    brokers: Annotated[str, Meta(description="Kafka bootstrap servers, `host:port,host:port`.")] = "127.0.0.1:9092"
    prefix: Annotated[
        str,
        Meta(
            description="Text before the name of each topic, so that several products can share one broker. "
            "It is also put before the group ids and transactional ids of Kafka.",
            pattern="^[A-Za-z0-9._-]*$",
        ),
    ] = ""
    options: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="Options of the Kafka client, by its names: security_protocol, sasl_mechanism, ssl_cafile, …"),
    ] = {}


class TopicSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[topics]`: how many partitions topics have, and how long records stay. `lanes` never changes later."""

    partitions: Annotated[int, Meta(ge=1, le=1024, description="Partitions of impressions, rankings and feedback.")] = 1
    lanes: Annotated[int, Meta(ge=1, le=1024, description="Lanes: partitions of `examples`, read in a fixed turn.")] = 1
    keep_days: Annotated[
        float,
        Meta(
            ge=0,
            le=36500,
            description="Days. `recdistill topics trim` deletes only records that have been in the log for longer.",
        ),
    ] = 7.0
    trim_every_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds. Embedded log: the promoter deletes old records so often, as `recdistill "
            "topics trim` does. 0: never.",
        ),
    ] = 0.0


class FeatureSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[features]`: what a model sees of items and requests."""

    file: Annotated[str, Meta(min_length=1, description="Path of the feature specification, a TOML file.")] = (
        "features.toml"
    )


class TeacherSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher]`: the model that scores candidates, and from which the student learns."""

    kind: Annotated[
        Literal["builtin", "logged", "callable", "onnx", "http", "linear", "language", "ensemble"],
        Meta(
            description="builtin: the built-in ranker. logged: scores that the impressions already carry. callable: a "
            "Python function. onnx: a model in an ONNX file. http: a model behind HTTP. linear: linear rankers in "
            "closed form. language: a sentence encoder. ensemble: several of these."
        ),
    ] = "builtin"
    path: Annotated[str, Meta(min_length=1, description="builtin, linear: folder of the trained teacher.")] = (
        "recdistill-data/teacher"
    )
    function: Annotated[
        str, Meta(description="callable: `package.module:function`, impressions -> list of score lists.")
    ] = ""
    id: Annotated[
        str, Meta(description="Id of the teacher, written into each ranking. The built-in teacher has its own id.")
    ] = "teacher"
    version: Annotated[
        str,
        Meta(
            description="Version of the teacher, written into each ranking. The built-in teacher has its "
            "own. Empty: a hash of the file (onnx), what the server says (http with open-inference), otherwise "
            "1."
        ),
    ] = ""
    scale: Annotated[
        Literal["unbounded", "logit", "probability", "rank"],
        Meta(
            description="What a score is. logit: the logarithm of the odds of a click. probability: from 0 "
            "to 1. rank: only the order counts. unbounded: any number. Higher is always better. The built-in "
            "teacher has its own."
        ),
    ] = "unbounded"
    onnx: OnnxTeacherSettings = OnnxTeacherSettings()
    http: HttpTeacherSettings = HttpTeacherSettings()
    linear: LinearTeacherSettings = LinearTeacherSettings()
    language: LanguageTeacherSettings = LanguageTeacherSettings()
    members: Annotated[
        list[EnsembleMember],
        Meta(
            description="ensemble: one `[[teacher.members]]` for each member. It has the keys of `[teacher]`, and its "
            "`weight` in the sum (default 1)."
        ),
    ] = []


class EnsembleMember(TeacherSettings, frozen=True, forbid_unknown_fields=True):
    """`[[teacher.members]]`: one of several teachers."""

    weight: Annotated[float, Meta(gt=0, description="Weight of its standardised scores in the sum.")] = 1.0


class TeacherTraining(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher_training]`: how `recdistill teach` trains the built-in teacher."""

    kind: Annotated[
        Literal["towers", "attention"],
        Meta(
            description="towers: a tower that attends to events and one that pools them. attention: a causal "
            "transformer over the whole history. Its training can go on after a kill, and ends early."
        ),
    ] = "towers"
    dim: Annotated[int, Meta(ge=4, le=2048, description="Width of the tower that attends to events.")] = 64
    layers: Annotated[int, Meta(ge=1, le=48, description="Its attention layers.")] = 2
    heads: Annotated[int, Meta(ge=1, le=64, description="Its attention heads. dim must be a multiple of it.")] = 2
    pooled_dim: Annotated[
        int, Meta(ge=0, le=2048, description="Width of the second tower, which pools the history; 0: no second tower.")
    ] = 64
    dropout: Annotated[
        float,
        Meta(ge=0.0, lt=1.0, description="Share of the numbers inside the model that are set to 0 in each step."),
    ] = 0.3
    epochs: Annotated[int, Meta(ge=1, description="How many times the training reads the records, at most.")] = 4
    patience: Annotated[
        int,
        Meta(
            ge=1,
            description="attention: the training ends after so many passes in a row that were no better on "
            "the held-out choices.",
        ),
    ] = 10
    held_out: Annotated[
        int,
        Meta(
            ge=0,
            description="attention: of so many histories (at most a tenth of them), the last choice is not "
            "trained on. On these choices the best pass is found.",
        ),
    ] = 1000
    batch: Annotated[int, Meta(ge=1, description="Windows of a history that one step learns from.")] = 10
    learning_rate: Annotated[float, Meta(gt=0, description="Learning rate of the dense parameters (Adam).")] = 2e-3
    table_learning_rate: Annotated[
        float, Meta(gt=0, description="Learning rate of the rows of items and attributes (Adagrad).")
    ] = 0.1
    seed: Annotated[
        int, Meta(ge=0, description="Where random numbers begin. Another number gives another teacher, about as good.")
    ] = 0


class ScoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[score]`: the scorer. It reads impressions, asks the teacher, and writes rankings."""

    batch: Annotated[int, Meta(ge=1, description="Most impressions scored, and committed, at once.")] = 256
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for the first impression of a batch.")] = 0.5
    deadline_s: Annotated[float, Meta(gt=0, description="Time the teacher has for one batch.")] = 30.0
    give_up_after: Annotated[
        int,
        Meta(
            ge=0,
            description="The scorer stops after the teacher has failed so many times in a row. Otherwise it "
            "would fill the topic `dead-letters`.",
        ),
    ] = 100
    patience_s: Annotated[
        float,
        Meta(
            ge=0,
            description="How long the scorer waits for a teacher that cannot answer at all. Then it stops. Nothing is "
            "lost.",
        ),
    ] = 600.0
    budget: Annotated[
        float,
        Meta(
            ge=MIN_BUDGET,
            le=1,
            description="Share of the candidates that the teacher scores. 1: all of them.",
        ),
    ] = 1.0
    budget_by: Annotated[
        Literal["lists", "candidates"],
        Meta(
            description="What a budget leaves out. candidates: some candidates of each list. lists: whole lists, "
            "chosen by chance; use it for a teacher whose score of an item depends on the other items."
        ),
    ] = "candidates"
    cache_mb: Annotated[
        float, Meta(ge=0, description="Megabytes of memory for earlier scores of the teacher; 0: no cache.")
    ] = 0.0
    cache_file: Annotated[
        str, Meta(description="With `cache_mb`: an SQLite file that keeps the scores between runs; empty: memory only.")
    ] = ""
    cache_file_mb: Annotated[float, Meta(gt=0, description="Most megabytes of scores in that file.")] = 1000.0
    cache_step_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds. Two requests that differ only in their time get the same earlier score if "
            "their times are in the same step of so many seconds.",
        ),
    ] = 60.0
    again: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="How many of its first requests the teacher is asked again, for each 256 impressions "
            "of a partition. A changed answer is reported. Each ranking says how well the teacher agrees with "
            "itself. 0: none. A logged teacher cannot be asked again.",
        ),
    ] = 4
    most_missing: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="The scorer stops when the teacher gives no score for a larger share of the candidates than "
            "this. 1: never.",
        ),
    ] = 0.95
    cost_per_1000: Annotated[
        float,
        Meta(
            ge=0, description="What 1,000 scores of the teacher cost, in money of any kind. 0: costs are not counted."
        ),
    ] = 0.0
    worker: Annotated[
        int,
        Meta(
            ge=0,
            description="Number of this process, from 0. It reads the partitions p with p mod `workers` = `worker`.",
        ),
    ] = 0
    workers: Annotated[int, Meta(ge=1, description="How many such processes share the partitions.")] = 1


class ProbeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[probe]`: the prober. It writes what the student would show as impressions, so that the teacher scores it."""

    share: Annotated[Share, Meta(description="Share of the product's impressions that are probed.")] = 0.05
    k: Annotated[int, Meta(ge=2, le=1000, description="Items of a probe.")] = 20
    per_s: Annotated[float, Meta(ge=0.001, description="Most probes written per second.")] = 20.0
    batch: Annotated[int, Meta(ge=1, description="Most impressions read, and committed, at once.")] = 200
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for the first impression of a batch.")] = 0.5
    follow_s: Annotated[
        float, Meta(gt=0, description="Seconds between two looks at which version is the champion.")
    ] = 5.0


class WatchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[watch]`: how scores of teachers are made comparable, and what happens when a teacher changes."""

    comparable: Annotated[
        Literal["teacher", "standard", "rank", "scale"],
        Meta(
            description="What is done to the scores of each list. teacher: they get the unit of their teacher, so a "
            "list of near-equals stays one. standard: each list is brought to the same spread. rank: their order "
            "is standardised. scale: they are read by the teacher's scale, so the student also learns a change of unit."
        ),
    ] = "teacher"
    spread: Annotated[
        float,
        Meta(
            ge=0,
            description="How far apart the scores of a list are after that: their standard deviation, in "
            "logits. 0: each teacher gets the value that makes the labels most likely.",
        ),
    ] = 2.0
    act: Annotated[
        Literal["quarantine", "notice", "off"],
        Meta(
            description="What happens when a teacher's order seems to change suddenly. notice: it is only reported. "
            "quarantine: the student no longer learns from it; a sound teacher is sometimes accused. off: nobody looks."
        ),
    ] = "notice"
    probation: Annotated[
        int,
        Meta(
            ge=0,
            description="With `quarantine`: a teacher that comes later is watched for so many lists. Only then does "
            "the student learn from it. 0: it learns at once.",
        ),
    ] = 200
    least: Annotated[
        Share,
        Meta(
            description="How well a teacher must agree with the labels or the student, to be trusted: at "
            "least this share of how well it agreed before, or of how well other teachers did."
        ),
    ] = 0.5
    release: Annotated[
        int,
        Meta(
            ge=50,
            description="A teacher in quarantine must agree over so many lists before the student learns from it "
            "again.",
        ),
    ] = 300
    drift_lists: Annotated[
        int,
        Meta(
            ge=0,
            description="So many lists show how inputs and labels usually look. Later lists are compared "
            "with them, and a drift (a lasting change) is reported. Take at least the lists of one day. 0: "
            "nothing is compared.",
        ),
    ] = 2000


class RegistrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[registry]`: where versions are registered: MLflow."""

    uri: Annotated[str, Meta(min_length=1, description="Tracking URI: `sqlite:///file`, or an MLflow server.")] = (
        "sqlite:///recdistill-data/mlflow.sqlite"
    )
    name: Annotated[str, Meta(description="Name of the registered model.", pattern="^[A-Za-z0-9._ -]{1,200}$")] = (
        "recdistill-student"
    )
    cache: Annotated[str, Meta(description="Where fetched bundles are kept, by content hash.")] = (
        "recdistill-data/cache"
    )
    timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for one answer of the server.")] = 20.0
    keep: Annotated[
        int,
        Meta(
            ge=1,
            description="How many old bundles are kept: so many that were champion last, and so many of the "
            "newest others. Bundles with an alias are always kept.",
        ),
    ] = 5
    by_hand: Annotated[
        Literal["follow", "keep"],
        Meta(
            description="What happens if somebody moves the alias `champion` in MLflow itself, without "
            "`promote` or `rollback`. follow: rankers serve that version. keep: rankers stay with the version "
            "in the ledger, and the promoter moves the alias back. In both cases the ledger gets an entry."
        ),
    ] = "follow"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All sections. Each of them may be left out."""

    log: LogSettings = LogSettings()
    topics: TopicSettings = TopicSettings()
    features: FeatureSettings = FeatureSettings()
    interactions: InteractionSettings = InteractionSettings()
    translate: TranslateSettings = TranslateSettings()
    bad_records: BadRecordSettings = BadRecordSettings()
    teacher: TeacherSettings = TeacherSettings()
    teacher_training: TeacherTraining = TeacherTraining()
    score: ScoreSettings = ScoreSettings()
    join: JoinSettings = JoinSettings()
    held_out: HeldOutSettings = HeldOutSettings()
    probe: ProbeSettings = ProbeSettings()
    student: StudentSettings = StudentSettings()
    loss: LossSettings = LossSettings()
    watch: WatchSettings = WatchSettings()
    distil: DistilSettings = DistilSettings()
    prequential: PrequentialSettings = PrequentialSettings()
    judge: JudgeSettings = JudgeSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    keys: KeySettings = KeySettings()
    promote: PromoteSettings = PromoteSettings()
    canary: CanarySettings = CanarySettings()
    trial: TrialSettings = TrialSettings()
    tell: TellSettings = TellSettings()
    status: StatusSettings = StatusSettings()
    rank: RankSettings = RankSettings()

r"""Typed settings for every part, from one TOML file and the environment.

Each section of the file is one Struct. A part takes its own section, never all settings. An unknown key, a wrong type
or a value outside its range is a `ConfigError`. It names the key, and if a known key looks similar, it names that too.
`RECDISTILL__SECTION__KEY=value` in the environment overrides the file, so a container image needs no file of its own.

It knows nothing of what the parts do with their settings. `reference()` writes docs/configuration.md from them.

Example:
    >>> parse_settings('[student]\ndim = 32', env={"RECDISTILL__LOG__PREFIX": "shop-"}).student.dim
    32
"""

from recdistill.config.canary import CanarySettings
from recdistill.config.distil import DistilSettings
from recdistill.config.interactions import InteractionSettings
from recdistill.config.join import HeldOutSettings, JoinSettings
from recdistill.config.judge import GateSettings, JudgeSettings, PromoteSettings
from recdistill.config.keys import KeySettings
from recdistill.config.load import PREFIX, convert, explain, load_settings, parse_settings, read_toml
from recdistill.config.plugin import load_function
from recdistill.config.prequential import PrequentialSettings
from recdistill.config.rank import RankSettings
from recdistill.config.settings import (
    EnsembleMember,
    FeatureSettings,
    LogSettings,
    ProbeSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    TeacherSettings,
    TeacherTraining,
    TopicSettings,
    WatchSettings,
)
from recdistill.config.student import LossSettings, StudentSettings
from recdistill.config.teachers import (
    HttpTeacherSettings,
    LanguageTeacherSettings,
    LinearTeacherSettings,
    OnnxTeacherSettings,
    TensorSettings,
)
from recdistill.config.text import reference, to_toml
from recdistill.config.translate import (
    BadRecordSettings,
    SchemaRegistrySettings,
    TranslateSettings,
    TranslateTopic,
)
from recdistill.config.trial import TrialSettings
from recdistill.config.watching import StatusSettings, TellSettings

__all__ = [
    "PREFIX",
    "BadRecordSettings",
    "CanarySettings",
    "DistilSettings",
    "EnsembleMember",
    "FeatureSettings",
    "GateSettings",
    "HeldOutSettings",
    "HttpTeacherSettings",
    "InteractionSettings",
    "JoinSettings",
    "JudgeSettings",
    "KeySettings",
    "LanguageTeacherSettings",
    "LinearTeacherSettings",
    "LogSettings",
    "LossSettings",
    "OnnxTeacherSettings",
    "PrequentialSettings",
    "ProbeSettings",
    "PromoteSettings",
    "RankSettings",
    "RegistrySettings",
    "SchemaRegistrySettings",
    "ScoreSettings",
    "Settings",
    "StatusSettings",
    "StudentSettings",
    "TeacherSettings",
    "TeacherTraining",
    "TellSettings",
    "TensorSettings",
    "TopicSettings",
    "TranslateSettings",
    "TranslateTopic",
    "TrialSettings",
    "WatchSettings",
    "convert",
    "explain",
    "load_function",
    "load_settings",
    "parse_settings",
    "read_toml",
    "reference",
    "to_toml",
]

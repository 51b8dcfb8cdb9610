"""What `adapt` is asked for."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from udever.habits import told
from udever.pairs.gathering import Gathering
from udever.pairs.mining import KINDS, STANDARD_LIBRARY_EXCLUDE
from udever.training import FRESH, SEEDLING, TrainingSettings

_SMALL = {"tuning": "full", "batch_size": 128, "schedule": "cosine"}
_SUITED = {
    FRESH: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=3e-3, warmup=0.05),
    SEEDLING: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=4e-3, warmup=0.1),
}


def default_training(base: str) -> TrainingSettings:
    """The settings that suit a base: the paper's and its three epochs, or what a small model needs."""
    return _SUITED.get(base, TrainingSettings(epochs=3.0))


@dataclass(frozen=True)
class AdaptSettings:
    """What `adapt` mines, how it trains and what it scores.

    `kinds`, `exclude`, `language`, `held_out`, `development`, and for tables of pairs `held_out_by`, `columns` and
    `skip_empty` are those of `gather`. `max_queries` bounds the held-out queries, `max_studied` the pairs of kinds that
    are learned from alone (a sample is taken), `max_seen` the rows that training sees, by fewer passes than `training`
    says but for the first. `training` None takes what suits the base, and lets others be tried within `minutes`, about
    (None: five times the mining). `negatives` hard ones are trained on with each pair: they cost as much time again and
    brought nothing (dev/LOG.md). `questions` are answered at the end from all that was mined.
    """

    kinds: Collection[str] = KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    development: float = 0.1
    held_out_by: str = "text"
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    max_queries: int = 2000
    max_studied: int = 20_000
    max_seen: int | None = 60_000
    training: TrainingSettings | None = None
    minutes: float | None = None
    negatives: int = 0
    max_length: int = 300
    questions: Sequence[str] = ()
    seed: int = 0

    @property
    def gathering(self) -> Gathering:
        """What is gathered."""
        return Gathering(**{part.name: getattr(self, part.name) for part in fields(Gathering)})


AdaptSettings.__init__ = told({})(AdaptSettings.__init__)
DEFAULTS = AdaptSettings()

DEMO = AdaptSettings(
    kinds=("code", "names"),
    minutes=0,
    max_studied=6_000,
    max_seen=10_000,
    exclude=STANDARD_LIBRARY_EXCLUDE,
    language="eng-Latn",
    questions=(
        "how do I copy a whole directory tree",
        "parse a date written in ISO format",
        "split a shell command line into its arguments",
    ),
)
"""For the standard library of the interpreter that runs (`udever.pairs.mining.standard_library`)."""

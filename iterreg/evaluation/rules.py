"""By what fields are scored: the protocol, the evaluation configs, and whether extras are measured too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterreg.dataset.base import Dataset
from iterreg.errors import InputError
from iterreg.evaluation.protocols import Protocol, protocol_named
from iterreg.evaluation.protocols.config import EvaluationConfig, configs_beside, read_config
from iterreg.evaluation.storage import Storage
from iterreg.text_files import read_json

__all__ = ["Rules", "choose_rules", "protocol_of", "recorded_rules", "source_of", "storage_of"]

_NOTHING_SAID = Storage()


@dataclass(frozen=True)
class Rules:
    """By what a folder of fields is scored.

    Attributes
    ----------
    configs
        Evaluation configs; a pair that none of them lists is measured by the protocol's defaults.
    with_extras
        Whether what is beyond the challenge is measured too.
    storage
        What the files of the fields are called, and in which format they are.
    """

    protocol: Protocol
    configs: tuple[EvaluationConfig, ...] = ()
    with_extras: bool = True
    storage: Storage = _NOTHING_SAID

    def to_json(self) -> dict[str, Any]:
        """What `recorded_rules` makes them of again."""
        return {
            "protocol": self.protocol.name,
            "configs": [str(config.path.absolute()) for config in self.configs],
            "extras": self.with_extras,
            "fields": self.storage.to_json(),
        }


def choose_rules(
    dataset: Dataset,
    *,
    protocol: str | None = None,
    configs: Sequence[EvaluationConfig] | None = None,
    with_extras: bool = True,
    storage: Storage = _NOTHING_SAID,
) -> Rules:
    """The rules for a data set.

    Parameters
    ----------
    protocol
        Its name. None: learn2reg for a Learn2Reg evaluation config, lumir24 for LUMIR24's, else lumir25.
    configs
        None: those beside the data set's json that list its pairs (lumirage has none).

    Raises
    ------
    InputError
        If there is no such protocol.
    """
    if configs is None:
        configs = () if protocol == "lumirage" else configs_beside(dataset)
    if protocol is None:
        # Both years call themselves LUMIR; their files are LUMIR_… and LUMIR25_….
        files = [dataset.source.name.upper(), *(config.path.name.upper() for config in configs)]
        if any(config.generic for config in configs):
            protocol = "learn2reg"
        else:
            protocol = "lumir24" if files[-1].startswith(("LUMIR_", "LUMIR24_")) else "lumir25"
    return Rules(protocol_named(protocol), tuple(configs), with_extras, storage)


def recorded_rules(scores: Path, dataset: Dataset) -> Rules | None:
    """The rules by which a folder of scores was made; None when it does not say.

    Of scores of before only the protocol is known; the configs are then those beside the data set.
    """
    try:
        found = read_json(scores / "summary.json")
        if "configs" not in found:
            return choose_rules(dataset, protocol=str(found["protocol"]))
        configs = [read_config(path) for path in found["configs"]]
        return choose_rules(
            dataset,
            protocol=str(found["protocol"]),
            configs=configs,
            with_extras=bool(found["extras"]),
            storage=Storage.from_json(found.get("fields")),
        )
    except (InputError, ValueError, KeyError, TypeError):
        return None


def protocol_of(scores: Path) -> str | None:
    """The protocol by which a folder of scores was made; None when it does not say."""
    return _summarised(scores, "protocol")


def source_of(scores: Path) -> str | None:
    """The file or folder of the data set that scores were made with; None when they do not say."""
    return _summarised(scores, "source")


def storage_of(scores: Path) -> Storage:
    """How the fields were stored that scores were made of; nothing said when they do not say."""
    try:
        return Storage.from_json(read_json(scores / "summary.json").get("fields"))
    except (InputError, ValueError, TypeError, AttributeError):
        return Storage()


def _summarised(scores: Path, key: str) -> str | None:
    try:
        return str(read_json(scores / "summary.json")[key])
    except (InputError, ValueError, KeyError, TypeError):
        return None

"""Protocols: which measures a challenge takes, over which masks and labels, and how it sums them up."""

from __future__ import annotations

from iterreg.evaluation.protocols.base import Measure, Protocol
from iterreg.evaluation.protocols.known import PROTOCOLS, protocol_named

__all__ = ["PROTOCOLS", "Measure", "Protocol", "protocol_named"]

"""Signals: hints that something in the store may have changed. The rows are the truth; a signal never is."""

from ebbtide.jobs.signals.registry import SIGNALS, open_signal, own_signal
from ebbtide.jobs.signals.signal import Signal

__all__ = ["SIGNALS", "Signal", "open_signal", "own_signal"]

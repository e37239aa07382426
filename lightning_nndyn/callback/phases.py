"""How far a run's session, its epoch and its reader are, each as one explicit state."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Of a session. It is active from OPEN to FAILED."""

    IDLE = "no fit has begun"
    OPEN = "the fit is set up, and training has not begun"
    TRAINING = "the run is trained, and its weights are read"
    FAILED = "this process has given up; the others do so when all meet next"
    DISABLED = "all processes have given up"
    ENDED = "the fit has ended"


class EpochPhase(Enum):
    """Of an epoch as the session counts them. What ends it comes in several hooks."""

    BATCHES = "its batches are trained"
    VALIDATION = "its last batch is over, and its validation comes next"
    METRICS = "it has been concluded; the model may still log metrics for it"


class ReaderPhase(Enum):
    """Of what a reader knows of the model."""

    WAITING = "the layers are not known: the next batch is to be traced"
    TRACING = "a batch is traced"
    READING = "the layers are known"
    CLOSED = "the model is let go"

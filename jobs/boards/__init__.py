"""Boards: where conductors find due jobs before they claim them in the ledger, which alone is the truth."""

from ebbtide.jobs.boards.board import Board, Notice, Pinned
from ebbtide.jobs.boards.outbox import Outbox
from ebbtide.jobs.boards.registry import BOARDS, MEANWHILE, open_boards, open_postings

__all__ = ["BOARDS", "MEANWHILE", "Board", "Notice", "Outbox", "Pinned", "open_boards", "open_postings"]

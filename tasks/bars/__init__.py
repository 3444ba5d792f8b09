"""Ready-made tasks that collect daily bars of stocks into SQL tables."""

from ebbtide.tasks.bars.collect import CollectBars
from ebbtide.tasks.bars.database import Database
from ebbtide.tasks.bars.errors import BarsError, BarsUnreadable, CollectionFailed, DatabaseUnusable
from ebbtide.tasks.bars.prepare import PrepareTables

__all__ = [
    "BarsError",
    "BarsUnreadable",
    "CollectBars",
    "CollectionFailed",
    "Database",
    "DatabaseUnusable",
    "PrepareTables",
]

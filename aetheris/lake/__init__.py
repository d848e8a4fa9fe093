"""The open lake: Parquet in Iceberg tables, and `lake.json` over them. Knows no database but the catalog."""

from aetheris.lake.catalog import Doubtful, Overtaken, Unreached
from aetheris.lake.index import Index, LakeFile
from aetheris.lake.lake import Lake, Published, Stale
from aetheris.lake.local_writer import write_lake
from aetheris.lake.opened import OpenedLake, OpenedTable, open_lake
from aetheris.lake.schema import TABLES, TableShape
from aetheris.lake.tables import Head
from aetheris.lake.watermark import Watermark

__all__ = [
    "Doubtful",
    "Head",
    "Index",
    "Lake",
    "LakeFile",
    "OpenedLake",
    "OpenedTable",
    "Overtaken",
    "Published",
    "Stale",
    "TABLES",
    "TableShape",
    "Unreached",
    "Watermark",
    "open_lake",
    "write_lake",
]

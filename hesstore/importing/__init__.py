"""Make a store from exported files, or analyse checkpoints. May import ``engine``, ``exporting`` and below."""

from hesstore.importing.differences import Difference
from hesstore.importing.importer import ImportSummary, import_files

__all__ = ["Difference", "ImportSummary", "import_files"]

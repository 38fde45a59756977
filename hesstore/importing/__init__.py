"""From files, of hesstore or of the field's scripts, and from checkpoints, to a store."""

from hesstore.importing.differences import Difference
from hesstore.importing.importer import ImportSummary, import_files

__all__ = ["Difference", "ImportSummary", "import_files"]

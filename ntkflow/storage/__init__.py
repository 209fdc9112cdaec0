"""Files that a killed process cannot spoil.

Everything is written beside its target under a temporary name, forced to the disk, and
renamed over the target in one step. So a reader, in any process, at any moment, finds
the old content or the new, never half of one. `Store` keeps named parts of arrays in
that way; `write_directory` and `write_text` publish whatever else a run leaves behind.
"""

from ._claim import claim as claim
from ._corrupt import CorruptPartError as CorruptPartError
from ._declared import check_arrays as check_arrays, check_growth as check_growth
from ._fingerprint import fingerprint as fingerprint, printed as printed
from ._full_disk import DiskFullError as DiskFullError
from ._program import program as program
from ._publish import (
    find_directory as find_directory,
    write_directory as write_directory,
    write_file as write_file,
    write_new_text as write_new_text,
    write_text as write_text,
)
from ._store import Store as Store
from ._tree import (
    flatten_arrays as flatten_arrays,
    restore_arrays as restore_arrays,
)

"""What the server that measurements are forked from imports, and nobody else: it ends with the benchmark.

Left to itself it would outlive one that is killed: its children keep its end of the pipe open that it watches.
"""

import benchmarks.mesh_client
import benchmarks.proxy  # noqa: F401  # imported here, so that no child has to
from benchmarks.processes import die_with_parent

die_with_parent()

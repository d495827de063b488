"""A `kws` command in this process, which spares each of them the seconds in which torch is imported."""

import contextlib
import io
import subprocess
import sys
from unittest import mock

from kws import cli


def kws(*arguments):
    """Status, standard output and standard error of `kws ARGUMENTS`, as `subprocess.run` gives them."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["kws"]),  # Hydra gets its arguments there
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = cli.main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

"""A `kws` command in this process, which spares each of them the seconds in which torch is imported."""

import contextlib
import io
import runpy
import subprocess
import sys
from unittest import mock

from kws import cli


def kws(*arguments):
    """Status, standard output and standard error of `kws ARGUMENTS`, as `subprocess.run` gives them."""
    return call(lambda: cli.main([*map(str, arguments)]), "kws")


def script(path, *arguments):
    """The same of `python PATH ARGUMENTS`."""
    return call(lambda: runpy.run_path(str(path), run_name="__main__") and 0, str(path), *arguments)


def call(function, *argv):
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [*argv]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = function()
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())

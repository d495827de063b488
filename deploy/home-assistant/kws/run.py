"""The add-on's start: its options become those of `kws serve`, and Home Assistant is told where it listens."""

import json
import os
import sys
import urllib.request
from pathlib import Path

OPTIONS = Path("/data/options.json")
PORT = 10400


def command(options):
    """The arguments of `kws serve` for the add-on's options; a folder without models gives way to the shipped ones."""
    arguments = ["kws", "serve", "--uri", f"tcp://0.0.0.0:{PORT}"]
    models = Path(options.get("models") or "/share/kws")
    models.mkdir(parents=True, exist_ok=True)
    if any(models.glob("*.onnx")) or any(models.glob("*/model.onnx")):
        arguments += ["--models", str(models)]
    else:
        print(f"{models} holds no model: the words that come with kws are served until the add-on is started again")
    if options.get("save"):
        arguments += ["--save", options["save"]]
    if options.get("fa_per_hour"):
        arguments += ["--fa-per-hour", str(options["fa_per_hour"])]
    return arguments


def announce():
    """Tell the Supervisor of the service: Home Assistant then offers it as a discovered Wyoming integration."""
    token = os.environ.get("SUPERVISOR_TOKEN")
    if not token:
        return
    uri = f"tcp://{os.uname().nodename}:{PORT}"
    body = json.dumps({"service": "wyoming", "config": {"uri": uri}}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        urllib.request.urlopen(urllib.request.Request("http://supervisor/discovery", body, headers), timeout=10)
    except OSError as error:
        print(f"Home Assistant was not told ({error}); add the Wyoming integration by hand, {uri}", file=sys.stderr)


if __name__ == "__main__":
    announce()
    arguments = command(json.loads(OPTIONS.read_text()) if OPTIONS.is_file() else {})
    os.execvp(arguments[0], arguments)

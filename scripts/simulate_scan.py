"""Simulate `kws scan` on clusters too large to have at hand: discrete events with measured rates, and what comes first.

    python scripts/simulate_scan.py --hours 87000 --nodes 10 100 1000

One driver lists the files, hands out parts one by one, and writes the rows of each; `--cores` processes of every node
scan parts as they get them, and share the bandwidth of their node. Times of the driver and rates are measured ones
(docs/cluster.md); the latency of a bucket's listing is an assumption.
"""

from __future__ import annotations

import argparse
import heapq
import random


def simulate(nodes: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the stages of one scan, and the shares of it in which the driver and the cores were busy."""
    rng = random.Random(0)
    n_parts = max(round(options.hours * 3600 / options.part_seconds), 1)
    workers = min(nodes * options.cores, n_parts)
    # A part's bytes come through its node's network, which all of its cores share when they are busy.
    reading = options.part_megabytes * options.cores / options.node_megabytes
    scanning = options.part_seconds / options.rate
    listing = options.files / options.listed
    driver_free = driver_busy = 0.0
    events: list[tuple[float, int, str]] = [(0.0, worker, "asks") for worker in range(workers)]
    given = kept = 0
    worked = end = 0.0
    while events:
        now, worker, what = heapq.heappop(events)
        if what == "asks" and given == n_parts:
            continue
        cost = options.dispatch if what == "asks" else options.write
        driver_free = max(driver_free, now) + cost
        driver_busy += cost
        if what == "asks":
            given += 1
            seconds = max(reading, scanning) * rng.uniform(0.8, 1.2)
            worked += seconds
            heapq.heappush(events, (driver_free + seconds, worker, "answers"))
        else:
            kept += 1
            end = driver_free
            heapq.heappush(events, (driver_free, worker, "asks"))
    assert kept == n_parts
    return {
        "nodes": nodes,
        "parts": n_parts,
        "listing": listing,
        "scanning": end,
        "driver busy": driver_busy / end,
        "cores busy": worked / (nodes * options.cores * end),
        "network bound": float(reading > scanning),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000])
    add("--cores", type=int, default=16, help="of a node")
    add("--hours", type=float, default=87000, help="of audio")
    add("--files", type=float, default=1e6)
    add("--rate", type=float, default=1000, help="x real time that a core decodes and spots")
    add("--part-seconds", type=float, default=8000, help="audio in a part")
    add("--part-megabytes", type=float, default=256)
    add("--node-megabytes", type=float, default=1250, help="a second, from the bucket (10 Gbit/s)")
    add("--dispatch", type=float, default=0.0156, help="s of the driver for handing out a part")
    add("--write", type=float, default=0.0062, help="s of the driver for writing the rows of a part")
    add("--listed", type=float, default=10000, help="files a second that the bucket lists")
    options = parser.parse_args()
    print("nodes    parts  listing  scanning  driver busy  cores busy  network bound")
    for nodes in options.nodes:
        row = simulate(nodes, options)
        print(
            f"{row['nodes']:5.0f}  {row['parts']:7,.0f}  {row['listing']:5.0f} s  {row['scanning']:6.0f} s  "
            f"{row['driver busy']:11.0%}  {row['cores busy']:10.0%}  {'yes' if row['network bound'] else 'no':>13}"
        )


if __name__ == "__main__":
    main()

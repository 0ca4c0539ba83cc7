"""What Spark's own event log tells of a run."""

import json
from pathlib import Path
from typing import Any


def spark_told(folder: Path) -> dict[str, Any]:
    """Jobs, tasks, executor seconds and bytes of the logs in a folder; nothing where Spark didn't run."""
    jobs = tasks = 0
    total = dict.fromkeys(("Executor Run Time", "Memory Bytes Spilled", "Disk Bytes Spilled"), 0)
    shuffled = 0
    for log in folder.iterdir():
        with log.open() as lines:
            for line in lines:
                if '"SparkListenerJobStart"' in line:
                    jobs += 1
                if '"SparkListenerTaskEnd"' not in line:
                    continue
                found = json.loads(line).get("Task Metrics") or {}
                tasks += 1
                for name in total:
                    total[name] += found.get(name, 0)
                shuffled += (found.get("Shuffle Write Metrics") or {}).get("Shuffle Bytes Written", 0)
    if not jobs:
        return {}
    return {
        "Spark jobs": jobs,
        "Spark tasks": tasks,
        "executor s": round(total["Executor Run Time"] / 1000, 1),
        "spilled by Spark, memory MB": total["Memory Bytes Spilled"] // 1_000_000,
        "spilled by Spark, disk MB": total["Disk Bytes Spilled"] // 1_000_000,
        "shuffled MB": shuffled // 1_000_000,
    }

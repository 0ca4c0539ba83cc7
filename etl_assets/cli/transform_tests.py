"""`data-pipeline test`: the tests of the datasets' SQL."""

import json
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("test")(run_tests)


def run_tests(
    dataset: Annotated[str | None, typer.Argument(help="Only this dataset's tests.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run datasets/*/tests/*.yaml: given rows through SQL and contract, in memory; exit code 1 when one fails."""
    from etl_assets.project import load_project
    from etl_assets.transform_tests.cases import load_cases
    from etl_assets.transform_tests.run import CaseResult, run_cases
    from etl_resources.manifest_file import shown

    results: list[CaseResult] = []
    for result in run_cases(load_cases(load_project(), dataset)):
        results.append(result)
        if not as_json:
            where = "" if result.passed else f"  ({shown(result.case.path)})"
            print(f"{'passed' if result.passed else 'FAILED'}  {result.case.name}{where}")
            for line in (line for d in result.differences for line in d.lines()):
                print(f"        {line}")
    failed = sum(not r.passed for r in results)
    if as_json:
        tests = [
            {"test": r.case.name, "table": r.case.node.name, "file": shown(r.case.path), "passed": r.passed,
             "differences": [d.as_json() for d in r.differences]}
            for r in results
        ]  # fmt: skip
        print(json.dumps({"passed": len(results) - failed, "failed": failed, "tests": tests}, indent=2))
    else:
        print(f"{len(results) - failed} passed, {failed} failed")
    if failed:
        raise typer.Exit(1)

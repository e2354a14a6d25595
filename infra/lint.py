"""cfn-lint over a built stage: the template as it is built, and as AWS expands it.

    python -m infra.lint --stage prod

Run by `make package`, `make check-infra` and the test of the packaged sale. It changes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from infra.build import BUILD, ROOT
from infra.local.backend import PYTHON


def lint(folder: Path) -> str:
    """What is wrong with the templates of a built stage; empty when nothing is."""
    template, expanded = folder / "template.json", folder / "expanded.json"
    done = subprocess.run(
        [PYTHON, ROOT / "infra" / "expand.py", template, expanded], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"{template.name} cannot be expanded:\n{done.stdout}{done.stderr}"
    linter = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([linter, template, expanded], capture_output=True, text=True, check=False)
    return found.stdout + found.stderr or (f"cfn-lint ended with {found.returncode}" if found.returncode else "")


def main() -> int:
    parser = argparse.ArgumentParser(description="Lint what was built.")
    parser.add_argument("--stage", required=True)
    options = parser.parse_args()
    wrong = lint(BUILD / options.stage)
    print(wrong or f"the templates of stage {options.stage} are clean, expanded too")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Run a program of provision/setup: python run.py up|test|doctor [ARGUMENT…].

scripts/up, scripts/test, scripts/doctor and their .cmd files for Windows call this with a suitable
Python. It needs nothing but the standard library.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 (its own check)
    sys.exit("error: Python 3.11 or newer is needed, and this is " + sys.version.split()[0])

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from provision.setup.main import main  # noqa: E402 (after the checks above)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
